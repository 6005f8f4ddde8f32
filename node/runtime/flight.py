"""The requests that one worker has, and what becomes of each.

Enters: requests with deadlines, and what the worker says of them. Leaves: settled futures, and three
orders: write a frame, terminate these ids, kill the worker. Every request's future is settled exactly
once: answered, late, cancelled, or failed with the worker. A request that is given up stays known
until the worker has let go of it; a worker that does not let go within the grace period is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from node import errors
from node.runtime import protocol
from node.runtime.protocol import Done, Failed, Run, Seen
from node.runtime.shares import Share, Shares
from node.types import Address, Options, Payload, RunResult, RunTimings

ERRORS: Final[dict[str, type[errors.NodeError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidInput, errors.InputTooLarge, errors.DeadlineExceeded, errors.ModelInvalid, errors.Fault,
    )
}  # fmt: skip
"""What a worker may say; anything else becomes `Fault`."""
MAX_MESSAGE: Final = 1000
MAX_UNKNOWN: Final = 1000
SEND_AT: Final = 8
"""So many requests of one turn of the loop are sent without waiting for its end. With all of them at once the
node and its worker take turns instead of working side by side: a fifth fewer requests/s at 16 connections."""
TIMER_SLACK: Final = 0.001
"""Timers may fire early by the resolution of the loop's clock."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one worker's queue and patience; seconds and bytes."""

    queue_depth: int = 256
    queue_bytes: int = 256 * 2**20
    caller_depth: int = 64
    """Of these, what one caller may have, so that none can shut the others out."""
    caller_bytes: int = 64 * 2**20
    grace: float = 0.5
    longest: float = 30.0
    """The longest time that a request may have."""


class Promise(Protocol):
    """What is told the outcome of a request, at once and only once: a future, or what does with less."""

    def done(self) -> bool: ...
    def set_result(self, result: RunResult, /) -> None: ...
    def set_exception(self, exception: errors.NodeError, /) -> None: ...


class _Pending:
    """A request that the worker still has. `future` is None once nobody waits for it."""

    __slots__ = ("deadline", "future", "kill_at", "share", "size")

    def __init__(self, future: Promise, deadline: float, size: int, share: Share | None) -> None:
        self.future: Promise | None = future
        self.deadline, self.size, self.share = deadline, size, share
        self.kill_at = 0.0


class Flight:
    """See the module.

    Parameters
    ----------
    send : writes the parts of frames; called with all that one turn of the loop has gathered.
    terminate : tells the worker that nobody waits for these ids any more.
    kill : ends a worker that does not let go; called with the reason.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        send: Callable[[list[bytes | memoryview]], None],
        terminate: Callable[[list[int]], None],
        kill: Callable[[str], None],
    ) -> None:
        self._limits, self._send, self._terminate, self._kill = limits, send, terminate, kill
        self._loop = asyncio.get_running_loop()
        self._clock = time.monotonic() - self._loop.time()
        """What to add to the loop's time to get the clock that the worker reads."""
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._shares = Shares(depth=limits.caller_depth, size=limits.caller_bytes)
        self._queued_bytes = self._unknown = 0
        self._outgoing: list[bytes | memoryview] = []
        self._service_seconds = 0.005
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.idle = asyncio.Event()
        self.idle.set()

    def __len__(self) -> int:
        return len(self._pending)

    def submit(
        self,
        payload: Payload,
        options: Options,
        deadline: float,
        promise: Promise,
        caller: Address | None = None,
    ) -> int:
        """Queue one request, whose outcome `promise` is told; its number.

        Raises `DeadlineExceeded`, `Overloaded`, `TooManyInFlight`.
        """
        now = self._loop.time()
        if deadline <= now:
            raise late()
        content = payload.content
        size = len(content) if isinstance(content, bytes) else content.nbytes
        self._admit(size)
        share = None
        if caller is not None and (share := self._shares.take(caller, size)) is None:
            raise self._had_its_share()
        number = next(self._ids)
        order = Run(
            number, payload.format, payload.encoding == "binary", options.top_k, options.threshold,
            deadline + self._clock, now + self._clock,
        )  # fmt: skip
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        elif len(self._outgoing) >= 2 * SEND_AT:
            self._flush()
        self._outgoing.append(protocol.frame(order, body_length=size))
        self._outgoing.append(content)
        self._pending[number] = _Pending(promise, deadline, size, share)
        self._queued_bytes += size
        self.idle.clear()
        if self._timer is None or deadline < self._timer_at:
            self._wake_at(deadline)
        return number

    def give_up(self, numbers: list[int]) -> None:
        """Nobody waits for these any more: have the worker drop or end them."""
        numbers = [number for number in numbers if number in self._pending]
        now = self._loop.time()
        for number in numbers:
            pending = self._pending[number]
            pending.future = None
            # A client that leaves early does not shorten what the model may take; its deadline ends that.
            pending.kill_at = max(now, pending.deadline) + self._limits.grace
        for at in range(0, len(numbers), protocol.CONTROL_IDS):
            self._terminate(numbers[at : at + protocol.CONTROL_IDS])

    def done(self, message: Done, body: bytes) -> None:
        """The worker has answered. Raises `FrameInvalid`."""
        future = self._settle(message.id)
        if future is None:
            return
        timings = RunTimings(
            message.preprocessing, message.inference, message.postprocessing, message.queue, message.batch
        )
        busy = (message.preprocessing + message.inference + message.postprocessing) * 1e-3
        self._service_seconds += (busy - self._service_seconds) * 0.05
        future.set_result(RunResult(msgspec.Raw(body), timings, message.entropy))

    def failed(self, message: Failed) -> None:
        """The worker has no answer. Raises `FrameInvalid`."""
        future = self._settle(message.id)
        if future is not None:
            future.set_exception(ERRORS.get(message.code, errors.Fault)(message.message[:MAX_MESSAGE]))

    def seen(self, message: Seen) -> None:
        """The worker lives, and these wait behind others, whose own deadlines bound the wait."""
        for number in message.waiting:
            pending = self._pending.get(number)
            if pending is not None and pending.future is None:
                pending.kill_at = pending.deadline + self._limits.longest + self._limits.grace

    def end(self, error: Callable[[], errors.NodeError]) -> None:
        """The worker is gone: fail whatever it had."""
        if self._timer is not None:
            self._timer.cancel()
        pending, self._pending = self._pending, {}
        self._outgoing.clear()
        self._queued_bytes = 0
        self.idle.set()
        for entry in pending.values():
            if entry.future is not None and not entry.future.done():
                entry.future.set_exception(error())

    def _admit(self, size: int) -> None:
        waiting = len(self._pending)
        # One request alone is always taken: the web layer has bounded its size already.
        if waiting < self._limits.queue_depth and (
            not waiting or self._queued_bytes + size <= self._limits.queue_bytes
        ):
            return
        seconds = max(0.05, waiting * self._service_seconds)
        raise errors.Overloaded(
            f"{waiting} requests wait for this model already; try again in {seconds:.2f} s.",
            retry_after=round(seconds, 2),
        )

    def _had_its_share(self) -> errors.TooManyInFlight:
        limits = self._limits
        seconds = max(0.05, limits.caller_depth * self._service_seconds)
        return errors.TooManyInFlight(
            f"One caller may have {limits.caller_depth} requests and {limits.caller_bytes} bytes in a "
            f"model's queue, and yours are there already; try again in {seconds:.2f} s.",
            suggestion="Wait for an answer before you send the next request.",
            retry_after=round(seconds, 2),
            limit=limits.caller_depth,
        )

    def _flush(self) -> None:
        if self._outgoing:
            parts, self._outgoing = self._outgoing, []
            self._send(parts)

    def _settle(self, number: int) -> Promise | None:
        pending = self._pending.pop(number, None)
        if pending is None:
            self._unknown += 1
            if self._unknown > MAX_UNKNOWN:
                raise protocol.FrameInvalid("answers to requests that were never sent")
            return None
        self._queued_bytes -= pending.size
        if pending.share is not None:
            self._shares.give_back(pending.share, pending.size)
        if not self._pending:
            self.idle.set()
        return None if pending.future is None or pending.future.done() else pending.future

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """Give up what is late, kill a worker that holds on to what was given up, set the next timer."""
        self._timer = None
        now = self._loop.time() + TIMER_SLACK
        overdue = [
            number for number, entry in self._pending.items() if entry.future and entry.deadline <= now
        ]
        for number in overdue:
            future = self._pending[number].future
            if future is not None and not future.done():
                future.set_exception(late())
        if overdue:
            self.give_up(overdue)
        times = [
            entry.kill_at if entry.future is None else entry.deadline for entry in self._pending.values()
        ]
        if any(entry.future is None and entry.kill_at <= now for entry in self._pending.values()):
            self._kill("a run did not end at its deadline")
        elif times:
            self._wake_at(min(times))


def late() -> errors.DeadlineExceeded:
    """What the caller of a late request gets."""
    return errors.DeadlineExceeded("The model did not answer within the request's time.")
