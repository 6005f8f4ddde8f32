"""A whole world for end-to-end tests: on the embedded chain always, on a real anvil where there is one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lonja.devnet.accounts import funded_accounts
from lonja.devnet.chain import EmbeddedChain
from lonja.devnet.digits import DemoModel, build
from lonja.devnet.world import World, running_world
from tests.integration.stage import Stage

T = TypeVar("T")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DemoModel:
    """The model that `lonja demo` publishes."""
    return build(tmp_path_factory.mktemp("digits"))


@pytest.fixture(params=["embedded", pytest.param("anvil", marks=pytest.mark.service("anvil"))])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A running world."""
    anvil = request.getfixturevalue("services").path("anvil") if request.param == "anvil" else None
    async with running_world(tmp_path / "world", anvil=anvil) as running:
        yield running


@pytest.fixture(scope="session")
def chain() -> Iterator[str]:
    """An embedded chain for all stages, on an event loop of its own; its URL."""
    with EmbeddedInThread() as url:
        yield url


@pytest.fixture
async def stage(chain: str, tmp_path: Path) -> Stage:
    """A contract of one's own on the embedded chain."""
    return await Stage.on(chain, tmp_path)


class EmbeddedInThread:
    """The embedded chain where no test's event loop can hold it up, nor end with it."""

    def __enter__(self) -> str:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chain")
        self._thread.start()
        self._chain = EmbeddedChain(accounts=funded_accounts())
        return self._wait(self._chain.__aenter__()).url

    def __exit__(self, *_exc: object) -> None:
        self._wait(self._chain.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
