"""A request's time is up: its caller is told, the worker is freed or replaced, the others notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from lonja.errors import DeadlineExceeded
from tests.eventually import eventually
from tests.integration.small_models import FOREVER, counter, times
from tests.integration.stage import Stage, numbers_of
from tests.processes import Watched, cpu_ticks, workers

pytestmark = pytest.mark.timeout(120)

REPLACED_WITHIN = 4.0
"""Seconds on a busy machine; what is promised is 1 s, and that figure is a benchmark's to hold."""


async def test_a_run_past_its_deadline_is_a_504_and_its_worker_serves_on(
    stage: Stage, tmp_path: Path
) -> None:
    # A worker under load may take longer than usual to look up; the grace is not what is tested here.
    async with stage.node(WORKER_GRACE="5000") as node, node.client("licensee") as licensee:
        await node.sell(counter(tmp_path / "models"))
        await licensee.infer("counter", tensor=[[2]])
        before = workers(node.pid)
        with pytest.raises(DeadlineExceeded) as late:
            await licensee.infer("counter", tensor=FOREVER, timeout_ms=300)
        assert (late.value.status, late.value.code) == (504, "deadline_exceeded")
        answer = await licensee.infer("counter", tensor=[[3]])
        assert numbers_of(answer.predictions) == [3]
        assert workers(node.pid) == before


async def test_a_worker_that_does_not_yield_is_replaced_while_other_slots_serve(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node, node.client("licensee") as licensee:
        await node.sell(times(tmp_path / "models", "double", 2))
        await node.sell(counter(tmp_path / "models"))
        await licensee.infer("double", tensor=[[1, 2, 3]])
        others = workers(node.pid)
        await licensee.infer("counter", tensor=[[2]])
        [slow] = workers(node.pid) - others
        loop = asyncio.get_running_loop()
        stop, longest = asyncio.Event(), 0.0

        async def keep_asking_another_slot() -> None:
            nonlocal longest
            while not stop.is_set():
                began = loop.time()
                await licensee.infer("double", tensor=[[1, 2, 3]])
                longest = max(longest, loop.time() - began)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(keep_asking_another_slot())
            ticks = cpu_ticks(slow)
            asking = asyncio.create_task(licensee.infer("counter", tensor=FOREVER, timeout_ms=3_000))

            async def computing() -> bool:
                return cpu_ticks(slow) > ticks + 5

            await eventually(computing, within=10)
            with Watched({slow}) as watched:
                os.kill(slow, signal.SIGSTOP)  # in the middle of a run, and deaf to every request to end it
                with pytest.raises(DeadlineExceeded) as late:
                    await asking
                told = loop.time()
                assert late.value.status == 504

                async def gone() -> bool:
                    return not watched.running()

                await eventually(gone, within=REPLACED_WITHIN)
            answer = await licensee.infer("counter", tensor=[[3]])
            assert numbers_of(answer.predictions) == [3]
            assert loop.time() - told < REPLACED_WITHIN
            stop.set()
        assert longest < 1.5  # nobody else waited for the one that hung
        assert others <= workers(node.pid)
