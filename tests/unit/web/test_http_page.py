"""docs/http.md: every operation has a section, and every example answers as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from node.web.operations import OPERATIONS
from tests.unit.web.conftest import Served

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "http.md").read_text()
BLOCKS = re.findall(r"^```http\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
CHANGING = {"uptime_s", "version"}


def parts(block: str) -> tuple[str, dict[str, str], str]:
    """First line, headers, body."""
    head, _, body = block.partition("\n\n")
    first, *lines = head.splitlines()
    return first, dict(line.split(": ", 1) for line in lines), body.rstrip("\n")


def steady(body: str) -> object:
    value = json.loads(body)
    if isinstance(value, dict):
        return {name: member for name, member in value.items() if name not in CHANGING}
    return value


def test_every_operation_has_a_section_with_an_example() -> None:
    described = {f"{operation.method.upper()} {operation.path}" for operation in OPERATIONS}
    sections = re.split(r"^### `(.+)`$", PAGE, flags=re.MULTILINE)
    assert set(sections[1::2]) == described
    for name, text in zip(sections[1::2], sections[2::2], strict=True):
        assert "```http" in text, name


@pytest.mark.parametrize(("asked", "answered"), EXAMPLES, ids=[parts(asked)[0] for asked, _ in EXAMPLES])
async def test_example_answers_as_it_says(node: Served, asked: str, answered: str) -> None:
    line, headers, body = parts(asked)
    method, url = line.split(" ", 1)
    status, expected_headers, expected_body = parts(answered)
    if "multipart" in headers.get("Content-Type", ""):
        body = body.replace("\n", "\r\n") + "\r\n"
    async with node.client.request(
        method, url, headers=headers | {"X-Request-ID": "example"}, data=body.encode() or None
    ) as response:
        assert f"{response.status} {response.reason}" == status
        for name, value in expected_headers.items():
            assert response.headers[name] == value
        if expected_body:
            assert steady(await response.text()) == steady(expected_body)


def test_every_metric_is_described() -> None:
    from prometheus_client import CollectorRegistry

    from node.web.metrics import Metrics

    registry = CollectorRegistry()
    Metrics(registry)
    for family in registry.collect():
        assert family.name in PAGE
