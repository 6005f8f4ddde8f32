from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

from node.cid import DAG_PB, RAW, Cid
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

    def inside(self, root: Cid, cids: list[Cid]) -> list[Cid]:
        return [cid for cid in cids if root in self.roots.get(cid, [])]

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


def copy_of(weights: Cid) -> dict[str, object]:
    return {"weights": {"cid": str(weights), "bytes": 10, "sha256": "0" * 64, "encoding": "plain"}}


async def test_an_older_token_that_is_changed_into_a_copy_opens_nothing(
    world: World, serve: ServeContent
) -> None:
    cid = world.publish(3, "other")
    world.registry.put(3, cid, owner=STRANGER)
    world.publish(5, "prey")
    await world.models.fill()
    weights = world.catalogue.resolve("prey").weights_cid
    serve.store.roots[weights] = [weights]  # type: ignore[attr-defined]
    world.registry.put(3, world.publish(3, "copy", **copy_of(weights)), revision=2, owner=STRANGER)
    await world.models.changed(TokenId(3))
    world.licenses.holders.add((STRANGER, 3))
    with pytest.raises(LicenseMissing):
        await serve.block(caller(STRANGER), weights)


async def test_a_copy_does_not_inherit_the_weights_that_the_first_token_has_replaced(
    world: World, serve: ServeContent
) -> None:
    weights = world.catalogue.resolve("sold").weights_cid
    world.registry.put(2, world.publish(2, "copy", **copy_of(weights)), owner=STRANGER)
    await world.models.refresh(TokenId(2))
    world.publish(1, "sold-better", revision=2)
    await world.models.changed(TokenId(1))
    world.licenses.holders |= {(STRANGER, 2), (LICENSEE, 1)}
    with pytest.raises(LicenseMissing):
        await serve.block(caller(STRANGER), weights)
    assert await serve.block(caller(LICENSEE), weights) == b"block"


@pytest.mark.parametrize("named", ["weights", "labels"])
async def test_what_is_built_around_anothers_weights_opens_nothing(
    world: World, serve: ServeContent, named: str
) -> None:
    weights = world.catalogue.resolve("sold").weights_cid
    wrapper = Cid.of(b"a folder with the weights in it", codec=DAG_PB)
    serve.store.roots |= {weights: [weights, wrapper], LEAF: [weights, wrapper], wrapper: [wrapper]}  # type: ignore[attr-defined]
    changes = copy_of(wrapper) if named == "weights" else {"labels": {"cid": str(wrapper)}}
    world.registry.put(2, world.publish(2, "copy", **changes), owner=STRANGER)
    await world.models.refresh(TokenId(2))
    world.licenses.holders.add((STRANGER, 2))
    for cid in (wrapper, weights, LEAF):
        with pytest.raises(AuthenticationRequired):
            await serve.block(None, cid)
        with pytest.raises(LicenseMissing):
            await serve.block(caller(STRANGER), cid)


async def test_weights_are_the_same_under_both_versions_of_their_cid(
    world: World, serve: ServeContent
) -> None:
    old = Cid.of(b"weights in an old profile", codec=DAG_PB, version=0)
    new = Cid.of(b"weights in an old profile", codec=DAG_PB)
    serve.store.roots |= {old: [new], new: [new]}  # type: ignore[attr-defined]
    world.publish(5, "old", **copy_of(old))
    world.registry.put(6, world.publish(6, "thief", labels={"cid": str(new)}), owner=STRANGER)
    await world.models.fill()
    assert world.catalogue.referenced(new)
    with pytest.raises(AuthenticationRequired):
        await serve.block(None, new)
    world.licenses.holders.add((LICENSEE, 5))
    assert await serve.block(caller(LICENSEE), new) == b"block"


async def test_a_manifest_that_a_token_calls_its_weights_stays_public(
    world: World, serve: ServeContent
) -> None:
    manifest = world.catalogue.resolve("sold").manifest_cid
    world.publish(2, "nuisance", **copy_of(manifest))
    await world.models.refresh(TokenId(2))
    assert await serve.block(None, manifest) == b"block"


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
