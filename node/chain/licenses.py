"""Who may use which model: the contract's answer, kept no longer than it may be believed.

Enters: licensee and token. Leaves: a `License` that is valid now, or `LicenseMissing`,
`LicenseExpired`, `ChainUnavailable`; never a yes or a no that the chain did not give.

A yes is kept for `license_ttl` (30 s) or until it expires, if that is sooner; a no for 3 s; an event
of the contract ends both at once. While events flow a revocation is honoured within one block and two
seconds, otherwise within `license_ttl`. A license is over when the newest block's time says so, or
when the node's own clock is past its end by more than `license_clock_tolerance`: the clock of a chain
without traffic stands still. A grant counts once `license_confirmations` blocks stand on it; a denial
counts at the newest block.

A yes that is asked for in the last sixth of its time is checked anew in the background, so that the callers
of a busy model do not all wait for the chain together. What that check does not find changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import msgspec
from cachetools import TLRUCache

from node.chain.chain import Chain, LicenseReading
from node.errors import ChainUnavailable, LicenseExpired, LicenseMissing, NodeError
from node.settings import Settings
from node.types import PERPETUAL, Address, ContractRef, License, TokenId

Key: TypeAlias = tuple[ContractRef, TokenId, Address]

FOREVER: Final = float("inf")
AHEAD: Final = 1 / 6
"""Part of its time, at its end, in which a yes is renewed."""
MAX_DECISIONS: Final = 100_000
MAX_REPEATS: Final = 3
"""Fetches that one check makes when every one is overtaken by an event of the contract."""


class Decision(msgspec.Struct, frozen=True):
    """A yes (`license`) or a no (`refusal`), and how long it may be used.

    `asked` counts the events that had come when the chain was asked.

    `until` is in seconds of the monotonic clock; `ends_at` is the Unix time at which a yes is over
    whatever the monotonic clock says, for when the node's clock is set forward; from `renew_from` on,
    a Unix time too, whoever uses it has it renewed.
    """

    until: float
    ends_at: float
    asked: int
    license: License | None = None
    refusal: str = ""
    expired: bool = False
    retry_after: float | None = None
    renew_from: float = FOREVER


class _Flight:
    """One question under way. `stale` says that an event has overtaken it."""

    __slots__ = ("asked", "stale", "task")

    def __init__(self, task: asyncio.Task[Decision | ChainUnavailable], *, asked: int) -> None:
        self.task = task
        self.asked = asked
        self.stale = False


class Licenses:
    """The license check, with its cache.

    Parameters
    ----------
    chain : what is asked.
    settings : `license_ttl`, `license_negative_ttl`, `license_clock_tolerance`, `license_confirmations`.
    wall, monotonic : clocks, in seconds.
    """

    def __init__(
        self,
        chain: Chain,
        settings: Settings,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._contract = chain.contract
        self._ttl = settings.license_ttl
        self._negative_ttl = settings.license_negative_ttl
        self._tolerance = settings.license_clock_tolerance
        self._confirmations = settings.license_confirmations
        self._wall = wall
        self._monotonic = monotonic
        self._decisions: TLRUCache[Key, Decision] = TLRUCache(
            MAX_DECISIONS, ttu=lambda _key, decision, _now: decision.until, timer=monotonic
        )
        self._flights: dict[Key, _Flight] = {}
        # Events are counted. One that concerns a whole token only notes its number, whatever the token's
        # licensees are: anybody can publish a model and update it all day.
        self._events = 0
        self._last_event: dict[TokenId, int] = {}
        self._last_event_of_all = 0

    async def require(self, licensee: Address, token_id: TokenId) -> License:
        """The valid license. A decision in the cache is answered without suspending.

        Raises
        ------
        LicenseMissing
            There never was one, or it is not yet confirmed (then with `retry_after`).
        LicenseExpired
            There was one; it ran out or was revoked.
        ChainUnavailable
            The chain could not be asked and nothing is remembered: neither yes nor no.
        """
        key = (self._contract, token_id, licensee)
        decision = self._remembered(key)
        if decision is None:
            decision = await self._fetched(key)
        if decision.license is None:
            raise self._refusal(decision, token_id)
        return decision.license

    def cached(self, licensee: Address, token_id: TokenId) -> License | None:
        """The license, if a yes is remembered; None tells nothing."""
        decision = self._remembered((self._contract, token_id, licensee))
        return decision.license if decision is not None else None

    def invalidate(self, *, token_id: TokenId | None = None, licensee: Address | None = None) -> None:
        """Forget what is known of the token, the licensee, or both; with neither given, everything.

        A question already under way is not remembered when its answer comes: it may be the old one.
        """

        self._events += 1
        if token_id is not None and licensee is not None:
            self._forget((self._contract, token_id, licensee))
        elif token_id is not None:
            if len(self._last_event) >= MAX_DECISIONS:
                self._last_event.clear()
                self._last_event_of_all = self._events
            self._last_event[token_id] = self._events
        elif licensee is not None:
            for key in [key for key in (*self._decisions, *self._flights) if key[2] == licensee]:
                self._forget(key)
        else:
            self._last_event_of_all = self._events

    def _forget(self, key: Key) -> None:
        self._decisions.pop(key, None)
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.stale = True

    def _remembered(self, key: Key) -> Decision | None:
        try:
            decision = self._decisions[key]  # `get` looks the key up twice
        except KeyError:
            return None
        now = self._wall()
        if now >= decision.ends_at or self._overtaken(decision.asked, token_id=key[1]):
            return None
        if now >= decision.renew_from:
            self._renew(key, decision)
        return decision

    def _renew(self, key: Key, decision: Decision) -> None:
        """Ask in the background, once; the decision serves on until its own time is over."""
        self._decisions[key] = msgspec.structs.replace(decision, renew_from=FOREVER)
        if key not in self._flights:
            self._take_off(key)

    def _take_off(self, key: Key) -> _Flight:
        flight = self._flights[key] = _Flight(asyncio.create_task(self._ask(key)), asked=self._events)
        flight.task.add_done_callback(partial(self._landed, key, flight))
        return flight

    def _overtaken(self, asked: int, *, token_id: TokenId) -> bool:
        return asked < self._last_event_of_all or asked < self._last_event.get(token_id, 0)

    async def _fetched(self, key: Key) -> Decision:
        for repeats_left in reversed(range(MAX_REPEATS)):
            flight = self._flights.get(key)
            if flight is None or self._overtaken(flight.asked, token_id=key[1]):
                flight = self._take_off(key)
            # shielded: the one who happened to ask first may give up without taking the others along
            outcome = await asyncio.shield(flight.task)
            if isinstance(outcome, ChainUnavailable):
                # a new error for each waiter: one raised many times would collect all their tracebacks
                raise ChainUnavailable(outcome.message, retry_after=outcome.retry_after)
            # overtaken so many times, it was still true during this check; it is only not remembered
            stale = flight.stale or self._overtaken(flight.asked, token_id=key[1])
            if not stale or repeats_left == 0:
                return outcome
        raise AssertionError("unreachable")  # pragma: no cover - the last repeat returns

    def _landed(self, key: Key, flight: _Flight, _task: object) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.stale or self._overtaken(flight.asked, token_id=key[1]):
            return
        if flight.task.cancelled() or flight.task.exception() is not None:
            return
        outcome = flight.task.result()
        if isinstance(outcome, Decision) and outcome.until > self._monotonic():
            self._decisions[key] = outcome

    async def _ask(self, key: Key) -> Decision | ChainUnavailable:
        _, token_id, licensee = key
        asked, asked_at = self._events, self._monotonic()
        try:
            reading = await self._chain.license_of(licensee, token_id, confirmations=self._confirmations)
        except ChainUnavailable as error:
            return error
        return self._decide(reading, token_id=token_id, licensee=licensee, asked=asked, asked_at=asked_at)

    def _decide(
        self,
        reading: LicenseReading,
        *,
        token_id: TokenId,
        licensee: Address,
        asked: int,
        asked_at: float,
    ) -> Decision:
        now = self._wall()
        no_until = asked_at + self._negative_ttl
        if reading.expires_at == 0:
            return Decision(no_until, FOREVER, asked, refusal="holds no license")
        over_by_our_clock = reading.expires_at != PERPETUAL and now >= reading.expires_at + self._tolerance
        if not reading.active or over_by_our_clock:
            return Decision(no_until, FOREVER, asked, refusal="has expired or was revoked", expired=True)
        if not reading.confirmed:
            return Decision(
                min(no_until, asked_at + 1.0),
                FOREVER,
                asked,
                refusal=f"is not {self._confirmations} block(s) old yet",
                retry_after=1.0,
            )
        # Inside the tolerance (past its end by our clock, not by the chain's) nothing is remembered.
        left = self._ttl if reading.expires_at == PERPETUAL else reading.expires_at - now
        lasts = min(self._ttl, left)
        return Decision(
            until=asked_at + lasts,
            ends_at=FOREVER if reading.expires_at == PERPETUAL else float(reading.expires_at),
            asked=asked,
            license=License(token_id=token_id, licensee=licensee, expires_at=reading.expires_at),
            renew_from=now - (self._monotonic() - asked_at) + lasts * (1 - AHEAD),
        )

    @staticmethod
    def _refusal(decision: Decision, token_id: TokenId) -> NodeError:
        if decision.expired:
            return LicenseExpired(
                f"the caller's license for token {token_id} {decision.refusal}",
                suggestion="buy or extend a license for this model",
                token_id=str(token_id),
            )
        if decision.retry_after is not None:
            return LicenseMissing(
                f"the caller's license for token {token_id} {decision.refusal}",
                suggestion="try again in a moment",
                retry_after=decision.retry_after,
                token_id=str(token_id),
            )
        return LicenseMissing(
            f"the caller {decision.refusal} for token {token_id}",
            suggestion="buy a license for this model",
            token_id=str(token_id),
        )
