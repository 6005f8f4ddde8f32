"""A node's HTTP side on a real loopback port, with fake flows behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from node.settings import Settings
from node.web.keys import Limits, NodeState
from node.web.runner import make_runner
from node.web.server import make_application
from tests.fakes.flows import TOKEN, FakeFlows

AUTH = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Served:
    """A running node: `client` talks to it, `raw` sends it any bytes."""

    client: ClientSession
    port: int
    state: NodeState
    fakes: FakeFlows
    app: web.Application
    runner: web.AppRunner

    async def raw(self, *parts: bytes) -> bytes:
        """Send `parts` over one connection and return all that comes until the node closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def start(
    stack: AsyncExitStack, *, limits: Limits | None = None, ready: bool = True, **settings: Any
) -> Served:
    """A node that `stack` ends; keyword arguments are settings."""
    fakes, state = FakeFlows(), NodeState()
    state.flows = fakes.flows if ready else None
    app = make_application(
        settings=Settings(**settings), state=state, registry=CollectorRegistry(), limits=limits
    )
    runner = make_runner(app, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = await stack.enter_async_context(ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False))
    return Served(client, port, state, fakes, app, runner)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """A function that starts a node; keyword arguments are settings, or `limits` and `ready`."""
    async with AsyncExitStack() as stack:
        yield partial(start, stack)


@pytest.fixture
async def node(serve: Callable[..., Any]) -> Served:
    """A node that is ready, with default settings."""
    served: Served = await serve()
    return served
