"""README's examples say what the code does: short as they are, nobody else runs them."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

from lonja.answers import Inference
from node.chain.sign_in_message import write_sign_in
from node.types import Address

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_javascript_example_writes_the_message_that_a_node_reads() -> None:
    lines = re.search(r"const message = \[(.*?)\]\.join", block("js"), re.DOTALL)
    assert lines is not None
    written = re.findall(r"`([^`]*)`|(wallet\.address)|\"([^\"]*)\"", lines[1])
    values = {
        "challenge.domains[0]": "dapp.example", "wallet.address": "0x" + "0" * 40, "challenge.uri": "http://n",
        "challenge.chain_id": "31337", "challenge.nonce": "abcdefgh",
        "new Date().toISOString()": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    filled = [
        values["wallet.address"]
        if address
        else re.sub(r"\$\{(.*?)\}", lambda found: values[found[1]], text + plain)
        for text, address, plain in written
    ]
    expected = write_sign_in(
        domain="dapp.example", address=Address(values["wallet.address"]), uri="http://n", chain_id=31337,
        nonce="abcdefgh", issued_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )  # fmt: skip
    assert "\n".join(filled) == expected


def test_the_python_example_reads_an_answer_as_it_is() -> None:
    loop = next(node for node in ast.walk(ast.parse(block("python"))) if isinstance(node, ast.For))
    answer = Inference(
        success=True, model_id="m", predictions=[{"class": "eagle", "confidence": 0.5, "class_id": 22}]
    )
    printed: list[str] = []
    code = compile(ast.Module([loop], []), "README.md", "exec")
    exec(code, {"answer": answer, "print": printed.append})
    assert printed == [" 50.0%  eagle"]
