"""Before the flows exist, while they run, and while the node drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from node.web.handlers.health import Readiness
from node.web.keys import NodeState
from tests.fakes.flows import FakeFlows
from tests.unit.web.conftest import AUTH, Served

BODY = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}


async def status_of(node: Served, url: str) -> tuple[int, dict[str, Any]]:
    async with node.client.get(url) as response:
        return response.status, await response.json()


async def test_lives_before_it_is_ready(serve: Callable[..., Any]) -> None:
    node: Served = await serve(ready=False)
    assert await status_of(node, "/health/live") == (200, {"status": "ok"})
    status, health = await status_of(node, "/health/ready")
    assert (status, health["status"], health["checks"]) == (503, "starting", {"flows": "starting"})
    assert (await status_of(node, "/health"))[0] == 200


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/api/models"),
        ("POST", "/api/inference/execute"),
        ("POST", "/api/auth/nonce"),
        ("GET", "/ipfs/bafkqaaa?format=raw"),
    ],
)
async def test_asks_for_patience_before_it_is_ready(serve: Callable[..., Any], method: str, url: str) -> None:
    node: Served = await serve(ready=False)
    async with node.client.request(method, url) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert (await response.json())["code"] == "starting"
    node.state.flows = node.fakes.flows
    async with node.client.get("/api/models") as response:
        assert response.status == 200


async def test_is_ready_when_every_part_is(node: Served) -> None:
    status, health = await status_of(node, "/health/ready")
    assert (status, health["status"]) == (200, "ok")
    assert health["checks"] == {"chain": "ok", "store": "ok", "workers": "ok"}


async def test_is_not_ready_when_a_part_is_not(node: Served) -> None:
    node.fakes.readiness.parts["chain"] = "no RPC answers"
    status, health = await status_of(node, "/health/ready")
    assert (status, health["status"], health["checks"]["chain"]) == (503, "degraded", "no RPC answers")
    assert (await status_of(node, "/health"))[0] == 200


async def test_health_answers_even_when_readiness_cannot_be_told(
    node: Served, caplog: pytest.LogCaptureFixture
) -> None:
    node.fakes.readiness.fail_with = RuntimeError("secret")
    status, health = await status_of(node, "/health/ready")
    assert (status, health["status"]) == (503, "degraded")
    assert "secret" not in str(health)
    assert "readiness could not be told" in caplog.text


async def test_many_probes_ask_the_parts_once_a_second() -> None:
    fakes, now = FakeFlows(), 100.0
    state = NodeState(flows=fakes.flows)
    readiness = Readiness(state, lambda: now)
    await asyncio.gather(*(readiness() for _ in range(50)))
    assert fakes.readiness.asked == 1
    now += 1.0
    await readiness()
    assert fakes.readiness.asked == 2


async def test_drains_what_runs_and_refuses_what_is_new(node: Served) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        entered.set()
        await release.wait()

    node.fakes.infer.before = hold
    running = asyncio.ensure_future(node.client.post("/api/inference/execute", json=BODY, headers=AUTH))
    await entered.wait()
    drained = asyncio.ensure_future(node.state.drain(timeout=10))
    await asyncio.sleep(0)
    async with node.client.get("/api/models") as response:
        assert response.status == 503
        assert response.headers["Connection"] == "close"
        assert (await response.json())["code"] == "shutting_down"
    assert (await status_of(node, "/health/live"))[0] == 200
    assert (await status_of(node, "/health/ready"))[1]["status"] == "draining"
    assert not drained.done()
    release.set()
    async with await running as response:
        assert response.status == 200
        assert response.headers["Connection"] == "close"
    assert await drained is True


async def test_draining_gives_up_in_time() -> None:
    assert await NodeState(running=1).drain(timeout=0.01) is False


async def test_draining_an_idle_node_is_done_at_once() -> None:
    assert await NodeState().drain(timeout=0) is True
