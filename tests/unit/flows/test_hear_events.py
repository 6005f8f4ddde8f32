from __future__ import annotations

import asyncio

from node.chain.chain import LicenseChanged, ModelRegistered, ModelUpdated
from node.cid import Cid
from node.flows.hear_events import HearEvents
from node.models.catalogue import KnownModel
from node.types import TokenId
from tests.unit.flows.conftest import LICENSEE, OWNER, World


def registered(token: int) -> ModelRegistered:
    return ModelRegistered(
        token_id=TokenId(token), block_number=1, block_hash="0x1", log_index=token, publisher=OWNER,
        manifest_cid="",
    )  # fmt: skip


def updated(token: int) -> ModelUpdated:
    return ModelUpdated(
        token_id=TokenId(token), block_number=2, block_hash="0x2", log_index=token, revision=2,
        manifest_cid="",
    )  # fmt: skip


def becomes_known(world: World, model_id: str) -> asyncio.Event:
    """Set once the catalogue has a model of that id."""
    plain, known = world.catalogue.put, asyncio.Event()

    def put(model: KnownModel) -> None:
        plain(model)
        if model.entry.model_id == model_id:
            known.set()

    world.catalogue.put = put  # type: ignore[method-assign, assignment]
    return known


async def test_tokens_whose_manifests_never_come_do_not_hold_up_a_new_revision(world: World) -> None:
    world.publish(1, "served")
    await world.models.fill()
    plain, never = world.content.read, asyncio.Event()

    async def read(cid: Cid, *, limit: int) -> bytes:
        if cid in missing:
            await never.wait()
        return await plain(cid, limit=limit)

    missing = {world.publish(token, f"spam-{token}") for token in range(2, 40)}
    world.content.read = read  # type: ignore[method-assign]
    heard = HearEvents(world.models)
    for token in range(2, 40):
        await heard(registered(token))
    known = becomes_known(world, "served-better")
    world.publish(1, "served-better", revision=2)
    await heard(updated(1))
    await asyncio.wait_for(known.wait(), 5)
    await heard.close()


async def test_an_event_that_comes_while_its_token_is_read_is_not_lost(world: World) -> None:
    old = world.publish(1, "before")
    plain, asked, go = world.content.read, asyncio.Event(), asyncio.Event()

    async def read(cid: Cid, *, limit: int) -> bytes:
        if cid == old:
            asked.set()
            await go.wait()
        return await plain(cid, limit=limit)

    world.content.read = read  # type: ignore[method-assign]
    heard = HearEvents(world.models)
    await heard(registered(1))
    await asked.wait()
    known = becomes_known(world, "after")
    world.publish(1, "after", revision=2)
    await heard(updated(1))
    go.set()
    await asyncio.wait_for(known.wait(), 5)
    await heard.close()


async def test_events_of_licenses_read_no_token(world: World) -> None:
    heard = HearEvents(world.models)
    await heard(
        LicenseChanged(
            token_id=TokenId(1),
            block_number=1,
            block_hash="0x1",
            log_index=1,
            licensee=LICENSEE,
            expires_at=None,
        )
    )
    await heard.close()
    assert world.registry.calls == 0
