"""One set of tests for the fake chain, the embedded chain and anvil: what the fake says, they say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from lonja.devnet.accounts import funded_accounts
from lonja.devnet.chain import EmbeddedChain
from node.chain.chain import (
    LicenseChanged,
    ModelRegistered,
    ModelTransferred,
    ModelUpdated,
    OffersChanged,
    SalesSwitched,
)
from node.chain.events import EventFollower
from node.chain.licenses import Licenses
from node.chain.registry import Registry
from node.chain.transactions import OfferTerms, TransactionFailed
from node.errors import LicenseExpired, LicenseMissing, ModelNotFound
from node.settings import Settings
from node.types import PERPETUAL, TokenId
from tests.conftest import Services
from tests.fakes.anvil import anvil
from tests.fakes.chain import LICENSEE, PUBLISHER, STRANGER
from tests.fakes.chain_world import FakeWorld, World, real_world

CID_1, CID_2 = "bafkqaaa", "bafkqabdgnfxgc"
MONTH = 30 * 86_400
OFFERS = [OfferTerms(price=10**16, duration=MONTH), OfferTerms(price=10**18, duration=0)]


@pytest.fixture(scope="session")
def anvil_url(services: Services) -> Iterator[str]:
    with anvil(services.path("anvil")) as url:
        yield url


@pytest.fixture(params=["fake", "embedded", pytest.param("anvil", marks=pytest.mark.service("anvil"))])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
    elif request.param == "embedded":
        async with EmbeddedChain(accounts=funded_accounts(4)) as chain, real_world(chain.url) as found:
            yield found
    else:
        async with real_world(request.getfixturevalue("anvil_url")) as found:
            yield found


async def licenses_of(world: World, *, confirmations: int = 0) -> Licenses:
    """The check with a clock that agrees with the chain's, whatever tests did to that one."""
    now = float(await world.time())
    return Licenses(world.chain, Settings(license_confirmations=confirmations), wall=lambda: now)


async def test_a_model_is_read_as_it_was_registered(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)

    model = await Registry(world.chain).model(token_id)

    assert (model.token_id, model.owner, model.revision) == (token_id, PUBLISHER, 1)
    assert (model.manifest_cid, model.sales_paused) == (CID_1, False)
    assert model.block_number == await world.chain.block_number()


