"""Models through the slots: who leaves, what a new revision does to requests, who gets whose answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.integration.small_models import counter, times
from tests.integration.stage import Stage, numbers_of
from tests.processes import workers

pytestmark = pytest.mark.timeout(180)

COUNT = 30_000
MISSION = ("resnet18", "mobilenet", "efficientnet", "vgg16")


async def test_four_models_through_three_slots(stage: Stage, tmp_path: Path) -> None:
    async with stage.node(MAX_MODELS_IN_MEMORY="3") as node, node.client("licensee") as licensee:
        tokens = {
            name: await node.sell(times(tmp_path / "models", name, factor))
            for factor, name in enumerate(MISSION, start=2)
        }

        async def after_loading(name: str) -> list[str]:
            loaded = await licensee.load(tokens[name])
            assert (loaded.model_id, loaded.slots.max_size) == (name, 3)
            assert loaded.slots.current_size == len(loaded.slots.models_in_cache)
            return loaded.slots.models_in_cache

        assert await after_loading("resnet18") == ["resnet18"]
        assert await after_loading("mobilenet") == ["resnet18", "mobilenet"]
        assert await after_loading("efficientnet") == ["resnet18", "mobilenet", "efficientnet"]
        assert await after_loading("vgg16") == ["mobilenet", "efficientnet", "vgg16"]
        assert (await licensee.model("resnet18")).resident is False

        # A use counts as well as a load, and whoever comes back takes the place of the one unused longest.
        await licensee.infer("mobilenet", tensor=[[1, 2, 3]])
        assert await after_loading("vgg16") == ["efficientnet", "mobilenet", "vgg16"]
        answer = await licensee.infer("resnet18", tensor=[[1, 2, 3]])
        assert numbers_of(answer.predictions) == [2, 4, 6]
        assert await after_loading("resnet18") == ["mobilenet", "vgg16", "resnet18"]

        async def three_workers() -> bool:
            return len(workers(node.pid)) == 3

        await eventually(three_workers, within=10)


async def test_fifty_clients_over_four_models_get_no_wrong_answer(stage: Stage, tmp_path: Path) -> None:
    factors = {name: float(factor) for factor, name in enumerate(MISSION, start=2)}
    async with stage.node(MAX_MODELS_IN_MEMORY="3") as node:
        for name, factor in factors.items():
            await node.sell(times(tmp_path / "models", name, factor))

        async def one(number: int) -> None:
            async with node.client("licensee") as client:
                for turn in range(8):
                    name = MISSION[(number + turn) % len(MISSION)]
                    row = [float(number), float(turn), -1.0]
                    answer = await client.infer(name, tensor=[row])
                    assert answer.model_id == name
                    assert numbers_of(answer.predictions) == [factors[name] * each for each in row]

        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(one(number))
        assert await node.figure("model_evictions_total") > 4  # they did push each other out all the while


async def test_new_revisions_under_load_fail_no_request_and_never_go_back(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node:
        # Each run takes a while, so that there are always some under way when the worker is replaced.
        token = await node.sell(counter(tmp_path / "1", "grows", step=1))
        newest = asyncio.Event()
        answers: list[list[int]] = [[] for _ in range(8)]

        async def keep_asking(seen: list[int]) -> None:
            async with node.client("licensee") as client:
                while not (newest.is_set() and seen[-1] == 3):
                    answer = await client.infer("grows", tensor=[[COUNT]])
                    assert numbers_of(answer.predictions) == [COUNT * answer.metadata.revision]
                    seen.append(answer.metadata.revision)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for seen in answers:
                group.create_task(keep_asking(seen))
            for step in (2, 3):
                changed = counter(tmp_path / str(step), "grows", step=step)
                await node.publish(changed, offer=None, update=token)
            newest.set()

        for seen in answers:
            assert seen == sorted(seen)
        assert {revision for seen in answers for revision in seen} == {1, 2, 3}

        async def one_worker() -> bool:
            return len(workers(node.pid)) == 1

        await eventually(one_worker, within=10)
