"""docs/errors.md, node/errors.py and web/problems.py name the same codes and statuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node.web.problems import STATUS
from tests.unit.web.test_edge import every_error

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "errors.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def test_every_code_has_one_row_with_its_status() -> None:
    assert sorted((code, int(status)) for code, status, *_ in ROWS) == sorted(STATUS.items())


def test_every_error_class_has_a_row() -> None:
    assert {kind.code for kind in every_error()} == {code for code, *_ in ROWS}


@pytest.mark.parametrize(("code", "_status", "cause", "remedy"), ROWS)
def test_every_row_says_cause_and_remedy(code: str, _status: str, cause: str, remedy: str) -> None:
    assert cause.endswith("."), code
    assert remedy.endswith("."), code
