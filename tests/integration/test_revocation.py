"""How long a license that is over still opens the door, when no event tells of its end.

The bound is 30 s then: the time for which a decision is remembered (LICENSE_TTL). These nodes remember for
two seconds only, so that the tests need not wait for half a minute. What happens while events flow stands in
`test_end_to_end.py` and `anvil/test_chain_anvil.py`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lonja import AsyncClient
from lonja.errors import LicenseExpired
from node.settings import Settings
from tests.eventually import eventually
from tests.fakes.rpc import RpcPeer
from tests.integration.small_models import times
from tests.integration.stage import Stage

pytestmark = pytest.mark.timeout(120)

TTL = 2.0
ROOM = 2.0
"""Seconds for a busy machine to answer one request."""


def no_logs(_parameters: object) -> dict[str, object]:
    return {"error": {"code": -32000, "message": "eth_getLogs is out of order"}}


async def refused(client: AsyncClient) -> LicenseExpired | None:
    try:
        await client.infer("double", tensor=[[1, 2, 3]])
    except LicenseExpired as error:
        return error
    return None


def test_what_is_promised_without_events_is_the_default() -> None:
    assert Settings().license_ttl == 30.0


async def test_without_events_a_revocation_is_honoured_when_the_decision_has_aged(
    stage: Stage, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        RpcPeer(behind=stage.rpc_url) as peer,
        stage.node(AVALANCHE_RPC_URL=peer.url, LICENSE_TTL=str(TTL)) as node,
        node.client("licensee") as licensee,
        node.client("publisher") as publisher,
    ):
        token = await node.sell(times(tmp_path / "models", "double", 2))
        peer.override["eth_getLogs"] = no_logs
        asked = peer.methods["eth_getLogs"]
        await licensee.infer("double", tensor=[[1, 2, 3]])
        await publisher.revoke(token, licensee.address)
        revoked = loop.time()
        assert (await licensee.license(token)).valid is False
        error = await eventually(lambda: refused(licensee), within=TTL + ROOM)
        assert (error.status, error.code) == (403, "license_expired")
        assert loop.time() - revoked < TTL + ROOM
        assert peer.methods["eth_getLogs"] > asked  # it wanted events, and had none


async def test_events_shorten_what_a_decision_would_be_remembered_for(stage: Stage, tmp_path: Path) -> None:
    async with (
        stage.node(LICENSE_TTL="600") as node,
        node.client("licensee") as licensee,
        node.client("publisher") as publisher,
    ):
        token = await node.sell(times(tmp_path / "models", "double", 2))
        await licensee.infer("double", tensor=[[1, 2, 3]])
        await publisher.revoke(token, licensee.address)
        await eventually(lambda: refused(licensee), within=3.0)


async def test_a_license_ends_by_the_node_s_clock_while_the_chain_stands_still(
    stage: Stage, tmp_path: Path
) -> None:
    """No block is made after the purchase, so no block's time ever passes the end of the license."""
    async with stage.node(LICENSE_CLOCK_TOLERANCE="1") as node, node.client("licensee") as licensee:
        made = await node.publish(times(tmp_path / "models", "double", 2), offer="price=0,seconds=3")
        assert made.token_id is not None
        bought = await licensee.buy(made.token_id)
        await licensee.infer("double", tensor=[[1, 2, 3]])
        error = await eventually(lambda: refused(licensee), within=3 + 1 + ROOM)
        assert error.code == "license_expired"
        latest = await stage.rpc("eth_getBlockByNumber", "latest", False)
        assert bought.expires_at is not None
        assert int(latest["timestamp"], 16) < bought.expires_at


async def test_buying_again_after_the_end_opens_the_door_again(stage: Stage, tmp_path: Path) -> None:
    async with stage.node(LICENSE_NEGATIVE_TTL="0.5") as node, node.client("licensee") as licensee:
        made = await node.publish(times(tmp_path / "models", "double", 2), offer="price=0.01,seconds=600")
        assert made.token_id is not None
        await licensee.buy(made.token_id)
        await licensee.infer("double", tensor=[[1, 2, 3]])
        async with node.client("publisher") as publisher:
            await publisher.revoke(made.token_id, licensee.address)
        await eventually(lambda: refused(licensee), within=5)
        await licensee.buy(made.token_id)

        async def served() -> bool:
            return (await licensee.infer("double", tensor=[[1, 2, 3]])).success

        await eventually(served, within=5, ignoring=LicenseExpired)
