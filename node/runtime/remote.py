"""The node's end of one worker: many requests in flight, none of them waited for past its deadline.

Enters: payloads with deadlines. Leaves: a `RunResult`, or an error of `node/errors.py`. Every request
ends exactly once: answered, late, cancelled, or failed with the worker. A request that is given up
stays known until the worker has let go of it; a worker that does not let go within the grace period
is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec

from node import errors
from node.runtime import protocol
from node.runtime.plan import LoadPlan
from node.runtime.protocol import Done, Failed, Loaded, LoadFailed, Run, Seen, Started, Terminate
from node.types import LoadReport, Options, Payload, RunResult, RunTimings

log = logging.getLogger(__name__)

ERRORS: Final[dict[str, type[errors.NodeError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidInput, errors.InputTooLarge, errors.DeadlineExceeded, errors.ModelInvalid, errors.Fault,
    )
}  # fmt: skip
"""What a worker may say; anything else becomes `Fault`."""
MAX_MESSAGE: Final = 1000
MAX_UNKNOWN: Final = 1000
EXIT_STATUS_WAIT: Final = 0.25


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one worker's queue and patience; seconds and bytes."""

    queue_depth: int = 256
    queue_bytes: int = 256 * 2**20
    grace: float = 0.5
    longest: float = 30.0
    """The longest deadline that a request may have."""


class _Pending:
    """A request that the worker still has. `future` is None once nobody waits for it."""

    __slots__ = ("deadline", "future", "kill_at", "size")

    def __init__(self, future: asyncio.Future[RunResult], deadline: float, size: int) -> None:
        self.future: asyncio.Future[RunResult] | None = future
        self.deadline, self.size = deadline, size
        self.kill_at = 0.0


