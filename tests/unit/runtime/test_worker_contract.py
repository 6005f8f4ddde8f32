"""What every worker does, the real one and the fake: the flows are built on this."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelInvalid,
    Overloaded,
    TooManyInFlight,
    WorkerCrashed,
)
from node.runtime.flight import Limits
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.settings import Settings
from node.types import Address, Options, Payload
from tests.fakes import onnx_models
from tests.fakes.worker import FakeHost, FakeWorker
from tests.unit.runtime.conftest import begun

ENDLESS = 1e15


class World:
    """A host, a plan whose model counts to its input, a plan that cannot be loaded, and a way to crash."""

    def __init__(self, host: Any, good: LoadPlan, bad: LoadPlan, crash: Callable[[Any], None]) -> None:
        self.host, self.good, self.bad, self.crash = host, good, bad, crash

    async def worker(self) -> Any:
        return await self.host.spawn(self.good)


async def count(payload: Payload, _options: Options) -> object:
    try:
        [number] = msgspec.json.decode(payload.content, type=list[float])
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None
    if number == ENDLESS:
        await asyncio.Event().wait()
    return [number]


@pytest.fixture(params=["real", "fake"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    model = msgspec.json.encode({"input": {"kind": "tensor", "shape": [1]}, "output": {"task": "raw"}})
    good = onnx_models.save(onnx_models.counting(), tmp_path / "good.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_text("no model")
    plans = [LoadPlan(model=model, weights_path=str(path), threads=1) for path in (good, bad)]
    limits = Limits(queue_depth=4, caller_depth=2, grace=0.3)
    if request.param == "real":
        settings = Settings(max_queue_depth=4, max_queue_per_caller=2, worker_grace=300)
        host: Any = await WorkerHost.start(settings)
        made = World(host, *plans, crash=lambda worker: os.kill(worker.pid, signal.SIGSEGV))
    else:
        host = FakeHost({str(good): count, str(bad): ModelInvalid("not an ONNX file")}, limits=limits)
        made = World(host, *plans, crash=FakeWorker.crash)
    yield made
    await host.close()


def ask(number: object) -> Payload:
    return Payload("tensor", msgspec.json.encode([number]), "json")


async def run(worker: Any, number: object, *, seconds: float = 20.0, caller: Address | None = None) -> Any:
    deadline = asyncio.get_running_loop().time() + seconds
    result = await worker.run(ask(number), Options(), deadline=deadline, caller=caller)
    return msgspec.json.decode(result.predictions)


async def test_worker_answers(world: World) -> None:
    worker = await world.worker()
    assert worker.alive
    assert worker.report.threads == 1
    assert "3" in str(await run(worker, 3))


async def test_requests_in_flight_get_their_own_answers(world: World) -> None:
    worker = await world.worker()
    answers = await asyncio.gather(*(run(worker, number) for number in (5, 6, 7, 8)))
    assert [str(number) in str(answer) for number, answer in zip((5, 6, 7, 8), answers, strict=True)] == [
        True
    ] * 4


async def test_input_that_the_model_does_not_take_is_invalid(world: World) -> None:
    worker = await world.worker()
    with pytest.raises(InvalidInput):
        await run(worker, "x")
    assert await run(worker, 1)


async def test_model_that_cannot_be_loaded_is_invalid(world: World) -> None:
    with pytest.raises(ModelInvalid, match="not an ONNX file"):
        await world.host.spawn(world.bad)


async def test_late_run_is_ended_and_the_worker_goes_on(world: World) -> None:
    worker = await world.worker()
    with pytest.raises(DeadlineExceeded):
        await run(worker, ENDLESS, seconds=0.1)
    assert await run(worker, 2)
    assert worker.alive


async def test_deadline_that_has_passed_is_not_sent(world: World) -> None:
    worker = await world.worker()
    with pytest.raises(DeadlineExceeded):
        await run(worker, 1, seconds=-1.0)
    assert worker.in_flight == 0


async def test_client_that_goes_away_frees_the_worker(world: World) -> None:
    worker = await world.worker()
    running = asyncio.create_task(run(worker, ENDLESS))
    await begun(worker)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await run(worker, 2)
    assert worker.alive
    assert worker.in_flight == 0


async def test_full_queue_refuses_with_a_time(world: World) -> None:
    worker = await world.worker()
    running = [asyncio.create_task(run(worker, ENDLESS)) for _ in range(4)]
    await begun(worker, 4)
    with pytest.raises(Overloaded) as caught:
        await run(worker, 1)
    assert caught.value.retry_after
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_one_callers_share_is_bounded(world: World) -> None:
    worker, greedy, modest = await world.worker(), Address("0xA1"), Address("0xB2")
    running = [asyncio.create_task(run(worker, ENDLESS, caller=greedy)) for _ in range(2)]
    await begun(worker, 2)
    with pytest.raises(TooManyInFlight) as caught:
        await run(worker, 1, caller=greedy)
    assert caught.value.retry_after
    running.append(asyncio.create_task(run(worker, 1, caller=modest)))
    await begun(worker, 3)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_crash_fails_what_is_in_flight_and_is_told_once(world: World) -> None:
    worker = await world.worker()
    told: list[Any] = []
    dead = asyncio.Event()
    worker.when_dead(lambda dying: (told.append(dying), dead.set()))
    running = [asyncio.create_task(run(worker, ENDLESS)) for _ in range(3)]
    await begun(worker, 3)
    world.crash(worker)
    results = await asyncio.gather(*running, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerCrashed] * 3
    await dead.wait()
    assert told == [worker]
    assert not worker.alive
    with pytest.raises(WorkerCrashed):
        await run(worker, 1)


async def test_other_workers_survive_a_crash(world: World) -> None:
    dying, other = await world.worker(), await world.worker()
    dead = asyncio.Event()
    dying.when_dead(lambda _: dead.set())
    world.crash(dying)
    await dead.wait()
    assert await run(other, 4)


async def test_close_lets_requests_finish(world: World) -> None:
    worker = await world.worker()
    told: list[Any] = []
    worker.when_dead(told.append)
    running = asyncio.create_task(run(worker, 50_000))
    await begun(worker)
    await worker.close(drain=20.0)
    assert await running
    assert not worker.alive
    assert told == [], "an end that was asked for is no death"
    with pytest.raises(Overloaded):
        await run(worker, 1)


async def test_close_does_not_wait_longer_than_it_was_told(world: World) -> None:
    worker = await world.worker()
    running = asyncio.create_task(run(worker, ENDLESS))
    await begun(worker)
    await worker.close(drain=0.05)
    with pytest.raises(Overloaded):
        await running
