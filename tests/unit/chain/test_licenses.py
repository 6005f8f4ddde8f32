"""The license check: what is remembered, for how long, and what is never answered from memory."""

from __future__ import annotations

import asyncio

import pytest

from node.chain.licenses import Licenses
from node.chain.transactions import OfferTerms
from node.errors import ChainUnavailable, LicenseExpired, LicenseMissing
from node.settings import Settings
from node.types import PERPETUAL, Address, TokenId
from tests.fakes.chain import LICENSEE, PUBLISHER, STRANGER, FakeChain

T0 = 1_800_000_000


class Clocks:
    """Node's clocks, which tests move: together as time passes, or the wall clock alone."""

    def __init__(self) -> None:
        self.wall, self.monotonic = float(T0), 1000.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class Case:
    def __init__(self, **settings: object) -> None:
        self.clocks = Clocks()
        self.chain = FakeChain(time=T0)
        self.licenses = Licenses(
            self.chain,
            Settings(**{"license_confirmations": 0, **settings}),
            wall=lambda: self.clocks.wall,
            monotonic=lambda: self.clocks.monotonic,
        )

    @property
    def asked(self) -> int:
        return self.chain.calls["license_of"]


@pytest.fixture
async def case() -> Case:
    return await make()


async def make(**settings: object) -> Case:
    case = Case(**settings)
    await case.chain.register_model("bafkqaaa", [OfferTerms(price=1, duration=100)])
    return case


TOKEN = TokenId(1)


