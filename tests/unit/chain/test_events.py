"""Following the contract: nothing missed, nothing told twice without need, no outage fatal."""

from __future__ import annotations

import asyncio
import logging

import pytest

from node.chain import events as module
from node.chain.chain import ChainEvent, LicenseChanged, ModelRegistered, ModelUpdated
from node.chain.events import EventFollower
from node.chain.licenses import Licenses
from node.errors import LicenseExpired
from node.settings import Settings
from node.types import TokenId
from tests.fakes.chain import LICENSEE, STRANGER, FakeChain

TOKEN = TokenId(1)


class Follow:
    """A follower whose pauses the test ends: `await step()` lets it poll once more."""

    def __init__(self, chain: FakeChain, **options: object) -> None:
        self.chain = chain
        self.now = 100.0
        self.licenses = Licenses(chain, Settings(license_confirmations=0), wall=lambda: 0.0)
        self.told: list[ChainEvent] = []
        self.pauses: list[float] = []
        self._paused = asyncio.Event()
        self._go = asyncio.Event()
        self.follower = EventFollower(
            chain,
            self.licenses,
            pause=self._pause,
            monotonic=lambda: self.now,
            **options,  # type: ignore[arg-type]
        )
        self.follower.subscribe(self._hear)

    async def __aenter__(self) -> Follow:
        self._task = asyncio.create_task(self.follower.run())
        await self._paused.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def step(self) -> None:
        self._paused.clear()
        self._go.set()
        await self._paused.wait()
        for _ in range(10):  # turns of the loop, in which the subscribers are told
            await asyncio.sleep(0)

    async def _hear(self, event: ChainEvent) -> None:
        self.told.append(event)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._paused.set()
        await self._go.wait()
        self._go.clear()

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


@pytest.fixture
async def chain() -> FakeChain:
    chain = FakeChain()
    await chain.register_model("bafkqaaa", [])
    return chain


async def test_the_past_is_told_in_order_and_in_bounded_ranges(chain: FakeChain) -> None:
    for _ in range(30):
        await chain.grant(TOKEN, LICENSEE, duration=10)
        await chain.mine()
    asked: list[int] = []
    original = chain.events

    async def counted(first: int, last: int) -> list[ChainEvent]:
        asked.append(last - first + 1)
        return await original(first, last)

    chain.events = counted  # type: ignore[method-assign]
    async with Follow(chain, range_blocks=7) as follow:
        await follow.follower.caught_up.wait()

        assert max(asked) <= 7
        assert follow.kinds() == ["ModelRegistered", "OffersChanged"] + ["LicenseChanged"] * 30
        numbers = [event.block_number for event in follow.told]
        assert numbers == sorted(numbers)


async def test_the_past_begins_at_the_contract_s_first_block(chain: FakeChain) -> None:
    await chain.mine(5)
    start = await chain.block_number() + 1
    await chain.register_model("bafkqaaa", [])
    async with Follow(chain, from_block=start) as follow:
        await follow.follower.caught_up.wait()
        assert {event.token_id for event in follow.told} == {2}


async def test_a_peer_that_wants_smaller_ranges_gets_them(chain: FakeChain) -> None:
    await chain.mine(40)
    chain.largest_range = 3
    async with Follow(chain, range_blocks=32) as follow:
        await follow.follower.caught_up.wait()
        assert follow.kinds() == ["ModelRegistered", "OffersChanged"]


async def test_new_events_are_told_once_although_blocks_are_read_again(chain: FakeChain) -> None:
    async with Follow(chain) as follow:
        await follow.follower.caught_up.wait()
        await follow.step()
        follow.told.clear()
        await chain.update_model(TOKEN, "bafkqabdg")
        for _ in range(4):
            await follow.step()
        assert follow.kinds() == ["ModelUpdated"]


@pytest.mark.parametrize(
    ("act", "ends"),
    [
        (lambda c: c.grant(TOKEN, LICENSEE, duration=1), {LICENSEE}),
        (lambda c: c.revoke(TOKEN, LICENSEE), {LICENSEE}),
        (lambda c: c.update_model(TOKEN, "bafkqabdg"), {LICENSEE, STRANGER}),
        (lambda c: c.transfer(TOKEN, STRANGER), {LICENSEE, STRANGER}),
        (lambda c: c.set_offers(TOKEN, []), set()),
    ],
)
async def test_each_event_ends_the_answers_it_concerns(
    chain: FakeChain, act: object, ends: set[object]
) -> None:
    for who in (LICENSEE, STRANGER):
        await chain.grant(TOKEN, who, duration=0)
    async with Follow(chain) as follow:
        await follow.step()
        follow.now += 60
        for who in (LICENSEE, STRANGER):
            await follow.licenses.require(who, TOKEN)
        await act(chain)  # type: ignore[operator]
        await follow.step()
        assert {w for w in (LICENSEE, STRANGER) if not follow.licenses.cached(w, TOKEN)} == ends


async def test_a_long_past_does_not_delay_a_revocation(chain: FakeChain) -> None:
    await chain.mine(100)
    gate = asyncio.Event()
    async with Follow(chain, range_blocks=10) as follow:
        await chain.grant(TOKEN, LICENSEE, duration=0)
        await follow.step()
        await follow.licenses.require(LICENSEE, TOKEN)

    follow = Follow(chain, range_blocks=10)

    async def slow(event: ChainEvent) -> None:
        await gate.wait()

    follow.follower.subscribe(slow)
    async with follow:
        follow.now += 60
        await follow.licenses.require(LICENSEE, TOKEN)
        await chain.revoke(TOKEN, LICENSEE)
        follow._paused.clear()
        follow._go.set()
        await follow._paused.wait()
        assert not follow.follower.caught_up.is_set()
        with pytest.raises(LicenseExpired):
            await follow.licenses.require(LICENSEE, TOKEN)