async def test_the_publisher_stays_who_registered_the_model(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.transfer(token_id, STRANGER)

    registry = Registry(world.chain)
    model = await registry.model(token_id)

    assert (model.owner, await registry.publisher(model)) == (STRANGER, PUBLISHER)
    with pytest.raises(ModelNotFound):
        await world.chain.publisher_of(TokenId(10**6), block_number=model.block_number)


async def test_an_unknown_token_is_no_model(world: World) -> None:
    registry = Registry(world.chain)
    with pytest.raises(ModelNotFound, match="77"):
        await registry.model(TokenId(77))
    with pytest.raises(ModelNotFound, match="77"):
        await registry.offers(TokenId(77))


async def test_a_new_revision_and_paused_sales_are_read(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.update_model(token_id, CID_2)
    await world.pause_sales(token_id)

    model = await Registry(world.chain).model(token_id)

    assert (model.revision, model.manifest_cid, model.sales_paused) == (2, CID_2, True)


async def test_all_models_come_by_rising_id(world: World) -> None:
    for _ in range(10):
        await world.register_model(CID_1, [])

    found = [model.token_id async for model in Registry(world.chain).models()]

    assert found == list(range(1, 11))


async def test_changed_offers_get_new_ids_and_the_old_ones_are_not_sold(world: World) -> None:
    registry = Registry(world.chain)
    token_id = await world.register_model(CID_1, OFFERS)
    old = await registry.offers(token_id)
    await world.set_offers(token_id, OFFERS[:1])
    new = await registry.offers(token_id)

    assert [(o.price, o.duration) for o in old] == [(10**16, MONTH), (10**18, 0)]
    assert len(new) == 1
    assert new[0].offer_id not in [o.offer_id for o in old]
    with pytest.raises(TransactionFailed) as refused:
        await world.purchase(token_id, old[0], licensee=LICENSEE)
    assert refused.value.reason == "Lonja_OfferUnknown"


async def test_nothing_is_sold_while_sales_are_paused(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    (offer, _) = await Registry(world.chain).offers(token_id)
    await world.pause_sales(token_id)

    with pytest.raises(TransactionFailed) as refused:
        await world.purchase(token_id, offer, licensee=LICENSEE)
    assert refused.value.reason == "Lonja_SalesPaused"


async def test_a_stranger_has_no_license(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    with pytest.raises(LicenseMissing):
        await (await licenses_of(world)).require(STRANGER, token_id)


async def test_a_bought_license_is_valid_for_its_time_and_for_nobody_else(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    (offer, _) = await Registry(world.chain).offers(token_id)
    await world.purchase(token_id, offer, licensee=LICENSEE)
    licenses = await licenses_of(world)

    license_ = await licenses.require(LICENSEE, token_id)

    assert license_.expires_at == await world.time() + MONTH
    with pytest.raises(LicenseMissing):
        await licenses.require(STRANGER, token_id)


async def test_a_gift_is_the_licensee_s_and_not_the_buyer_s(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    (_, offer) = await Registry(world.chain).offers(token_id)
    await world.purchase(token_id, offer, licensee=STRANGER)
    licenses = await licenses_of(world)

    assert (await licenses.require(STRANGER, token_id)).expires_at == PERPETUAL
    with pytest.raises(LicenseMissing):
        await licenses.require(LICENSEE, token_id)


async def test_a_license_extended_while_it_runs_gains_the_time(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.grant(token_id, LICENSEE, duration=1000)
    started = await world.time()
    await world.grant(token_id, LICENSEE, duration=500)

    license_ = await (await licenses_of(world)).require(LICENSEE, token_id)

    assert license_.expires_at == started + 1500


async def test_a_license_is_over_at_its_last_second_by_block_time(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.grant(token_id, LICENSEE, duration=1000)
    await world.advance(999)
    await (await licenses_of(world)).require(LICENSEE, token_id)
    await world.advance(1)

    with pytest.raises(LicenseExpired):
        await (await licenses_of(world)).require(LICENSEE, token_id)


async def test_a_revoked_license_is_over(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.grant(token_id, LICENSEE, duration=0)
    await world.revoke(token_id, LICENSEE)

    with pytest.raises(LicenseExpired):
        await (await licenses_of(world)).require(LICENSEE, token_id)


async def test_revoking_what_is_not_held_is_refused_by_name(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    with pytest.raises(TransactionFailed) as refused:
        await world.revoke(token_id, STRANGER)
    assert refused.value.reason == "Lonja_LicenseNotActive"


async def test_a_grant_counts_when_enough_blocks_stand_on_it_and_a_revocation_at_once(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.grant(token_id, LICENSEE, duration=0)
    await world.mine(1)
    with pytest.raises(LicenseMissing) as waiting:
        await (await licenses_of(world, confirmations=2)).require(LICENSEE, token_id)
    await world.mine(1)
    licenses = await licenses_of(world, confirmations=2)
    await world.chain.block_number()

    assert (await licenses.require(LICENSEE, token_id)).perpetual
    assert waiting.value.retry_after == 1.0
    await world.revoke(token_id, LICENSEE)
    with pytest.raises(LicenseExpired):
        await (await licenses_of(world, confirmations=2)).require(LICENSEE, token_id)


async def test_events_tell_what_happened_in_order(world: World) -> None:
    first = await world.chain.block_number() + 1
    token_id = await world.register_model(CID_1, OFFERS)
    (offer, _) = await Registry(world.chain).offers(token_id)
    await world.purchase(token_id, offer, licensee=LICENSEE)
    bought_until = await world.time() + MONTH
    await world.grant(token_id, STRANGER, duration=0)
    await world.revoke(token_id, STRANGER)
    await world.update_model(token_id, CID_2)
    await world.pause_sales(token_id)
    await world.transfer(token_id, STRANGER)

    events = await world.chain.events(first, await world.chain.block_number())

    assert {e.token_id for e in events} == {token_id}
    assert [e.block_number for e in events] == sorted(e.block_number for e in events)
    by_kind = {type(event): event for event in events}
    assert {ModelRegistered, OffersChanged} == {type(e) for e in events[:2]}
    _, _, bought, granted, revoked, updated, paused, moved = events
    assert by_kind[ModelRegistered].publisher == PUBLISHER
    assert by_kind[ModelRegistered].manifest_cid == CID_1
    assert by_kind[OffersChanged].offers[0] == offer
    assert isinstance(bought, LicenseChanged)
    assert (bought.licensee, bought.expires_at) == (LICENSEE, bought_until)
    assert isinstance(granted, LicenseChanged)
    assert (granted.licensee, granted.expires_at) == (STRANGER, PERPETUAL)
    assert isinstance(revoked, LicenseChanged)
    assert (revoked.licensee, revoked.expires_at) == (STRANGER, None)
    assert isinstance(updated, ModelUpdated)
    assert (updated.revision, updated.manifest_cid) == (2, CID_2)
    assert isinstance(paused, SalesSwitched)
    assert paused.paused
    assert isinstance(moved, ModelTransferred)
    assert (moved.previous_owner, moved.owner) == (PUBLISHER, STRANGER)


async def test_the_follower_ends_a_cached_yes_when_the_license_is_revoked(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    await world.grant(token_id, LICENSEE, duration=0)
    licenses = await licenses_of(world)
    follower = EventFollower(world.chain, licenses)
    follower.position = await world.chain.block_number()
    await licenses.require(LICENSEE, token_id)

    await world.revoke(token_id, LICENSEE)
    assert licenses.cached(LICENSEE, token_id) is not None
    await follower._poll()

    with pytest.raises(LicenseExpired):
        await licenses.require(LICENSEE, token_id)


async def test_a_reorganisation_takes_a_license_back(world: World) -> None:
    token_id = await world.register_model(CID_1, OFFERS)
    before = await world.snapshot()
    await world.grant(token_id, LICENSEE, duration=0)
    licenses = await licenses_of(world)
    follower = EventFollower(world.chain, licenses)
    follower.position = await world.chain.block_number()
    follower.caught_up.set()
    await follower._poll()
    await licenses.require(LICENSEE, token_id)
    await world.turn_back(before)
    await world.mine(1)
    told = follower._news.qsize()
    await follower._poll()
    news = [follower._news.get_nowait() for _ in range(follower._news.qsize())][told:]

    with pytest.raises(LicenseMissing):
        await licenses.require(LICENSEE, token_id)
    assert [(type(e), e.removed) for e in news if e] == [(LicenseChanged, True)]
