"""Follows the contract's events, so that what the node remembers ends when the chain says otherwise.

Enters: the chain, polled. Leaves: invalidated license decisions at once, and typed events for the
subscribers in the order in which they happened. A subscriber gets every event since `from_block` at
least once; after a reorganisation it gets those that no longer hold again, with `removed` set. It does
best to take an event as word that a token has changed, and to read the token.

Two tasks share the work, so that neither a long history nor a slow subscriber delays a revocation: one
polls the newest blocks and invalidates; the other tells the subscribers, first the past, in bounded
ranges, then what the first one finds. Neither ends because of an outage: they go on where they stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import msgspec

from node.chain.chain import (
    Chain,
    ChainEvent,
    LicenseChanged,
    ModelTransferred,
    ModelUpdated,
    RangeRefused,
)
from node.chain.licenses import Licenses
from node.errors import ChainUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

Subscriber: TypeAlias = Callable[[ChainEvent], Awaitable[None]]

OVERLAP_BLOCKS: Final = 12
"""Blocks that every poll reads again: reorganisations, and peers whose logs come late."""

RANGE_BLOCKS: Final = 2_000
MAX_NEWS: Final = 10_000
"""Events that wait for the subscribers; past that they are read from the chain again."""

REPEAT_SECONDS: Final = 10.0
"""For so long after it was first seen an event invalidates again at each poll: behind a load balancer
the next answer may come from a peer that has not seen the block yet."""

LONGEST_WAIT: Final = 5.0
MANY_BLOCKS: Final = 1_000_000


class EventFollower:
    """Reads events until cancelled.

    Parameters
    ----------
    chain, licenses : what is asked, and what is invalidated.
    from_block : the contract's first block, `CONTRACT_FROM_BLOCK`.
    poll_interval : seconds between two polls; a revocation is seen one block and at most this later.
    pause : replaces `asyncio.sleep` in tests.
    """

    def __init__(
        self,
        chain: Chain,
        licenses: Licenses,
        *,
        from_block: int = 0,
        poll_interval: float = 1.0,
        range_blocks: int = RANGE_BLOCKS,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caught_up = asyncio.Event()
        """Set when the subscribers have had the whole past."""
        self.position = -1
        """The newest block whose events were read; -1 before the first."""
        self._chain = chain
        self._licenses = licenses
        self._from_block = from_block
        self._poll_interval = poll_interval
        self._range = range_blocks
        self._largest_range = range_blocks
        self._pause = pause
        self._monotonic = monotonic
        self._subscribers: list[Subscriber] = []
        self._seen: dict[tuple[int, str, int], tuple[ChainEvent, float]] = {}
        self._news: asyncio.Queue[ChainEvent | None] = asyncio.Queue(MAX_NEWS)
        self._tell_from = from_block
        self._last_poll = float("-inf")

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every event. What it raises is logged and does not stop the others."""
        self._subscribers.append(subscriber)

    @property
    def silent_for(self) -> float:
        """Seconds since the last poll that the chain answered."""
        return self._monotonic() - self._last_poll

    async def run(self) -> None:
        """Follow until cancelled."""
        self.position = max(self._from_block, await self._persist(self._chain.block_number))
        if self.position - self._from_block > MANY_BLOCKS:
            log.warning(
                "reading %d blocks of history: set CONTRACT_FROM_BLOCK to the contract's first block",
                self.position - self._from_block,
            )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._tell())

    async def _follow(self) -> None:
        while True:
            await self._persist(self._poll)
            await self._pause(self._poll_interval)

    async def _poll(self) -> None:
        head = await self._chain.block_number()
        if head < self.position - OVERLAP_BLOCKS:
            log.warning("the chain went back from block %d to %d", self.position, head)
            self._seen.clear()
            self._licenses.invalidate()
            self.position = head
            self._tell_again(self._from_block)
        first = max(self._from_block, min(self.position, head) + 1 - OVERLAP_BLOCKS, 0)
        while first <= head:
            last = min(first + self._range - 1, head)
            self._compare(first, last, await self._events(first, last))
            self.position = last
            first = last + 1
        self._last_poll = self._monotonic()
        oldest = self.position - 2 * OVERLAP_BLOCKS
        for place in [place for place in self._seen if place[0] < oldest]:
            del self._seen[place]

    def _compare(self, first: int, last: int, events: list[ChainEvent]) -> None:
        """What is new in these blocks, and what a reorganisation took back."""
        found = {event.place: event for event in events}
        now = self._monotonic()
        gone = [place for place in self._seen if first <= place[0] <= last and place not in found]
        changes = [
            msgspec.structs.replace(self._seen.pop(place)[0], removed=True) for place in reversed(gone)
        ]
        for place, event in found.items():
            if place not in self._seen:
                self._seen[place] = event, now
                changes.append(event)
            elif now - self._seen[place][1] < REPEAT_SECONDS:
                self._invalidate(event)
        for event in changes:
            self._invalidate(event)
            if self.caught_up.is_set() or event.removed:
                try:
                    self._news.put_nowait(event)
                except asyncio.QueueFull:
                    self._tell_again(self._oldest_news())

    def _oldest_news(self) -> int:
        waiting = [self._news.get_nowait() for _ in range(self._news.qsize())]
        return min((event.block_number for event in waiting if event is not None), default=self.position)

    def _tell_again(self, first: int) -> None:
        """Have the subscribers told of everything from this block on, from the chain."""
        self.caught_up.clear()
        self._tell_from = first
        while not self._news.empty():
            self._news.get_nowait()
        self._news.put_nowait(None)

    async def _tell(self) -> None:
        while True:
            await self._fill_in()
            while self.caught_up.is_set():
                event = await self._news.get()
                if event is not None:
                    await self._deliver(event)

    async def _fill_in(self) -> None:
        while self._tell_from <= self.position:
            first = self._tell_from
            last = min(first + self._range - 1, self.position)
            self._tell_from = last + 1
            for event in await self._persist(lambda a=first, b=last: self._events(a, b)):  # type: ignore[misc]
                await self._deliver(event)
        # nothing is awaited since the comparison, so no block can slip between the two tasks
        self.caught_up.set()

    async def _events(self, first: int, last: int) -> list[ChainEvent]:
        """The events of a range, read in as many parts as the peers want."""
        found: list[ChainEvent] = []
        while first <= last:
            part = min(first + self._range - 1, last)
            try:
                found += await self._chain.events(first, part)
            except RangeRefused:
                if part == first:
                    raise
                self._range = max(1, (part - first + 1) // 2)
                log.info("the RPC wants smaller ranges; reading %d blocks at a time", self._range)
                continue
            first = part + 1
            self._range = min(self._largest_range, self._range + max(1, self._range // 8))
        return found

    def _invalidate(self, event: ChainEvent) -> None:
        if isinstance(event, LicenseChanged):
            self._licenses.invalidate(token_id=event.token_id, licensee=event.licensee)
        elif isinstance(event, ModelTransferred | ModelUpdated):
            self._licenses.invalidate(token_id=event.token_id)

    async def _deliver(self, event: ChainEvent) -> None:
        for subscriber in self._subscribers:
            try:
                await subscriber(event)
            except Exception:
                log.exception("a subscriber failed on %s of token %d", type(event).__name__, event.token_id)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until the chain answers, waiting longer each time."""
        wait = self._poll_interval
        while True:
            try:
                return await attempt()
            except ChainUnavailable as error:
                log.warning("events: %s", error.message)
            except Exception:
                log.exception("events: reading failed")
            await self._pause(wait)
            wait = min(wait * 2, max(LONGEST_WAIT, self._poll_interval))
