"""What stops a start, in words that an operator can use, and how a node ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import aiohttp
import pytest

from lonja.errors import NodeUnreachable, ShuttingDown
from tests.eventually import eventually
from tests.fakes.rpc import RpcPeer
from tests.integration.small_models import counter
from tests.integration.stage import Stage, lonja, numbers_of
from tests.processes import Watched, descendants

pytestmark = pytest.mark.timeout(120)

SECRET = "hunter2"


def with_secrets(url: str) -> str:
    """The URL as providers hand it out: with a user, a key in the path and one in the query."""
    return url.replace("http://", f"http://user:{SECRET}@") + f"/{SECRET}?key={SECRET}"


async def refusal(stage: Stage, **settings: str) -> str:
    """The last line that a node says which does not start."""
    data = stage.folder / "refused"
    data.mkdir(exist_ok=True)
    ended: subprocess.CompletedProcess[str] = await lonja(
        "serve", settings=stage.settings(data) | settings, cwd=data
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert SECRET not in ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


async def test_a_wrong_chain_id(stage: Stage) -> None:
    url = with_secrets(stage.rpc_url)
    said = await refusal(stage, AVALANCHE_RPC_URL=url, CHAIN_ID="43114")
    for part in (stage.rpc_url, "31337", "43114", "CHAIN_ID"):
        assert part in said


async def test_an_address_without_a_contract(stage: Stage) -> None:
    nothing = "0x" + "11" * 20
    url = with_secrets(stage.rpc_url)
    said = await refusal(stage, AVALANCHE_RPC_URL=url, CONTRACT_ADDRESS=nothing)
    for part in (stage.rpc_url, nothing, "CONTRACT_ADDRESS", "no contract"):
        assert part in said


@pytest.mark.parametrize("mode", ["garbage", "html"])
async def test_an_rpc_that_answers_garbage(stage: Stage, mode: str) -> None:
    async with RpcPeer(behind=stage.rpc_url) as peer:
        peer.mode = mode
        said = await refusal(stage, AVALANCHE_RPC_URL=f"{stage.rpc_url},{with_secrets(peer.url)}")
    assert peer.url in said


async def test_an_rpc_that_is_not_there(stage: Stage, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert url in await refusal(stage, AVALANCHE_RPC_URL=with_secrets(url))


async def test_a_second_node_on_the_same_data(stage: Stage) -> None:
    async with stage.node("taken") as first:
        said = await refusal(stage, DATA_DIR=str(first.data))
        for part in (f"DATA_DIR={first.data}", f"process {first.pid}", "own"):
            assert part in said
        assert (await first.get("/health/ready"))[0] == 200
    async with stage.node("taken"):
        pass  # and once the first has ended, its place is free


async def test_sigterm_finishes_what_runs_takes_nothing_new_and_exits_with_0(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.node() as node, node.client("licensee") as licensee:
        await node.sell(counter(tmp_path / "models"))
        await licensee.infer("counter", tensor=[[1]])
        asking = asyncio.create_task(licensee.infer("counter", tensor=[[1_500_000]]))

        async def running() -> bool:
            return await node.running() == 1

        await eventually(running, within=10)
        with Watched(descendants(node.pid)) as family:
            os.kill(node.pid, signal.SIGTERM)

            async def draining() -> bool:
                try:
                    return (await node.get("/health/ready"))[0] == 503
                except aiohttp.ClientConnectionError:
                    return True

            await eventually(draining, within=10)
            with pytest.raises((ShuttingDown, NodeUnreachable)):
                await licensee.infer("counter", tensor=[[1]])
            assert not asking.done()
            assert numbers_of((await asking).predictions) == [1_500_000]
            assert await node.process.wait() == 0
            assert family.running() == set()
