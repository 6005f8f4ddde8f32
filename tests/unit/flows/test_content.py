from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

from node.cid import RAW, Cid
from node.errors import AuthenticationRequired, ContentNotFound, InputTooLarge, LicenseMissing, NotPermitted
from node.flows.publish import Publish
from node.flows.serve_content import ServeContent
from node.types import Address, TokenId
from tests.unit.flows.conftest import LICENSEE, OWNER, STRANGER, World, caller

LEAF = Cid.of(b"a leaf of the weights", codec=RAW)


@dataclass
class FakeStore:
    roots: dict[Cid, list[Cid]] = field(default_factory=dict)
    imported: list[bytes] = field(default_factory=list)

    def roots_of(self, cid: Cid) -> list[Cid]:
        return self.roots.get(cid, [])

    async def block(self, cid: Cid) -> bytes:
        return b"block"

    def car(self, cid: Cid, *, scope: Literal["block", "entity", "all"], start: int) -> AsyncIterator[bytes]:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"car"

        return chunks()

    async def import_car(self, chunks: AsyncIterator[bytes], *, limit: int) -> list[Cid]:
        self.imported = [chunk async for chunk in chunks]
        return [LEAF]


@pytest.fixture
async def serve(world: World) -> ServeContent:
    world.publish(1, "sold")
    await world.models.fill()
    entry = world.catalogue.resolve("sold")
    store = FakeStore(
        {
            entry.manifest_cid: [entry.manifest_cid],
            entry.weights_cid: [entry.weights_cid],
            LEAF: [entry.weights_cid],
        }
    )
    return ServeContent(
        store=store,  # type: ignore[arg-type]
        catalogue=world.catalogue,
        licenses=world.licenses,  # type: ignore[arg-type]
        peers=frozenset({"0x" + "0e" * 20}),
        operators=frozenset(),
    )


async def test_a_manifest_is_for_everyone(world: World, serve: ServeContent) -> None:
    assert await serve.block(None, world.catalogue.resolve("sold").manifest_cid) == b"block"


@pytest.mark.parametrize("which", ["root", "leaf"])
async def test_weights_are_for_licensees(world: World, serve: ServeContent, which: str) -> None:
    cid = LEAF if which == "leaf" else world.catalogue.resolve("sold").weights_cid
    with pytest.raises(AuthenticationRequired):
        await serve.block(None, cid)
    with pytest.raises(LicenseMissing):
        await serve.block(caller(STRANGER), cid)
    world.licenses.holders.add((LICENSEE, 1))
    assert [chunk async for chunk in await serve.car(caller(LICENSEE), cid, "entity")] == [b"car"]


async def test_a_listed_peer_may_fetch_weights(world: World, serve: ServeContent) -> None:
    peer = Address("0x" + "0E" * 20)
    assert await serve.block(caller(peer), world.catalogue.resolve("sold").weights_cid) == b"block"


async def test_a_copy_of_the_token_opens_nothing(world: World, serve: ServeContent) -> None:
    weights = world.catalogue.resolve("sold").weights_cid
    cid = world.publish(
        2,
        "copy",
        weights={"cid": str(weights), "bytes": 10, "sha256": "0" * 64, "encoding": "plain"},
    )
    world.registry.put(2, cid, owner=STRANGER)
    await world.models.refresh(TokenId(2))
    world.licenses.holders.add((STRANGER, 2))
    with pytest.raises(LicenseMissing):
        await serve.block(caller(STRANGER), weights)


async def test_a_second_token_of_the_same_owner_opens_its_weights(world: World, serve: ServeContent) -> None:
    weights = world.catalogue.resolve("sold").weights_cid
    world.publish(
        2,
        "cheaper",
        weights={"cid": str(weights), "bytes": 10, "sha256": "0" * 64, "encoding": "plain"},
    )
    await world.models.refresh(TokenId(2))
    world.licenses.holders.add((LICENSEE, 2))
    assert await serve.block(caller(LICENSEE), weights) == b"block"


async def test_a_gateway_probe_is_answered(serve: ServeContent) -> None:
    assert await serve.block(None, Cid.parse("bafkqaaa")) == b"block"


async def test_what_is_not_stored_is_not_found(serve: ServeContent) -> None:
    with pytest.raises(ContentNotFound):
        await serve.block(None, Cid.of(b"nowhere", codec=RAW))


async def chunks() -> AsyncIterator[bytes]:
    yield b"one"


async def test_only_listed_publishers_may_upload() -> None:
    store = FakeStore()
    publish = Publish(
        store=store,  # type: ignore[arg-type]
        publishers=frozenset({OWNER.lower()}),
        anyone=False,
        limit=100,
    )
    with pytest.raises(NotPermitted, match="PUBLISHERS"):
        await publish(caller(STRANGER), chunks(), size=3)
    assert store.imported == []
    assert await publish(caller(OWNER), chunks(), size=3) == [LEAF]
    with pytest.raises(InputTooLarge, match="at most 100"):
        await publish(caller(OWNER), chunks(), size=101)
