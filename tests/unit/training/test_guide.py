"""docs/training.md works as it is written, and lists all that there is."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from training.config import Config, Data, Net, Output, Training, convert

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def test_the_examples_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
    assert sum(bool(expected) for _, expected in blocks) == 5
    names: dict[str, Any] = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/training.md", "exec"), names)
        assert printed.getvalue() == expected


def test_the_configuration_on_the_page_is_one_and_names_every_member() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    members = tomllib.loads(text)
    convert(members, name="the page")
    parts = {"data": Data, "network": Net, "training": Training, "output": Output}
    assert set(parts) == set(Config.__struct_fields__)
    for name, part in parts.items():
        missing = {field.name for field in msgspec.structs.fields(part)} - set(members[name])
        assert missing <= {"momentum"}, "momentum is named in a comment: adam has none"


def test_the_page_lists_every_rule() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "training/diagnosis").glob("*.py"))
    rules = set(re.findall(r'rule="([a-z-]+)"', sources))
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))
    assert listed == rules
    assert len(rules) == 12
