"""kill -9, of the node and of what belongs to it, at the worst moments."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from lonja import AsyncClient
from lonja.errors import ApiError, NodeUnreachable, WorkerCrashed
from tests.eventually import eventually
from tests.fakes.relay import Relay
from tests.integration.small_models import FOREVER, counter, times
from tests.integration.stage import Node, Stage, gateway, lonja, numbers_of
from tests.processes import Watched, descendants, workers

pytestmark = pytest.mark.timeout(180)

MIB = 2**20
BIG = 24 * MIB
PATIENT = {"IPFS_STALL_TIMEOUT": "60000"}
"""A download that a test holds up is not given up."""


async def token_of(client: AsyncClient) -> str:
    """The bare session token, so that a test sees whether that very session lives on."""
    headers = await client.signer().by_session("", "", b"")
    return headers["Authorization"]


async def execute(node: Node, model: str, authorization: str) -> int:
    """The status of one inference with a session token and nothing else."""
    body = {"model_id": model, "input_data": {"format": "tensor", "content": [[1, 2, 3]]}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{node.url}/api/inference/execute", json=body, headers={"Authorization": authorization}
        ) as answer,
    ):
        return answer.status


def bytes_on_disk(folder: Path) -> int:
    """What the files in a folder really take up."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def until_busy(node: Node, *, requests: int = 1) -> None:
    """Wait until that many inferences are with the workers."""

    async def busy() -> bool:
        return await node.running() == requests

    await eventually(busy, within=20)


async def until_ended(watched: Watched, *, within: float) -> None:
    async def ended() -> bool:
        return not watched.running()

    await eventually(ended, within=within)


async def test_a_node_killed_in_mid_download_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    big = times(tmp_path / "models", "big", 2, padding=BIG)
    async with (
        gateway(tmp_path / "gateway") as (source, to_gateway),
        Relay(source.url, after=BIG // 2) as relay,
        stage.node(IPFS_GATEWAYS=relay.url, **PATIENT) as node,
        node.client("licensee") as licensee,
    ):
        made = await node.publish(big, to=to_gateway)
        assert made.token_id is not None
        await licensee.buy(made.token_id)
        authorization = await token_of(licensee)
        asking = asyncio.create_task(licensee.infer("big", tensor=[[1, 2, 3]]))
        await relay.reached.wait()

        async def arrived() -> bool:  # what was still on its way would have to be sent again
            return bytes_on_disk(node.data) > BIG // 2 - MIB

        await eventually(arrived, within=30, ignoring=OSError)
        with Watched(descendants(node.pid)) as family:
            await node.kill()
            with pytest.raises(NodeUnreachable):
                await asking
            await until_ended(family, within=5)

        settings = stage.settings(node.data)
        checked = await lonja("store", "verify", "--json", settings=settings, cwd=tmp_path)
        assert (checked.returncode, json.loads(checked.stdout)["corrupt"]) == (0, [])
        listed = await lonja("store", "list", "--json", settings=settings, cwd=tmp_path)
        assert made.metadata_cid in listed.stdout
        assert made.weights_cid not in listed.stdout

        relay.open.set()
        await node.start()
        assert await execute(node, "big", authorization) == 200
        assert relay.passed < BIG + 4 * MIB  # from the beginning again would be half as much more
        listed = await lonja("store", "list", "--json", settings=settings, cwd=tmp_path)
        assert made.weights_cid in listed.stdout


async def test_a_node_killed_in_mid_inference_leaves_no_process_and_starts_again(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node, node.client("licensee") as licensee:
        await node.sell(times(tmp_path / "models", "double", 2))
        await node.sell(counter(tmp_path / "models"))
        await licensee.infer("double", tensor=[[1, 2, 3]])
        authorization = await token_of(licensee)
        asking = asyncio.create_task(licensee.infer("counter", tensor=FOREVER))
        await until_busy(node)
        with Watched(descendants(node.pid)) as family:
            assert len(workers(node.pid)) == 2
            await node.kill()
            with pytest.raises(NodeUnreachable):
                await asking
            await until_ended(family, within=5)
        await node.start()
        assert await execute(node, "double", authorization) == 200


async def test_a_worker_killed_in_mid_inference_is_one_500_and_the_others_serve_on(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node, node.client("licensee") as licensee:
        await node.sell(times(tmp_path / "models", "double", 2))
        await node.sell(counter(tmp_path / "models"))
        await licensee.infer("double", tensor=[[1, 2, 3]])
        others = workers(node.pid)
        await licensee.infer("counter", tensor=[[3]])
        [victim] = workers(node.pid) - others

        stop = asyncio.Event()
        served = 0

        async def keep_asking_another_slot() -> None:
            nonlocal served
            while not stop.is_set():
                answer = await licensee.infer("double", tensor=[[served, 0, 0]])
                assert numbers_of(answer.predictions) == [2 * served, 0, 0]
                served += 1

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(keep_asking_another_slot())
            asking = asyncio.create_task(licensee.infer("counter", tensor=FOREVER))
            await until_busy_worker(victim)
            before = served
            os.kill(victim, signal.SIGKILL)
            with pytest.raises(WorkerCrashed) as crashed:
                await asking
            assert (crashed.value.status, crashed.value.code) == (500, "worker_crashed")
            answer = await licensee.infer("counter", tensor=[[4]])  # one failure, and no second one
            assert numbers_of(answer.predictions) == [4]
            stop.set()
        assert served > before
        assert victim not in workers(node.pid)
        assert others <= workers(node.pid)


async def until_busy_worker(pid: int) -> None:
    from tests.processes import cpu_ticks

    before = cpu_ticks(pid)

    async def working() -> bool:
        return cpu_ticks(pid) > before + 10

    await eventually(working, within=20)


async def test_a_worker_killed_in_mid_download_of_another_model_stops_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    big = times(tmp_path / "models", "big", 2, padding=BIG)
    async with (
        gateway(tmp_path / "gateway") as (source, to_gateway),
        Relay(source.url, after=BIG // 2) as relay,
        stage.node(IPFS_GATEWAYS=relay.url, **PATIENT) as node,
        node.client("licensee") as licensee,
    ):
        await node.sell(times(tmp_path / "models", "triple", 3))
        await node.sell(big, to=to_gateway)
        await licensee.infer("triple", tensor=[[1, 2, 3]])
        [victim] = workers(node.pid)
        asking = asyncio.create_task(licensee.infer("big", tensor=[[1, 2, 3]]))
        await relay.reached.wait()
        os.kill(victim, signal.SIGKILL)

        async def replaced() -> bool:
            return bool(workers(node.pid) - {victim})

        await eventually(replaced, within=20)  # without anybody asking for it
        relay.open.set()
        assert numbers_of((await asking).predictions) == [2, 4, 6]
        answer = await licensee.infer("triple", tensor=[[1, 2, 3]])
        assert numbers_of(answer.predictions) == [3, 6, 9]
        assert relay.passed < BIG + 2 * MIB


async def test_the_process_that_starts_workers_is_killed_and_the_node_serves_again(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node, node.client("licensee") as licensee:
        await node.sell(times(tmp_path / "models", "double", 2))
        await licensee.infer("double", tensor=[[1, 2, 3]])
        with Watched(workers(node.pid)) as old:
            [forkserver] = descendants(node.pid) - workers(node.pid)
            os.kill(forkserver, signal.SIGKILL)

            async def served() -> bool:
                answer = await licensee.infer("double", tensor=[[1, 2, 3]])
                return numbers_of(answer.predictions) == [2, 4, 6]

            await eventually(served, within=20, ignoring=ApiError)
            await until_ended(old, within=5)