class Worker(asyncio.BufferedProtocol):
    """One worker process. Made by `WorkerHost.spawn` only."""

    report: LoadReport
    pid: int

    def __init__(self, *, number: int, limits: Limits, kill: Callable[[Worker], None]) -> None:
        self.number, self.pid, self.alive = number, 0, True
        self._limits, self._kill = limits, kill
        self._loop = asyncio.get_running_loop()
        self._clock = time.monotonic() - self._loop.time()
        self._receiver = protocol.Receiver(
            max_header=protocol.MAX_ANSWER_HEADER, max_body=protocol.MAX_ANSWER_BODY
        )
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._queued_bytes = self._unknown = 0
        self._outgoing: list[bytes | memoryview] = []
        self._service_seconds = 0.005
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closing = False
        self._reason: str | None = None
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._on_death: list[Callable[[Worker], None]] = []
        self._transport: asyncio.Transport
        self._control: socket.socket

    # -- what the layers above call

    @property
    def in_flight(self) -> int:
        """Requests that the worker has not answered yet."""
        return len(self._pending)

    def when_dead(self, callback: Callable[[Worker], None]) -> None:
        """Have `callback` called once if the worker ends without having been closed."""
        self._on_death.append(callback)

    async def run(self, payload: Payload, options: Options, *, deadline: float) -> RunResult:
        """Answer one request.

        Parameters
        ----------
        deadline : on the event loop's clock, in seconds.

        Raises
        ------
        InvalidInput, InputTooLarge, ModelInvalid, DeadlineExceeded, Overloaded, WorkerCrashed, Fault
        """
        number, future = self._submit(payload, options, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            self._give_up([number])
            raise

    async def close(self, *, drain: float) -> None:
        """Take no more requests, wait at most `drain` seconds for those in flight, end the process."""
        self._closing = True
        if self.alive and drain > 0:
            try:
                async with asyncio.timeout(drain):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("worker %d: %d requests were not answered in time", self.pid, len(self._pending))
        if self.alive:
            self._transport.close()
            if self._pending:
                self.kill("it was closed")
        try:
            async with asyncio.timeout(self._limits.grace):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self.kill("it did not end when it was closed")
            await self._gone

    def kill(self, reason: str) -> None:
        """End the process at once; `reason` continues "The worker was ended because"."""
        if self._reason is None:
            self._reason = reason
        self.alive = False
        self._kill(self)

    # -- loading, for the host

    async def started(self) -> None:
        """Wait until the process runs."""
        await asyncio.shield(self._started)

    async def load(self, plan: LoadPlan) -> Loaded:
        """Send the plan and wait for the report."""
        self._transport.write(protocol.frame(protocol.Load(plan)))
        loaded = await asyncio.shield(self._loaded)
        self.report = loaded.report
        return loaded

    # -- requests

    def _submit(
        self, payload: Payload, options: Options, deadline: float
    ) -> tuple[int, asyncio.Future[RunResult]]:
        if self._closing:
            raise errors.Overloaded("The model is being unloaded; try again.", retry_after=0.1)
        if not self.alive:
            raise self._crashed()
        now = self._loop.time()
        if deadline <= now:
            raise _late()
        content = payload.content
        size = len(content) if isinstance(content, bytes) else content.nbytes
        if len(self._pending) >= self._limits.queue_depth or (
            self._queued_bytes + size > self._limits.queue_bytes and self._pending
        ):
            wait = max(0.05, len(self._pending) * self._service_seconds)
            raise errors.Overloaded(
                f"{len(self._pending)} requests wait for this model already.", retry_after=round(wait, 2)
            )
        number, future = next(self._ids), self._loop.create_future()
        order = Run(
            number, payload.format, payload.encoding == "binary", options.top_k, options.threshold,
            deadline + self._clock, now + self._clock,
        )  # fmt: skip
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(protocol.frame(order, body_length=size))
        self._outgoing.append(content)
        self._pending[number] = _Pending(future, deadline, size)
        self._queued_bytes += size
        self._idle.clear()
        if self._timer is None or deadline < self._timer_at:
            self._wake_at(deadline)
        return number, future

    def _flush(self) -> None:
        """Write all that one turn of the loop has gathered, large bodies without copying them."""
        parts, self._outgoing = self._outgoing, []
        if not self.alive:
            return
        small: list[bytes | memoryview] = []
        for part in parts:
            if len(part) <= protocol.INLINE_BODY:
                small.append(part)
                continue
            self._transport.write(b"".join(small))
            small.clear()
            self._transport.write(part)
        if small:
            self._transport.write(b"".join(small))

    def _settle(self, number: int) -> _Pending | None:
        pending = self._pending.pop(number, None)
        if pending is None:
            self._unknown += 1
            if self._unknown > MAX_UNKNOWN:
                raise protocol.FrameInvalid("answers to requests that were never sent")
            return None
        self._queued_bytes -= pending.size
        if not self._pending:
            self._idle.set()
        return pending

    def _done(self, message: Done, body: bytes) -> None:
        pending = self._settle(message.id)
        if pending is None or pending.future is None or pending.future.done():
            return
        timings = RunTimings(message.preprocessing, message.inference, message.postprocessing, message.queue)
        busy = (message.preprocessing + message.inference + message.postprocessing) * 1e-3
        self._service_seconds += (busy - self._service_seconds) * 0.05
        pending.future.set_result(RunResult(msgspec.Raw(body), timings, message.entropy))

    def _failed(self, message: Failed) -> None:
        pending = self._settle(message.id)
        if pending is None or pending.future is None or pending.future.done():
            return
        kind = ERRORS.get(message.code, errors.Fault)
        pending.future.set_exception(kind(message.message[:MAX_MESSAGE]))

    # -- time

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """Give up what is late, kill a worker that holds on to what was given up, set the next timer."""
        self._timer = None
        now = self._loop.time() + 0.001  # timers may fire up to the clock's resolution early
        late = [
            number for number, pending in self._pending.items() if pending.future and pending.deadline <= now
        ]
        for number in late:
            future = self._pending[number].future
            if future is not None and not future.done():
                future.set_exception(_late())
        if late:
            self._give_up(late)
        given_up = [pending.kill_at for pending in self._pending.values() if pending.future is None]
        if any(kill_at <= now for kill_at in given_up):
            self.kill("a run did not end at its deadline")
            return
        waiting = [pending.deadline for pending in self._pending.values() if pending.future is not None]
        if given_up or waiting:
            self._wake_at(min(given_up + waiting))

    def _give_up(self, numbers: list[int]) -> None:
        """Nobody waits for these any more: have the worker drop or end them."""
        numbers = [number for number in numbers if number in self._pending]
        for number in numbers:
            pending = self._pending[number]
            pending.future = None
            # A client that leaves early does not shorten what the model may take; a deadline ends it.
            pending.kill_at = max(self._loop.time(), pending.deadline) + self._limits.grace
        for at in range(0, len(numbers), protocol.CONTROL_IDS):
            try:
                self._control.send(protocol.control(Terminate(numbers[at : at + protocol.CONTROL_IDS])))
            except OSError:
                break  # full or gone: `kill_at` decides

    def _seen(self, seen: Seen) -> None:
        """The worker lives, and these wait behind others, whose own deadlines bound the wait."""
        for number in seen.waiting:
            pending = self._pending.get(number)
            if pending is not None and pending.future is None:
                pending.kill_at = pending.deadline + self._limits.longest + self._limits.grace

    # -- the connection

    def connect_control(self, control: socket.socket) -> None:
        """Begin to listen on the control socket."""
        self._control = control
        self._loop.add_reader(control.fileno(), self._control_ready)

    def _control_ready(self) -> None:
        try:
            raw = self._control.recv(protocol.MAX_CONTROL)
            if raw:
                self._seen(protocol.read_seen(raw))
            else:
                self._loop.remove_reader(self._control.fileno())
        except BlockingIOError:
            return
        except OSError:
            self._loop.remove_reader(self._control.fileno())
        except protocol.FrameInvalid as error:
            self._broken(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] - a socket gives a Transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._receiver.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._receiver.received(nbytes)
        try:
            for message, body in self._receiver.answers():
                if type(message) is Done:
                    self._done(message, body)
                elif type(message) is Failed:
                    self._failed(message)
                else:
                    self._loading(message)
        except protocol.FrameInvalid as error:
            self._broken(error)

    def _loading(self, message: object) -> None:
        if isinstance(message, Started) and not self._started.done():
            self._started.set_result(None)
        elif isinstance(message, Loaded) and not self._loaded.done():
            self._loaded.set_result(message)
        elif isinstance(message, LoadFailed) and not self._loaded.done():
            kind = ERRORS.get(message.code, errors.Fault)
            self._loaded.set_exception(kind(message.message[:MAX_MESSAGE]))
        else:
            raise protocol.FrameInvalid(f"unexpected {type(message).__name__}")

    def _broken(self, error: protocol.FrameInvalid) -> None:
        log.error("worker %d broke the protocol: %s", self.pid, error)
        self.kill("it broke the protocol")
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.alive = False
        self._end_task = self._loop.create_task(self._end())

    def exited(self, status: int) -> None:
        """The forkserver reports the process's end (a signal's number below zero)."""
        if not self._exit.done():
            self._exit.set_result(status)

    async def _end(self) -> None:
        """The socket is closed: learn why, fail what is in flight, and tell who asked to be told."""
        try:
            async with asyncio.timeout(EXIT_STATUS_WAIT):
                await asyncio.shield(self._exit)
        except TimeoutError:
            self._kill(self)
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        pending, self._pending = self._pending, {}
        self._queued_bytes = 0
        self._idle.set()
        error = self._crashed()
        for entry in pending.values():
            if entry.future is not None and not entry.future.done():
                entry.future.set_exception(error)
        for future in (self._started, self._loaded):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting for it
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._closing:
            log.error("worker %d: %s", self.pid, error.message)
            for callback in self._on_death:
                callback(self)

    def _crashed(self) -> errors.WorkerCrashed:
        status = self._exit.result() if self._exit.done() else None
        return errors.WorkerCrashed(f"The model's worker {_how(status, self._reason)}; it is being replaced.")


def _how(status: int | None, reason: str | None) -> str:
    import signal

    if reason is not None:
        return f"was ended because {reason}"
    if status is None:
        return "is gone"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = {"SIGKILL": " (out of memory?)", "SIGXCPU": " (it used up its CPU time)"}.get(name, "")
        return f"died of {name}{hint}"
    return f"exited with status {status}"


def _late() -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded("The model did not answer within the request's time.")
