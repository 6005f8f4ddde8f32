"""How many connections there may be, and what becomes of clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from node.settings import Settings
from node.web.crowd import LATE
from node.web.keys import Limits
from tests.eventually import eventually
from tests.fakes.flows import LABELS_CID
from tests.unit.web.conftest import Served, start

BLOCK = f"GET /ipfs/{LABELS_CID}?format=raw HTTP/1.1\r\nHost: x\r\n\r\n".encode()
CAR = f"GET /ipfs/{LABELS_CID}?format=car HTTP/1.1\r\nHost: x\r\n\r\n".encode()
LARGE = 16 * 2**20
"""More than a socket's buffers hold."""


def limits(**given: float) -> Limits:
    return Limits(**{"body_bytes": 10_000, "publish_bytes": 10_000, **given})  # type: ignore[arg-type]


async def connection(node: Served, *, taking: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose client has room for `taking` bytes only."""
    plain = socket.socket()
    if taking:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", node.port))
    return await asyncio.open_connection(sock=plain, limit=max(taking, 1024))


async def ask(node: Served, path: str) -> tuple[int, dict[str, str], Any]:
    """The answer on a new connection, read to its end."""
    answer = await node.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(body) if "json" in headers["Content-Type"] else body


async def opened(node: Served, count: int) -> None:
    """Wait until the node has so many connections."""

    async def reached() -> bool:
        assert node.runner.server is not None
        return len(node.runner.server.connections) == count

    await eventually(reached, within=10, every=0.01)


async def sipped(reader: asyncio.StreamReader) -> bytearray:
    """All that comes, read slowly."""
    got = bytearray()
    while chunk := await reader.read(2**18):
        got += chunk
        await asyncio.sleep(0.004)  # slowness is the point
    return got


@contextlib.asynccontextmanager
async def silent(node: Served, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections on which nothing is said."""
    pairs = [await connection(node) for _ in range(count)]
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.close()


async def test_above_the_limit_only_probes_are_served(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=limits(connections=2))
    async with silent(node, 2):
        await opened(node, 2)
        status, headers, problem = await ask(node, "/api/models")
        assert (status, problem["code"], headers["Retry-After"]) == (503, "overloaded", "1")
        assert headers["Connection"] == "close"
        for probe in ("/health", "/health/live", "/health/ready", "/metrics"):
            status, headers, _ = await ask(node, probe)
            assert (status, headers["Connection"]) == (200, "close")
    await opened(node, 0)
    async with node.client.get("/api/models") as response:
        assert response.status == 200


async def test_the_express_lane_is_closed_above_the_limit(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=limits(connections=1))
    async with silent(node, 1):
        await opened(node, 1)
        body = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}
        headers = {"Authorization": "Bearer licensee-session-token"}
        async with node.client.post("/api/inference/execute", json=body, headers=headers) as response:
            assert response.status == 503


async def test_a_probe_gets_through_a_flood(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=limits(connections=1))
    async with silent(node, 1 + LATE) as readers:
        await opened(node, 1 + LATE)
        status, _, _ = await ask(node, "/health/live")
        assert status == 200
        with contextlib.suppress(ConnectionResetError):
            assert await readers[1].read() == b"", "the oldest late one made room"
        await opened(node, LATE)


async def test_a_late_connection_that_says_nothing_is_closed_soon(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.web.connection.LATE_HEADERS_SECONDS", 0.05)
    node: Served = await serve(limits=limits(connections=1))
    async with silent(node, 2) as readers:
        assert b"408" in await asyncio.wait_for(readers[1].read(), 5)
        assert not readers[0].at_eof()


@pytest.mark.parametrize("asked", [BLOCK, CAR, BLOCK * 3])
async def test_a_client_that_does_not_read_is_cut_off(serve: Callable[..., Any], asked: bytes) -> None:
    node: Served = await serve(limits=limits(stall_seconds=0.2))
    node.fakes.serve_content.labels = bytes(LARGE)
    _, writer = await connection(node, taking=4096)
    writer.write(asked)
    await opened(node, 1)
    await opened(node, 0)
    assert node.state.running == 0
    writer.close()


async def test_a_client_that_reads_too_slowly_is_cut_off(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=limits(stall_seconds=0.2, body_seconds=0.6))
    node.fakes.serve_content.labels = bytes(LARGE)
    reader, writer = await connection(node, taking=4096)
    writer.write(BLOCK)

    async def sip() -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):  # noqa: ASYNC110 - slowness is the point
                await asyncio.sleep(0.005)

    sipping = asyncio.create_task(sip())
    await opened(node, 1)
    await opened(node, 0)
    sipping.cancel()
    writer.close()


@pytest.mark.parametrize("asked", [BLOCK, CAR])
async def test_a_client_that_reads_slowly_but_steadily_gets_all(
    serve: Callable[..., Any], asked: bytes
) -> None:
    node: Served = await serve(limits=limits(stall_seconds=0.3, keepalive_seconds=0.5))
    node.fakes.serve_content.labels = bytes(LARGE)
    reader, writer = await connection(node, taking=65536)
    writer.write(asked)
    assert len(await sipped(reader)) > LARGE
    writer.close()


async def test_an_idle_connection_with_unread_answers_is_not_kept(serve: Callable[..., Any]) -> None:
    """What is left may be too little for flow control to say anything."""
    node: Served = await serve(limits=limits(stall_seconds=0.2, keepalive_seconds=0.3))
    node.fakes.serve_content.labels = bytes(40_000)
    _, writer = await connection(node, taking=4096)
    writer.write(BLOCK * 200)
    await opened(node, 1)
    await opened(node, 0)
    writer.close()


@pytest.mark.parametrize("steady", [True, False])
def test_uvloop_tells_what_is_unsent(steady: bool) -> None:
    """The node runs on uvloop, whose transports count for themselves."""

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            node = await start(stack, limits=limits(stall_seconds=0.3, keepalive_seconds=0.5))
            node.fakes.serve_content.labels = bytes(LARGE)
            reader, writer = await connection(node, taking=65536)
            writer.write(BLOCK)
            await opened(node, 1)
            if steady:
                assert len(await sipped(reader)) > LARGE
            await opened(node, 0)
            writer.close()

    uvloop.run(scenario())


def test_a_low_limit_on_open_files_lowers_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    from node import app
    from node.errors import StartupError

    monkeypatch.setattr("node.runtime.linux.allow_open_files", lambda count: min(count, 500))
    assert app.within_file_limit(Settings(max_connections=10)).max_connections == 10
    assert app.within_file_limit(Settings(max_connections=10_000)).max_connections == 500 - app.OTHER_FILES
    monkeypatch.setattr("node.runtime.linux.allow_open_files", lambda _: 64)
    with pytest.raises(StartupError, match="open files is 64"):
        app.within_file_limit(Settings())
