"""A node whose only gateway is Kubo's, and Kubo is killed in the middle of a download."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lonja.errors import GatewayUnavailable
from lonja.publishing import ToKubo
from tests.eventually import eventually
from tests.fakes.kubo import KuboDaemon
from tests.fakes.relay import Relay
from tests.integration.small_models import times
from tests.integration.stage import Stage, numbers_of

pytestmark = [
    pytest.mark.service("kubo"),
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # as in test_ipfs_kubo.py
]

MIB = 2**20
BIG = 48 * MIB


async def test_a_gateway_killed_in_mid_download_is_a_503_and_the_rest_is_fetched_later(
    kubo: KuboDaemon, stage: Stage, tmp_path: Path
) -> None:
    big = times(tmp_path / "models", "big", 2, padding=BIG)
    async with (
        Relay(kubo.gateway, after=BIG // 2) as relay,
        stage.node(IPFS_GATEWAYS=relay.url, IPFS_STALL_TIMEOUT="60000") as node,
        node.client("licensee") as licensee,
    ):
        await node.sell(big, to=ToKubo(kubo.api))
        asking = asyncio.create_task(licensee.infer("big", tensor=[[1, 2, 3]]))
        await relay.reached.wait()
        kubo.kill()
        relay.open.set()
        with pytest.raises(GatewayUnavailable) as broken:
            await asking
        assert (broken.value.status, broken.value.code) == (503, "gateway_unavailable")
        assert (broken.value.retry_after or 0) >= 1
        assert (await node.get("/health/ready"))[0] == 200  # what it has, it serves
        got = relay.passed

        await asyncio.to_thread(kubo.start)

        async def answer() -> list[float]:
            return numbers_of((await licensee.infer("big", tensor=[[1, 2, 3]])).predictions)

        assert await eventually(answer, within=60, ignoring=GatewayUnavailable) == [2, 4, 6]
        assert got > BIG // 2
        assert relay.passed < BIG + 4 * MIB
