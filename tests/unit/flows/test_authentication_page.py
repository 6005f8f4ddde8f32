"""docs/authentication.md says what the code does: its bytes are right and its Python runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node.chain.sign_in_message import parse_sign_in
from node.chain.signatures import personal_message_digest, recover
from node.chain.typed_data import SignedRequest, body_hash, parse_authorization, request_digest, typed_data
from node.types import Address, ContractRef
from tests.fakes.chain import LICENSEE
from tests.fakes.chain_world import LICENSEE_KEY

PAGE = (Path(__file__).resolve().parents[3] / "docs/authentication.md").read_text(encoding="utf-8")
BODY = b'{"tokenId":"1"}'
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def worked(name: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in re.findall(rf"\| {name} \| `0x([0-9a-f]+)` \|", PAGE)]


CHALLENGE: dict[str, Any] = json.loads(blocks("json")[0])
TYPED: dict[str, Any] = json.loads(blocks("json")[1])
CONTRACT = ContractRef(CHALLENGE["chain_id"], Address(TYPED["domain"]["verifyingContract"]))
REQUEST = SignedRequest(
    "POST", "/api/models/load", body_hash(BODY), CHALLENGE["node"], CHALLENGE["nonce"], 1_800_000_060
)
MESSAGE = blocks("text")[0].removesuffix("\n")


@pytest.fixture(scope="module")
def python() -> dict[str, Any]:
    """What the page's Python defines."""
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    return names


def test_the_message_is_the_one_that_is_told(python: dict[str, Any]) -> None:
    assert f"{len(MESSAGE)} bytes" in PAGE
    assert parse_sign_in(MESSAGE).nonce == CHALLENGE["nonce"]
    request = python["session_request"](CHALLENGE, "0x" + LICENSEE_KEY.hex(), NOW)
    assert request["message"] == MESSAGE
    assert "0x" + LICENSEE_KEY.hex() in PAGE


def test_the_message_s_bytes_are_right(python: dict[str, Any]) -> None:
    (digest,) = worked("EIP-191 digest")
    signature = worked("signature")[0]
    assert personal_message_digest(MESSAGE) == digest
    assert recover(digest, signature) == LICENSEE
    request = python["session_request"](CHALLENGE, "0x" + LICENSEE_KEY.hex(), NOW)
    assert request["signature"] == "0x" + signature.hex()


def test_the_typed_data_is_the_node_s() -> None:
    ours = typed_data(CONTRACT, REQUEST)
    assert {k: v for k, v in ours["types"].items() if k == "Request"} == TYPED["types"]
    assert (ours["domain"], ours["primaryType"]) == (TYPED["domain"], TYPED["primaryType"])


def test_the_request_s_bytes_are_right(python: dict[str, Any]) -> None:
    assert worked("`bodyHash`") == [REQUEST.body_hash]
    assert worked("EIP-712 digest") == [request_digest(CONTRACT, REQUEST)]
    signature = worked("signature")[1]
    header = python["authorization"](
        CHALLENGE, CONTRACT.address, LICENSEE_KEY, "POST", REQUEST.path, BODY, REQUEST.deadline
    )
    read = parse_authorization(header)
    assert (read.address, read.nonce, read.deadline) == (LICENSEE, REQUEST.nonce, REQUEST.deadline)
    assert read.signature == signature
    assert recover(request_digest(CONTRACT, REQUEST), signature) == LICENSEE


def test_the_domain_separator_is_right() -> None:
    from eth_account.messages import encode_typed_data

    (separator,) = worked("domain separator")
    assert encode_typed_data(full_message=typed_data(CONTRACT, REQUEST)).header == separator


def test_the_hash_of_no_body_is_right() -> None:
    short = re.search(r"`0x([0-9a-f]{4})…([0-9a-f]{4})`", PAGE)
    assert short is not None
    empty = body_hash(b"").hex()
    assert empty.startswith(short[1])
    assert empty.endswith(short[2])