async def test_an_outage_is_survived_and_nothing_of_it_is_missed(chain: FakeChain) -> None:
    await chain.grant(TOKEN, LICENSEE, duration=0)
    async with Follow(chain) as follow:
        await follow.follower.caught_up.wait()
        await follow.step()
        follow.told.clear()
        chain.down = True
        await follow.step()
        await follow.step()
        assert follow.pauses[-2:] == [1.0, 2.0]
        await chain.revoke(TOKEN, LICENSEE)
        await chain.mine(300)
        chain.down = False
        await follow.step()
        assert follow.kinds() == ["LicenseChanged"]


async def test_a_node_that_starts_during_an_outage_follows_afterwards(chain: FakeChain) -> None:
    chain.down = True
    async with Follow(chain) as follow:
        await follow.step()
        chain.down = False
        await follow.step()
        await follow.follower.caught_up.wait()
        assert follow.kinds() == ["ModelRegistered", "OffersChanged"]


async def test_the_wait_between_tries_is_bounded(chain: FakeChain) -> None:
    async with Follow(chain) as follow:
        chain.down = True
        for _ in range(8):
            await follow.step()
        assert follow.pauses[-8:] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]


async def test_what_a_reorganisation_takes_back_is_told_as_removed(chain: FakeChain) -> None:
    await chain.mine(3)
    before = await chain.snapshot()
    async with Follow(chain) as follow:
        await follow.follower.caught_up.wait()
        await follow.step()
        follow.told.clear()
        await chain.grant(TOKEN, LICENSEE, duration=0)
        await follow.step()
        await follow.licenses.require(LICENSEE, TOKEN)
        await chain.turn_back(before)
        await chain.update_model(TOKEN, "bafkqabdg")
        await follow.step()

        granted, removed, updated = follow.told
        assert isinstance(granted, LicenseChanged)
        assert not granted.removed
        assert isinstance(removed, LicenseChanged)
        assert removed.removed
        assert isinstance(updated, ModelUpdated)
        assert follow.licenses.cached(LICENSEE, TOKEN) is None


async def test_a_chain_that_starts_anew_is_told_from_its_beginning(chain: FakeChain) -> None:
    await chain.mine(50)
    await chain.grant(TOKEN, LICENSEE, duration=0)
    async with Follow(chain) as follow:
        await follow.follower.caught_up.wait()
        await follow.licenses.require(LICENSEE, TOKEN)
        await follow.step()
        follow.told.clear()
        await chain.turn_back(1)
        await chain.register_model("bafkqabdg", [])
        await follow.step()
        await follow.follower.caught_up.wait()
        assert "ModelRegistered" in follow.kinds()
        assert follow.licenses.cached(LICENSEE, TOKEN) is None


async def test_an_event_invalidates_again_for_a_while_and_then_no_more(chain: FakeChain) -> None:
    async with Follow(chain) as follow:
        await chain.grant(TOKEN, LICENSEE, duration=0)
        await follow.step()
        await follow.licenses.require(LICENSEE, TOKEN)  # perhaps from a peer that lags
        follow.now += module.REPEAT_SECONDS - 1
        await follow.step()
        assert follow.licenses.cached(LICENSEE, TOKEN) is None
        await follow.licenses.require(LICENSEE, TOKEN)
        follow.now += 1
        await follow.step()
        assert follow.licenses.cached(LICENSEE, TOKEN) is not None


async def test_a_subscriber_that_fails_stops_nobody(
    chain: FakeChain, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[ChainEvent] = []

    async def fails(event: ChainEvent) -> None:
        raise RuntimeError("no")

    async def hears(event: ChainEvent) -> None:
        heard.append(event)

    follow = Follow(chain)
    follow.follower.subscribe(fails)
    follow.follower.subscribe(hears)
    async with follow:
        await follow.follower.caught_up.wait()
    assert isinstance(heard[0], ModelRegistered)
    assert {r.levelno for r in caplog.records if "subscriber" in r.message} == {logging.ERROR}


async def test_more_news_than_are_kept_are_read_from_the_chain_again(
    chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_NEWS", 5)
    gate = asyncio.Event()
    complete = asyncio.Condition()
    seen: list[tuple[int, str, int]] = []

    async def slow(event: ChainEvent) -> None:
        await gate.wait()
        async with complete:
            seen.append(event.place)
            complete.notify_all()

    follow = Follow(chain)
    gate.set()
    follow.follower.subscribe(slow)
    async with follow:
        await follow.follower.caught_up.wait()
        await follow.step()
        gate.clear()
        for _ in range(12):
            await chain.grant(TOKEN, LICENSEE, duration=1)
        follow._paused.clear()
        follow._go.set()
        await follow._paused.wait()
        gate.set()
        async with complete:
            await complete.wait_for(lambda: len(set(seen)) == 14)
        assert follow.follower._news.qsize() <= 5


async def test_silence_is_measured(chain: FakeChain) -> None:
    async with Follow(chain) as follow:
        assert follow.follower.silent_for == 0
        chain.down = True
        follow.now += 7
        await follow.step()
        assert follow.follower.silent_for == 7