async def test_a_yes_is_remembered_for_30_seconds_and_no_longer(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.clocks.passes(24.9)
    await case.licenses.require(LICENSEE, TOKEN)
    assert case.asked == 1

    case.clocks.passes(5.1)
    await case.licenses.require(LICENSEE, TOKEN)
    assert case.asked == 2


async def renewed() -> None:
    """Wait until no question is under way."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)


async def test_a_yes_in_use_is_renewed_before_its_time_is_over(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.clocks.passes(26)
    for _ in range(100):
        assert case.licenses.cached(LICENSEE, TOKEN) is not None
    await renewed()
    assert case.asked == 2

    case.clocks.passes(20)
    assert case.licenses.cached(LICENSEE, TOKEN) is not None, "20 s old, not 46"
    assert case.asked == 2
    case.clocks.passes(10)
    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_a_renewal_that_fails_changes_nothing_and_is_not_repeated(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.chain.down = True
    case.clocks.passes(26)
    for _ in range(3):
        assert case.licenses.cached(LICENSEE, TOKEN) is not None
        await renewed()
    assert case.asked == 2

    case.clocks.passes(4)
    assert case.licenses.cached(LICENSEE, TOKEN) is None
    with pytest.raises(ChainUnavailable):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_a_yes_past_its_time_is_not_used_while_its_renewal_goes_on(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.chain.gate = asyncio.Event()
    case.clocks.passes(26)
    assert case.licenses.cached(LICENSEE, TOKEN) is not None
    await case.chain.waiting.wait()
    case.clocks.passes(4)
    assert case.licenses.cached(LICENSEE, TOKEN) is None

    waiting = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    await asyncio.sleep(0)
    case.chain.gate.set()
    await waiting
    assert case.asked == 2, "who comes after joins the question that is under way"


async def test_a_renewal_that_finds_the_license_revoked_ends_it(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    await case.chain.revoke(TOKEN, LICENSEE)
    case.clocks.passes(26)
    assert case.licenses.cached(LICENSEE, TOKEN) is not None
    await renewed()
    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_a_renewal_that_an_event_overtakes_is_not_remembered(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.chain.gate = asyncio.Event()
    case.clocks.passes(26)
    case.licenses.cached(LICENSEE, TOKEN)
    await case.chain.waiting.wait()
    case.licenses.invalidate(token_id=TOKEN, licensee=LICENSEE)
    case.chain.gate.set()
    await renewed()
    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_a_yes_is_not_remembered_past_its_license_s_end(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=10)
    case.clocks.wall = float(await case.chain.time())
    await case.licenses.require(LICENSEE, TOKEN)
    case.clocks.passes(10)

    assert case.licenses.cached(LICENSEE, TOKEN) is None
    await case.chain.advance(10)
    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_a_no_is_remembered_for_3_seconds(case: Case) -> None:
    for _ in range(2):
        with pytest.raises(LicenseMissing):
            await case.licenses.require(LICENSEE, TOKEN)
    assert case.asked == 1

    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.clocks.passes(3)
    await case.licenses.require(LICENSEE, TOKEN)


async def test_ten_thousand_concurrent_first_checks_ask_once(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)

    found = await asyncio.gather(*(case.licenses.require(LICENSEE, TOKEN) for _ in range(10_000)))

    assert case.asked == 1
    assert {license_.expires_at for license_ in found} == {PERPETUAL}


async def test_concurrent_checks_that_fail_ask_once_and_each_gets_its_own_error(case: Case) -> None:
    case.chain.down = True

    errors = await asyncio.gather(
        *(case.licenses.require(LICENSEE, TOKEN) for _ in range(100)), return_exceptions=True
    )

    assert case.asked == 1
    assert all(isinstance(error, ChainUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 100


async def test_people_and_tokens_do_not_share_answers(case: Case) -> None:
    await case.chain.register_model("bafkqaaa", [])
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)

    with pytest.raises(LicenseMissing):
        await case.licenses.require(STRANGER, TOKEN)
    with pytest.raises(LicenseMissing):
        await case.licenses.require(LICENSEE, TokenId(2))


async def test_an_outage_is_neither_yes_nor_no_and_is_not_remembered(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.chain.down = True
    with pytest.raises(ChainUnavailable) as outage:
        await case.licenses.require(LICENSEE, TOKEN)
    assert outage.value.retry_after == 1.0

    case.chain.down = False
    await case.licenses.require(LICENSEE, TOKEN)


async def test_a_remembered_yes_serves_through_an_outage_only_until_its_time(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.chain.down = True
    case.clocks.passes(29)
    await case.licenses.require(LICENSEE, TOKEN)

    case.clocks.passes(1)
    with pytest.raises(ChainUnavailable):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_expired_and_missing_are_told_apart(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=10)
    await case.chain.advance(10)

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)
    with pytest.raises(LicenseMissing):
        await case.licenses.require(STRANGER, TOKEN)


async def test_an_idle_chain_s_standing_clock_does_not_keep_a_license_alive(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=100)
    end = await case.chain.time() + 100
    case.clocks.wall = end + 60.0  # no block was mined meanwhile

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_within_the_tolerance_the_chain_decides_and_is_asked_each_time(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=100)
    case.clocks.wall = await case.chain.time() + 100 + 59.9

    await case.licenses.require(LICENSEE, TOKEN)
    await case.licenses.require(LICENSEE, TOKEN)

    assert case.asked == 2


async def test_block_time_ends_a_license_before_a_slow_node_clock_does(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=100)
    await case.chain.advance(100)
    case.clocks.wall = float(T0)

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_setting_the_node_s_clock_forward_ends_a_remembered_yes(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=1000)
    await case.licenses.require(LICENSEE, TOKEN)
    case.clocks.wall += 2000  # the monotonic clock has not moved

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_setting_the_node_s_clock_back_does_not_prolong_a_remembered_yes(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    case.clocks.monotonic += 30
    case.clocks.wall -= 10_000

    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_time_spent_waiting_for_the_answer_counts(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.chain.gate = asyncio.Event()
    check = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    await case.chain.waiting.wait()
    case.clocks.passes(20)
    case.chain.gate.set()
    await check
    case.clocks.passes(10)

    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_an_event_ends_a_yes_and_a_no_at_once(case: Case) -> None:
    with pytest.raises(LicenseMissing):
        await case.licenses.require(LICENSEE, TOKEN)
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.licenses.invalidate(token_id=TOKEN, licensee=LICENSEE)
    await case.licenses.require(LICENSEE, TOKEN)

    await case.chain.revoke(TOKEN, LICENSEE)
    case.licenses.invalidate(token_id=TOKEN, licensee=LICENSEE)
    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


@pytest.mark.parametrize(
    ("meant", "left"),
    [
        ({"token_id": 1, "licensee": LICENSEE}, {(STRANGER, 1), (LICENSEE, 2), (STRANGER, 2)}),
        ({"token_id": 1}, {(LICENSEE, 2), (STRANGER, 2)}),
        ({"licensee": LICENSEE}, {(STRANGER, 1), (STRANGER, 2)}),
        ({}, set()),
    ],
)
async def test_an_invalidation_ends_what_it_names_and_nothing_else(
    case: Case, meant: dict[str, object], left: set[object]
) -> None:
    await case.chain.register_model("bafkqaaa", [])
    pairs = [(who, token) for who in (LICENSEE, STRANGER) for token in (1, 2)]
    for who, token in pairs:
        await case.chain.grant(TokenId(token), who, duration=0)
        await case.licenses.require(who, TokenId(token))

    case.licenses.invalidate(**meant)

    assert {p for p in pairs if case.licenses.cached(p[0], TokenId(p[1]))} == left


@pytest.mark.parametrize("meant", [{"token_id": TOKEN, "licensee": LICENSEE}, {"token_id": TOKEN}, {}])
async def test_an_answer_overtaken_by_an_event_is_neither_used_nor_remembered(
    case: Case, meant: dict[str, object]
) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.chain.gate = asyncio.Event()
    check = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    await case.chain.waiting.wait()  # the old yes has been read
    await case.chain.revoke(TOKEN, LICENSEE)
    case.licenses.invalidate(**meant)
    case.chain.gate.set()

    with pytest.raises(LicenseExpired):
        await check
    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_a_check_after_an_event_does_not_wait_for_the_overtaken_question(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    held = case.chain.gate = asyncio.Event()
    old = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    await case.chain.waiting.wait()
    await case.chain.revoke(TOKEN, LICENSEE)
    case.licenses.invalidate(token_id=TOKEN, licensee=LICENSEE)
    case.chain.gate = None

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)
    assert not held.is_set()
    held.set()
    with pytest.raises(LicenseExpired):
        await old


async def test_events_without_end_do_not_keep_a_check_from_answering(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    original = case.chain.license_of

    async def overtaken(*args: object, **kwargs: object) -> object:
        reading = await original(*args, **kwargs)  # type: ignore[arg-type]
        case.licenses.invalidate(token_id=TOKEN)
        return reading

    case.chain.license_of = overtaken  # type: ignore[method-assign,assignment]

    assert (await case.licenses.require(LICENSEE, TOKEN)).perpetual
    assert case.licenses.cached(LICENSEE, TOKEN) is None


async def test_the_first_asker_giving_up_does_not_take_the_others_along(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    case.chain.gate = asyncio.Event()
    first = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    second = asyncio.create_task(case.licenses.require(LICENSEE, TOKEN))
    await case.chain.waiting.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    case.chain.gate.set()

    assert (await second).perpetual
    assert case.asked == 1


async def test_a_remembered_answer_does_not_suspend(case: Case) -> None:
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    check = case.licenses.require(LICENSEE, TOKEN)

    with pytest.raises(StopIteration) as done:
        check.send(None)

    assert done.value.value.perpetual


async def test_a_grant_waits_for_its_confirmations_and_says_so() -> None:
    case = await make(license_confirmations=1)
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    with pytest.raises(LicenseMissing) as waiting:
        await case.licenses.require(LICENSEE, TOKEN)
    assert waiting.value.retry_after == 1.0
    assert "1 block" in waiting.value.message

    await case.chain.mine()
    case.clocks.passes(1)
    await case.licenses.require(LICENSEE, TOKEN)


async def test_a_denial_needs_no_confirmation() -> None:
    case = await make(license_confirmations=3)
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.chain.mine(3)
    await case.chain.revoke(TOKEN, LICENSEE)

    with pytest.raises(LicenseExpired):
        await case.licenses.require(LICENSEE, TOKEN)


async def test_the_owner_holds_no_license_of_their_own_model(case: Case) -> None:
    with pytest.raises(LicenseMissing):
        await case.licenses.require(PUBLISHER, TOKEN)


async def test_a_token_s_events_cost_the_same_however_many_licensees_it_has(case: Case) -> None:
    for number in range(500):
        await case.chain.grant(TOKEN, Address(f"0x{number:040x}"), duration=0)
        await case.licenses.require(Address(f"0x{number:040x}"), TOKEN)
    remembered = len(case.licenses._decisions)

    case.licenses.invalidate(token_id=TOKEN)

    assert len(case.licenses._decisions) == remembered  # nothing was walked through ...
    assert not any(
        case.licenses.cached(Address(f"0x{n:040x}"), TOKEN) for n in range(500)
    )  # ... all are over


async def test_events_of_countless_tokens_take_bounded_memory(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.chain.licenses.MAX_DECISIONS", 10)
    await case.chain.grant(TOKEN, LICENSEE, duration=0)
    await case.licenses.require(LICENSEE, TOKEN)
    for number in range(2, 100):
        case.licenses.invalidate(token_id=TokenId(number))

    assert len(case.licenses._last_event) <= 10
    await case.licenses.require(LICENSEE, TOKEN)
    assert case.licenses.cached(LICENSEE, TOKEN) is not None
