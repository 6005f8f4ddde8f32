"""The node's end of one worker: its sockets, its life and its end.

Enters: payloads with deadlines. Leaves: a `RunResult`, or an error of `node/errors.py`. What is in
flight is kept by `flight.py`; this module connects it with the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Final, cast

from node import errors
from node.runtime import linux, protocol
from node.runtime.flight import ERRORS, MAX_MESSAGE, Flight, Limits, Promise
from node.runtime.plan import LoadPlan
from node.runtime.protocol import Done, Failed, Loaded, LoadFailed, Started, Terminate
from node.types import Address, LoadReport, Options, Payload, RunResult

log = logging.getLogger(__name__)

EXIT_STATUS_WAIT: Final = 0.25
KILL_WAIT: Final = 1.0
CPU_RENEWAL: Final = 5.0
CPU_RESERVE: Final = 60.0


class Worker(asyncio.BufferedProtocol):
    """One worker process. Made by `WorkerHost.spawn` only.

    Attributes
    ----------
    report : what the worker told when it had loaded its model.
    alive : False from the moment on that no further request can be answered.
    """

    report: LoadReport

    def __init__(self, *, limits: Limits, kill: Callable[[int], None]) -> None:
        self.pid, self.alive = 0, True
        self._limits, self._kill_process = limits, kill
        self._loop = asyncio.get_running_loop()
        self._flight = Flight(limits=limits, send=self._send, terminate=self._terminate, kill=self.kill)
        self._receiver = protocol.Receiver(
            max_header=protocol.MAX_ANSWER_HEADER, max_body=protocol.MAX_ANSWER_BODY
        )
        self._closing = False
        self._reason: str | None = None
        self._threads = 1
        self._cpu_renewed = float("-inf")
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._on_death: list[Callable[[Worker], None]] = []
        self._transport: asyncio.Transport
        self._control: socket.socket

    # -- what the layers above call

    @property
    def in_flight(self) -> int:
        """Requests that the worker has not answered yet."""
        return len(self._flight)

    def when_dead(self, callback: Callable[[Worker], None]) -> None:
        """Have `callback` called once if the worker ends, or has ended, without having been closed."""
        if self._gone.is_set() and not self._closing:
            self._loop.call_soon(callback, self)
        else:
            self._on_death.append(callback)

    async def run(
        self, payload: Payload, options: Options, *, deadline: float, caller: Address | None = None
    ) -> RunResult:
        """Answer one request.

        Parameters
        ----------
        deadline : on the event loop's clock, in seconds.
        caller : whose share of the queue it takes; None is the node itself, which is not bounded.

        Raises
        ------
        InvalidInput, InputTooLarge, ModelInvalid, DeadlineExceeded, Overloaded, TooManyInFlight,
        WorkerCrashed, Fault
        """
        future: asyncio.Future[RunResult] = self._loop.create_future()
        number = self.submit(payload, options, deadline=deadline, promise=future, caller=caller)
        try:
            return await future
        except asyncio.CancelledError:
            self.give_up(number)
            raise

    def submit(
        self,
        payload: Payload,
        options: Options,
        *,
        deadline: float,
        promise: Promise,
        caller: Address | None = None,
    ) -> int:
        """`run` without the waiting: `promise` will be told the answer or error; the request's number.

        Raises
        ------
        DeadlineExceeded, Overloaded, TooManyInFlight, WorkerCrashed
        """
        if self._closing or not self.alive:
            raise self._ended()
        number = self._flight.submit(payload, options, deadline, promise, caller)
        if self._loop.time() - self._cpu_renewed > CPU_RENEWAL:
            self._renew_cpu(self._limits.longest)
        return number

    def give_up(self, number: int) -> None:
        """Nobody waits for this request any more."""
        self._flight.give_up([number])

    async def close(self, *, drain: float) -> None:
        """Take no more requests, wait at most `drain` seconds for those in flight, end the process."""
        self._closing = True
        if self.alive and drain > 0:
            try:
                async with asyncio.timeout(drain):
                    await self._flight.idle.wait()
            except TimeoutError:
                log.warning("worker %d: %d requests were not answered in time", self.pid, self.in_flight)
        if self.alive and not self.in_flight:
            self._transport.close()  # the worker reads the end of its socket, and ends
            try:
                async with asyncio.timeout(self._limits.grace):
                    await self._gone.wait()
            except TimeoutError:
                pass
        if not self._gone.is_set():
            self.kill("it was closed")
            await self._gone.wait()

    def kill(self, reason: str) -> None:
        """End the process at once; `reason` continues "The worker was ended because"."""
        if self._gone.is_set():
            return
        if self._reason is None:
            self._reason = reason
        self.alive = False
        self._kill_process(self.pid)
        self._loop.call_later(KILL_WAIT, self._kill_directly)

    # -- what the host calls

    def connect_control(self, control: socket.socket) -> None:
        """Begin to listen on the control socket."""
        self._control = control
        self._loop.add_reader(control.fileno(), self._control_ready)

    async def started(self) -> None:
        """Wait until the process runs."""
        await asyncio.shield(self._started)

    async def load(self, plan: LoadPlan, *, timeout: float) -> Loaded:
        """Send the plan and wait for the report. Raises what the worker says, and `TimeoutError`."""
        self._threads = max(1, plan.threads)
        self._renew_cpu(timeout)
        self._transport.write(protocol.frame(protocol.Load(plan)))
        async with asyncio.timeout(timeout):
            loaded = await asyncio.shield(self._loaded)
        self.report = loaded.report
        return loaded

    def discard(self, reason: str) -> None:
        """End a worker that never came to serve; nobody is told."""
        self._closing = True
        self.kill(reason)

    def exited(self, status: int) -> None:
        """The forkserver reports the process's end (a signal's number below zero)."""
        if not self._exit.done():
            self._exit.set_result(status)

    # -- the flight's orders

    def _send(self, parts: list[bytes | memoryview]) -> None:
        """Write all that one turn of the loop has gathered at once, but large bodies without a copy."""
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

    def _terminate(self, ids: list[int]) -> None:
        try:
            self._control.send(protocol.control(Terminate(ids)))
        except OSError:
            log.debug("worker %d: its control socket is full or gone; the grace period decides", self.pid)

    def _renew_cpu(self, seconds: float) -> None:
        """Move the worker's CPU limit: a stopgap should this process be too busy to end a run itself.

        It is set from outside, because a worker may not change its own limits.
        """
        self._cpu_renewed = self._loop.time()
        try:
            linux.limit_cpu(self.pid, seconds=seconds * self._threads + CPU_RESERVE)
        except (OSError, ValueError) as error:
            log.debug("worker %d: no CPU limit: %s", self.pid, error)

    def _kill_directly(self) -> None:
        if not self._gone.is_set() and not self._exit.done() and self.pid:
            log.error("worker %d: the forkserver did not end it", self.pid)
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the pid is still this worker's

    # -- the sockets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._receiver.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._receiver.received(nbytes)
        try:
            for message, body in self._receiver.answers():
                if type(message) is Done:
                    self._flight.done(message, body)
                elif type(message) is Failed:
                    self._flight.failed(message)
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
            self._loaded.set_exception(ERRORS.get(message.code, errors.Fault)(message.message[:MAX_MESSAGE]))
            self._loaded.exception()  # whoever asked for the load may have left
        else:
            raise protocol.FrameInvalid(f"unexpected {type(message).__name__}")

    def _control_ready(self) -> None:
        try:
            raw = self._control.recv(protocol.MAX_CONTROL)
            if raw:
                self._flight.seen(protocol.read_seen(raw))
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        except protocol.FrameInvalid as error:
            self._broken(error)
        self._loop.remove_reader(self._control.fileno())

    def _broken(self, error: protocol.FrameInvalid) -> None:
        log.error("worker %d broke the protocol: %s", self.pid, error)
        self.kill("it broke the protocol")
        self._transport.abort()

    # -- the end

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.alive = False
        self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        """The socket is closed: learn why, fail what is in flight, and tell who asked to be told."""
        try:
            async with asyncio.timeout(EXIT_STATUS_WAIT):
                await asyncio.shield(self._exit)
        except TimeoutError:
            self._kill_process(self.pid)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._flight.end(self._ended)
        for future in (self._started, self._loaded):
            if not future.done():
                future.set_exception(self._ended())
                future.exception()  # nobody may be waiting for it
        self._gone.set()
        if not self._closing:
            log.error("worker %d: %s", self.pid, self._ended().message)
            for callback in self._on_death:
                callback(self)

    def _ended(self) -> errors.NodeError:
        if self._closing and self._reason in {None, "it was closed"}:
            return errors.Overloaded("The model was unloaded meanwhile; try again.", retry_after=0.1)
        status = self._exit.result() if self._exit.done() else None
        return errors.WorkerCrashed(f"The model's worker {_how(status, self._reason)}; try again.")


def _how(status: int | None, reason: str | None) -> str:
    if reason is not None:
        return f"was ended because {reason}"
    if status is None:
        return "is gone"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = {"SIGKILL": " (out of memory?)", "SIGXCPU": " (it had used up its CPU time)"}.get(name, "")
    return f"died of {name}{hint}"
