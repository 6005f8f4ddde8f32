from __future__ import annotations

import random
from pathlib import Path

import pytest

from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.importer import Profile
from node.ipfs.store import BlockStore
from tests.fakes.gateway import FakeGateway

LIMIT = 2**30


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("size", [0, 1, 2**18, 2**20, 2**20 + 1, 3 * 2**20 + 17])
async def test_a_file_arrives_whole(tmp_path: Path, profile: Profile, size: int) -> None:
    content = random.Random(size).randbytes(size)
    source = BlockStore(tmp_path / "a", max_bytes=LIMIT)
    (tmp_path / "f").write_bytes(content)
    root = (await source.import_path(tmp_path / "f", profile=profile)).root
    gateway = await FakeGateway(source).start()
    store = BlockStore(tmp_path / "b", max_bytes=LIMIT)
    retriever = Retriever(store, Gateways([gateway.url]), stall_timeout=5, max_object_bytes=LIMIT)
    async with retriever.hold(root, limit=LIMIT) as path:
        assert path.read_bytes() == content
    assert await retriever.read(root, limit=LIMIT) == content
    assert len(gateway.asked) == 1
    assert (await store.verify()).corrupt == []
    await retriever.close()
    await gateway.close()
