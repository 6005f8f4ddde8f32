from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.store import BlockStore
from tests.fakes.gateway import FakeGateway

LIMIT = 2**30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    """The store under test."""
    one = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    yield one
    one.close()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[BlockStore]:
    """A store that honest gateways serve."""
    one = BlockStore(tmp_path / "source", max_bytes=LIMIT)
    yield one
    one.close()


OpenGateway = Callable[..., Awaitable[FakeGateway]]
OpenRetriever = Callable[..., Retriever]


@pytest.fixture
async def open_gateway() -> AsyncIterator[OpenGateway]:
    """Starts gateways; they are closed at the end."""
    opened: list[FakeGateway] = []

    async def start(store: BlockStore | None = None, **how: object) -> FakeGateway:
        gateway = FakeGateway(store, **how)  # type: ignore[arg-type]
        opened.append(await gateway.start())
        return gateway

    yield start
    for gateway in opened:
        await gateway.close()


@pytest.fixture
async def open_retriever(store: BlockStore) -> AsyncIterator[OpenRetriever]:
    """Makes retrievers into `store` over the given gateways; they are closed at the end."""
    opened: list[Retriever] = []

    def make(
        *gateways: FakeGateway, stall_timeout: float = 5.0, patience: float = 0.5, first_pause: float = 0.01
    ) -> Retriever:
        ranked = Gateways([gateway.url for gateway in gateways], first_pause=first_pause)
        one = Retriever(store, ranked, stall_timeout=stall_timeout, max_object_bytes=LIMIT, patience=patience)
        opened.append(one)
        return one

    yield make
    for one in opened:
        await one.close()


def traces(store_folder: Path) -> list[str]:
    """What is in a store's folder beside its empty frame."""
    kept = {"items", "incomplete", "locks", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"}
    return sorted(
        str(path.relative_to(store_folder)) for path in store_folder.rglob("*") if path.name not in kept
    )
