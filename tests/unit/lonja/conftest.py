from __future__ import annotations

from collections.abc import AsyncIterator
from time import time

import pytest
from aiohttp.test_utils import TestServer

from lonja.client import AsyncClient
from lonja.transport import RetryPolicy
from tests.fakes.http_node import CONTRACT, HttpNode

KEY = "0x" + "2a" * 32
QUICK = RetryPolicy(attempts=3, first_pause=0.001, longest_pause=0.002, budget=5)


@pytest.fixture
def fake() -> HttpNode:
    return HttpNode(clock=time)


@pytest.fixture
async def url(fake: HttpNode) -> AsyncIterator[str]:
    async with TestServer(fake.application()) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url, key=KEY, contract=CONTRACT, retry=QUICK) as made:
        yield made
