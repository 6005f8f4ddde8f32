"""A worker host without processes. It passes the contract tests of the real one.

Its models are Python functions, found by the plan's `weights_path`; requests wait for each other as in
a real worker, deadlines and queues are kept by the real bookkeeping.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from node import errors
from node.runtime.flight import Flight, Limits
from node.runtime.plan import LoadPlan
from node.runtime.protocol import Done, Failed
from node.types import Address, LoadReport, Options, Payload, RunResult

Answerer = Callable[[Payload, Options], object | Awaitable[object]]
"""Returns the predictions as plain values; may raise a `NodeError`; a coroutine is cancelled when late."""


def always_one_class(_payload: Payload, _options: Options) -> object:
    """The model that is used where none was given."""
    return [{"class": "fake", "confidence": 1.0, "class_id": 0}]


class FakeWorker:
    """One pretended process."""

    def __init__(self, answer: Answerer, *, pid: int, limits: Limits) -> None:
        self.pid, self.alive = pid, True
        self.report = LoadReport(load_ms=1.0, memory_bytes=1, threads=1, inputs=[])
        self._answer = answer
        self._flight = Flight(limits=limits, send=lambda _: None, terminate=self._cancel, kill=self.crash)
        self._turn = asyncio.Lock()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._on_death: list[Callable[[FakeWorker], None]] = []
        self._closing = False
        self.requests: list[tuple[Payload, Options]] = []

    @property
    def in_flight(self) -> int:
        return len(self._flight)

    def when_dead(self, callback: Callable[[FakeWorker], None]) -> None:
        self._on_death.append(callback)

    async def run(
        self, payload: Payload, options: Options, *, deadline: float, caller: Address | None = None
    ) -> RunResult:
        if self._closing:
            raise errors.Overloaded("The model was unloaded meanwhile; try again.", retry_after=0.1)
        if not self.alive:
            raise errors.WorkerCrashed("The model's worker is gone; try again.")
        future: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        number = self._flight.submit(payload, options, deadline, future, caller)
        self.requests.append((payload, options))
        self._tasks[number] = asyncio.create_task(self._serve(number, payload, options))
        try:
            return await future
        except asyncio.CancelledError:
            self._flight.give_up([number])
            raise

    async def close(self, *, drain: float) -> None:
        self._closing = True
        try:
            async with asyncio.timeout(drain or 0.001):
                await self._flight.idle.wait()
        except TimeoutError:
            pass
        self.alive = False
        self._flight.end(lambda: errors.Overloaded("The model was unloaded meanwhile; try again."))
        self._cancel(list(self._tasks))

    def kill(self, reason: str) -> None:
        self.crash(reason)

    def crash(self, reason: str = "it was told to") -> None:
        """What the death of a process does."""
        if not self.alive:
            return
        self.alive = False
        self._flight.end(lambda: errors.WorkerCrashed(f"The model's worker was ended because {reason}."))
        self._cancel(list(self._tasks))
        if not self._closing:
            for callback in self._on_death:
                callback(self)

    async def _serve(self, number: int, payload: Payload, options: Options) -> None:
        try:
            async with self._turn:
                made = self._answer(payload, options)
                predictions = await made if inspect.isawaitable(made) else made
            self._flight.done(Done(number, 0.1, 0.1, 0.1, 0.0, None), msgspec.json.encode(predictions))
        except errors.NodeError as error:
            self._flight.failed(Failed(number, error.code, error.message))
        except asyncio.CancelledError:
            self._flight.failed(Failed(number, "deadline_exceeded", ""))
        finally:
            self._tasks.pop(number, None)

    def _cancel(self, numbers: list[int]) -> None:
        for number in numbers:
            if number in self._tasks:
                self._tasks[number].cancel()


class FakeHost:
    """`models` maps a plan's `weights_path` to what answers; an exception instead fails the load."""

    def __init__(
        self, models: Mapping[str, Answerer | errors.NodeError] | None = None, *, limits: Limits | None = None
    ) -> None:
        self.models = models or {}
        self.workers: list[FakeWorker] = []
        self.plans: list[LoadPlan] = []
        self._limits = limits or Limits()

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def spawn(self, plan: LoadPlan, *, timeout: float = 120.0) -> FakeWorker:
        await asyncio.sleep(0)
        self.plans.append(plan)
        model = self.models.get(plan.weights_path, always_one_class)
        if isinstance(model, errors.NodeError):
            raise model
        worker = FakeWorker(model, pid=100_000 + len(self.workers), limits=self._limits)
        self.workers.append(worker)
        return worker

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close(drain=0)
