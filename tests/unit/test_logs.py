"""Log lines, and what never stands in one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from node import logs
from tests.fakes.flows import LICENSEE, TOKEN
from tests.unit.web.conftest import Served, serve

__all__ = ["serve"]  # a fixture

SIGNATURE = "0x" + "ab" * 65
KEY = "s3cr3t-project-key"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where all logging goes for the time of a test."""
    root = logging.getLogger()
    before = (
        root.handlers[:],
        root.level,
        logging.logThreads,
        logging.logMultiprocessing,
        logging.logProcesses,
    )
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield io.StringIO()
    root.handlers[:], level, logging.logThreads, logging.logMultiprocessing, logging.logProcesses = before
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("production", [True, False])
async def test_no_secret_reaches_a_log(
    serve: Callable[..., Any], stream: io.StringIO, production: bool
) -> None:
    logs.configure(level="debug", production=production, stream=stream)
    node: Served = await serve()

    async def explode() -> None:
        raise RuntimeError(
            f"POST https://user:{KEY}@rpc.example/v2/{KEY}?apikey={KEY} Bearer {TOKEN} {SIGNATURE}"
        )

    node.fakes.infer.before = explode
    body = {"model_id": "resnet18", "input_data": {"format": "url", "content": f"https://x/?sig={KEY}"}}
    bearer = {"Authorization": f"Bearer {TOKEN}", "X-Secret": KEY}
    signed = {"Authorization": f"Lonja-EIP712 address=0x1,nonce={KEY},deadline=1,signature={SIGNATURE}"}
    for headers in (bearer, signed, {"Authorization": f"Basic {KEY}"}, {"X-Request-ID": f"a {KEY}"}):
        await node.client.post(f"/api/inference/execute?key={KEY}", json=body, headers=headers)
    await node.client.post("/api/auth/session", json={"message": KEY, "signature": SIGNATURE})
    await node.client.delete("/api/auth/session", headers=bearer)
    await node.client.get(f"/api/models?token={KEY}")
    await node.raw(f"GET /?{KEY} HTTP/1.1\r\nAuthorization: {KEY}\r\n\x00\r\n\r\n".encode())
    written = stream.getvalue()
    assert written.count("unexpected error") == 2
    for secret in (TOKEN, SIGNATURE[2:], KEY):
        assert secret not in written


async def test_one_line_for_each_request(serve: Callable[..., Any], stream: io.StringIO) -> None:
    logs.configure(level="info", production=True, stream=stream)
    node: Served = await serve()
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": "r1"}
    await node.client.get("/api/licenses/resnet18", headers=headers)
    await node.client.get("/nowhere?x=1")
    await node.client.get("/health/live")
    good, bad = lines(stream)
    assert (good["level"], good["logger"], good["message"]) == ("info", "node.web", "request")
    assert (good["method"], good["path"], good["status"]) == ("GET", "/api/licenses/resnet18", 200)
    assert (good["request_id"], good["client"], good["caller"]) == ("r1", "127.0.0.1", LICENSEE)
    assert good["ms"] > 0
    assert (bad["path"], bad["status"], bad["code"]) == ("/nowhere", 404, "route_not_found")
    assert good["time"].endswith("Z")
    assert "T" in good["time"]


async def test_a_path_cannot_forge_a_line(serve: Callable[..., Any], stream: io.StringIO) -> None:
    logs.configure(level="info", production=False, stream=stream)
    node: Served = await serve()
    await node.client.get("/a%0a12:00:00.000 INFO forged%1b[31m")
    written = stream.getvalue()
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written


def test_exceptions_stand_below_their_line(stream: io.StringIO) -> None:
    logs.configure(level="info", production=False, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("node.x").exception("failed", extra={"fields": {"model": "m"}})
    first, *rest = stream.getvalue().splitlines()
    assert "ERROR" in first
    assert first.endswith("node.x  failed  model=m")
    assert rest[-1] == "ValueError: broken"


def test_production_puts_the_exception_into_the_line(stream: io.StringIO) -> None:
    logs.configure(level="info", production=True, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("node.x").exception("failed")
    (line,) = lines(stream)
    assert line["exception"].endswith("ValueError: broken")


def test_the_level_holds(stream: io.StringIO) -> None:
    logs.configure(level="warning", production=True, stream=stream)
    logging.getLogger("node.x").info("quiet")
    logs.event(logging.getLogger("node.x"), logging.INFO, "quiet", {})
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("refused Bearer abc.def twice", "refused Bearer [hidden] twice"),
        ("https://user:pw@rpc.example:8545/v2/key?x=1 failed", "https://rpc.example:8545/…"),
        ("wss://rpc.example/key", "wss://rpc.example/…"),
        (
            "https://user:pw@rpc.example:8545, https://two.example?key",
            "https://rpc.example:8545, https://two.example/…",
        ),
        (f"signed {SIGNATURE}", "signed [signature hidden]"),
        (f"signature={SIGNATURE}", "hidden]"),
        ('{"token": "abc"}', "[hidden]"),
        ("password=hunter2", "[hidden]"),
    ],
)
def test_blots_out_credentials(text: str, expected: str) -> None:
    assert expected in logs.redact(text)
    for secret in ("abc", "pw@", "key?", "/key", "abab", "hunter2"):
        assert secret not in logs.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "token 7: no gateway had bafkreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55",
        "0x" + "ab" * 32,
        "model resnet18 loaded in 152 ms",
        "listening on http://127.0.0.1:3000, starting",
        "account " + LICENSEE,
    ],
)
def test_leaves_everything_else(text: str) -> None:
    assert logs.redact(text) == text


def test_an_exception_does_nothing_to_the_terminal(stream: io.StringIO) -> None:
    logs.configure(level="info", production=False, stream=stream)
    try:
        raise ValueError("label \x1b[2J\x9b31m")
    except ValueError:
        logging.getLogger("node.x").exception("failed")
    assert not {"\x1b", "\x9b"} & set(stream.getvalue())
    assert "ValueError: label ·[2J·31m" in stream.getvalue()


@pytest.mark.parametrize("production", [True, False])
def test_bytes_that_are_no_text_are_escaped(stream: io.StringIO, production: bool) -> None:
    logs.configure(level="info", production=production, stream=stream)
    logging.getLogger("node.x").info("model %s", "\udcff", extra={"fields": {"name": "\udcff"}})
    assert stream.getvalue().count("udcff") == 2
    stream.getvalue().encode()
