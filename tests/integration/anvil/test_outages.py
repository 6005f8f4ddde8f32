"""A node whose chain goes away: what callers are told meanwhile, and that it comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lonja import AsyncClient
from lonja.errors import ApiError, ChainUnavailable, Denied, LicenseMissing
from tests.conftest import Services
from tests.eventually import eventually
from tests.fakes.anvil import Anvil
from tests.fakes.rpc import RpcPeer
from tests.integration.small_models import times
from tests.integration.stage import Node, Stage

pytestmark = [pytest.mark.service("anvil"), pytest.mark.timeout(180)]

PATIENT = {"LICENSE_TTL": "1", "LICENSE_NEGATIVE_TTL": "0.2", "RPC_TIMEOUT": "500"}
"""Decisions are remembered shortly, so that the outage shows at once and not after half a minute."""


@pytest.fixture
def anvil(services: Services, tmp_path: Path) -> Iterator[Anvil]:
    chain = Anvil(services.path("anvil"), state=tmp_path / "chain.json")
    chain.start()
    yield chain
    chain.stop()


async def asked(client: AsyncClient) -> ApiError | None:
    """One inference: None where it succeeded, else how it was refused."""
    try:
        await client.infer("double", tensor=[[1, 2, 3]])
    except ApiError as error:
        return error
    return None


@asynccontextmanager
async def serving(stage: Stage, tmp_path: Path, **settings: str) -> AsyncIterator[Node]:
    async with stage.node(**(PATIENT | settings)) as node:
        await node.sell(times(tmp_path / "models", "double", 2))
        yield node


async def test_the_rpc_killed_and_back(anvil: Anvil, tmp_path: Path) -> None:
    stage = await Stage.on(anvil.url, tmp_path)
    async with (
        serving(stage, tmp_path) as node,
        node.client("licensee") as licensee,
        node.client("stranger") as stranger,
        node.client("operator") as newcomer,
    ):
        assert await asked(licensee) is None
        assert isinstance(await asked(stranger), LicenseMissing)
        pid = node.pid

        await asyncio.to_thread(anvil.stop)
        answers: list[ApiError | None] = []

        async def down() -> bool:
            answers.append(await asked(licensee))
            return answers[-1] is not None and isinstance(await asked(stranger), ChainUnavailable)

        await eventually(down, within=10)  # until then remembered decisions may serve
        for client in (licensee, stranger, newcomer) * 3:  # the newcomer signs in during the outage
            answers.append(await asked(client))
            assert answers[-1] is not None
        for answer in answers:
            assert answer is None or type(answer) is ChainUnavailable
            assert answer is None or (answer.status, answer.code) == (503, "chain_unavailable")
            assert answer is None or (answer.retry_after or 0) >= 1
        status, body = await node.get("/health/ready")
        assert status == 503
        assert b'"chain":"ok"' not in body.replace(b" ", b"")
        assert (await node.get("/health/live"))[0] == 200

        await asyncio.to_thread(anvil.start)

        async def back() -> bool:
            return await asked(licensee) is None

        await eventually(back, within=30)
        for client in (stranger, newcomer):
            assert isinstance(await asked(client), LicenseMissing)

        async def ready() -> bool:
            return (await node.get("/health/ready"))[0] == 200

        await eventually(ready, within=5)  # the last probe is remembered for a moment
        assert node.pid == pid
        await events_flow(node, licensee)


async def events_flow(node: Node, licensee: AsyncClient) -> None:
    """A new revision is heard of, which only an event tells."""
    again = times(node.data / "again", "double", 2, padding=64)
    async with node.client("publisher") as publisher:
        model = await publisher.model("double")
    await node.publish(again, offer=None, update=int(model.token_id))
    answer = await licensee.infer("double", tensor=[[1, 2, 3]])
    assert answer.metadata.revision == 2


async def test_the_second_rpc_takes_over_without_a_failed_request(anvil: Anvil, tmp_path: Path) -> None:
    stage = await Stage.on(anvil.url, tmp_path)
    async with (
        RpcPeer(behind=anvil.url) as first,
        RpcPeer(behind=anvil.url) as second,
        serving(stage, tmp_path, AVALANCHE_RPC_URL=f"{first.url},{second.url}", LICENSE_TTL="0.1") as node,
        node.client("licensee") as licensee,
        node.client("stranger") as stranger,
    ):
        for mode in ("broken", "hang", "garbage", "status-500"):
            first.mode = mode
            before = second.methods["eth_call"]

            async def taken_over(before: int = before) -> bool:
                assert await asked(licensee) is None
                assert isinstance(await asked(stranger), LicenseMissing)
                return second.methods["eth_call"] >= before + 3

            await eventually(taken_over, within=20)

        # Now the other way round. Until the first has been found well again there may be none: 503, no no.
        first.mode, second.mode = "ok", "broken"

        async def back() -> bool:
            answer = await asked(licensee)
            assert not isinstance(answer, Denied)
            return answer is None and first.methods["eth_call"] > before_swap

        before_swap = first.methods["eth_call"]
        await eventually(back, within=40)
