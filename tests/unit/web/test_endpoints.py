"""Every endpoint but inference and the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from node.cid import Cid
from node.web.keys import Limits
from tests.fakes.flows import ENTRY, LICENSEE, MANIFEST_CID, TOKEN
from tests.unit.web.conftest import AUTH, Served


async def test_loads_a_model(node: Served) -> None:
    body = {"tokenId": "1", "metadataCid": str(MANIFEST_CID), "warmup": True}
    async with node.client.post("/api/models/load", json=body, headers=AUTH) as response:
        assert response.status == 200
        assert await response.json() == {
            "success": True,
            "model_id": "resnet18",
            "message": "ResNet-18 is loaded",
            "load_time_ms": 152.0,
            "cacheStatus": {"current_size": 1, "max_size": 3, "models_in_cache": ["resnet18"]},
        }
    caller, token_id, cid, warmup = node.fakes.load_model.asked[0]
    assert (caller.address, token_id, cid, warmup) == (LICENSEE, 1, MANIFEST_CID, True)


async def test_loads_a_model_by_its_token_alone(node: Served) -> None:
    async with node.client.post("/api/models/load", json={"tokenId": 1}, headers=AUTH) as response:
        assert response.status == 200
    assert node.fakes.load_model.asked[0][1:] == (1, None, False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"tokenId": "one"}, "$.tokenId"),
        ({"tokenId": -1}, "$.tokenId"),
        ({"tokenId": str(2**256)}, "uint256"),
        ({"tokenId": "1", "metadataCid": "../../etc"}, "metadataCid is not a CID"),
        ({"token_id": "1"}, "token_id"),
        ({}, "tokenId"),
    ],
)
async def test_names_what_is_wrong_with_a_load(node: Served, body: dict[str, object], expected: str) -> None:
    async with node.client.post("/api/models/load", json=body, headers=AUTH) as response:
        assert response.status == 422
        assert expected in (await response.json())["message"]


async def test_pages_the_catalogue(node: Served) -> None:
    url = f"/api/models?search=res&owner={LICENSEE}&offset=10&limit=5"
    async with node.client.get(url) as response:
        answer = await response.json()
    assert (answer["total"], answer["offset"], answer["limit"]) == (1, 10, 5)
    assert answer["models"][0]["id"] == str(ENTRY.key)
    assert node.fakes.browse.asked == [{"search": "res", "owner": LICENSEE, "offset": 10, "limit": 5}]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "offset=-1", "offset=1e3", "owner=me", "page=2", "limit=1&limit=2",
     "limit=٣", "search=" + "x" * 201],
)  # fmt: skip
async def test_refuses_a_query_that_it_does_not_understand(node: Served, query: str) -> None:
    async with node.client.get(f"/api/models?{query}") as response:
        assert response.status == 422
        assert (await response.json())["code"] == "invalid_input"


async def test_lists_the_begin_of_a_long_description_and_shows_all_of_it_with_its_model(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = "é" * 65_536
    monkeypatch.setattr("tests.fakes.flows.ENTRY", msgspec.structs.replace(ENTRY, description=whole))
    async with node.client.get("/api/models") as response:
        assert (await response.json())["models"][0]["description"] == "é" * 499 + "…"
    async with node.client.get("/api/models/resnet18") as response:
        assert (await response.json())["description"] == whole


@pytest.mark.parametrize("name", ["resnet18", str(ENTRY.key)])
async def test_shows_one_model(node: Served, name: str) -> None:
    async with node.client.get(f"/api/models/{name}") as response:
        answer = await response.json()
    assert answer["offers"] == [
        {"offer_id": "1", "price": str(10**16), "currency": "0x" + "0" * 40, "duration": 2592000}
    ]
    assert (answer["resident"], answer["weights"]["bytes"]) == (True, 700)


async def test_does_not_know_a_model(node: Served) -> None:
    async with node.client.get("/api/models/nope") as response:
        assert response.status == 404
        assert (await response.json())["error"] == "Model not found"


async def test_shows_the_callers_license(node: Served) -> None:
    async with node.client.get("/api/licenses/resnet18", headers=AUTH) as response:
        assert await response.json() == {
            "model_id": "resnet18",
            "token_id": "1",
            "licensee": LICENSEE,
            "valid": True,
            "perpetual": False,
            "expires_at": 1_800_000_000,
        }


async def test_a_perpetual_license_has_no_end(node: Served) -> None:
    async with node.client.get("/api/licenses/perpetual", headers=AUTH) as response:
        answer = await response.json()
    assert (answer["perpetual"], answer["expires_at"]) == (True, None)


async def test_a_license_needs_a_caller(node: Served) -> None:
    async with node.client.get("/api/licenses/resnet18") as response:
        assert response.status == 401
        assert "Bearer" in response.headers["WWW-Authenticate"]


async def test_gives_a_nonce(node: Served) -> None:
    async with node.client.post("/api/auth/nonce") as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert (await response.json())["nonce"] == "8dTzr6ZPbXbWqFbW"


async def test_opens_and_closes_a_session(node: Served) -> None:
    body = {"message": "dapp.example wants you to sign in", "signature": "0x12"}
    async with node.client.post("/api/auth/session", json=body) as response:
        assert response.status == 200
        answer = await response.json()
    assert answer == {"token": TOKEN, "address": LICENSEE, "expires_at": 1_800_000_900}
    async with node.client.delete("/api/auth/session", headers=AUTH) as response:
        assert (response.status, await response.read()) == (204, b"")
    assert node.fakes.sign_in.closed == [TOKEN]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"message": "x", "signature": "0xbad"}, 401, "signature_invalid"),
        ({"message": "used", "signature": "0x12"}, 409, "nonce_reused"),
        ({"message": "x", "signature": "hello"}, 422, "invalid_input"),
        ({"message": "x"}, 422, "invalid_input"),
    ],
)
async def test_refuses_a_bad_sign_in(node: Served, body: dict[str, str], status: int, code: str) -> None:
    async with node.client.post("/api/auth/session", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)


async def test_closing_a_session_needs_its_token(node: Served) -> None:
    async with node.client.delete("/api/auth/session") as response:
        assert response.status == 401


async def test_takes_a_car(node: Served) -> None:
    content = b"car" * 100_000
    headers = AUTH | {"Content-Type": "application/vnd.ipld.car; version=1"}
    async with node.client.post("/api/publish", data=content, headers=headers) as response:
        assert response.status == 201
        assert await response.json() == {"success": True, "roots": [str(MANIFEST_CID)]}
    assert (node.fakes.publish.received, node.fakes.publish.size) == (content, len(content))


async def test_stops_a_car_that_grows_past_the_limit(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=Limits(body_bytes=1000, publish_bytes=5000))

    async def endless() -> Any:
        for _ in range(10):
            yield b"x" * 1000

    headers = AUTH | {"Content-Type": "application/vnd.ipld.car"}
    async with node.client.post("/api/publish", data=endless(), headers=headers) as response:
        assert response.status == 413
    assert node.fakes.publish.received == b""


async def test_a_signature_cannot_publish(node: Served) -> None:
    headers = {"Content-Type": "application/vnd.ipld.car", "Authorization": "Lonja-EIP712 address=0x1"}
    async with node.client.post("/api/publish", data=b"car", headers=headers) as response:
        assert response.status == 401
        assert "/api/auth/session" in (await response.json())["message"]


async def test_serves_metrics_of_closed_label_sets(node: Served) -> None:
    await node.client.get("/no/such/place")
    await node.client.request("BREW", "/api/models")
    await node.client.get("/api/models/nope")
    async with node.client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = await response.text()
    assert 'http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'http_requests_total{method="GET",route="/api/models/{id}",status="404"} 1.0' in text
    assert "BREW" not in text
    assert "nope" not in text
    assert "http_requests_running 1.0" in text
    for name in ("inference_queue_depth", "model_resident_bytes"):
        assert name in text


async def test_counts_inferences_by_outcome(node: Served) -> None:
    body = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}
    await node.client.post("/api/inference/execute", json=body, headers=AUTH)
    await node.client.post("/api/inference/execute", json=body)
    async with node.client.get("/metrics") as response:
        text = await response.text()
    assert 'inference_requests_total{outcome="ok"} 1.0' in text
    assert 'inference_requests_total{outcome="authentication_required"} 1.0' in text
    assert "inference_execute_seconds_count 1.0" in text


async def test_counts_how_many_requests_shared_a_run(node: Served) -> None:
    async def ordinary() -> None:
        """Closes the express lane."""

    body = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}
    await node.client.post("/api/inference/execute", json=body, headers=AUTH)
    node.fakes.infer.before = ordinary
    await node.client.post("/api/inference/execute", json=body, headers=AUTH)
    async with node.client.get("/metrics") as response:
        text = await response.text()
    assert 'inference_batch_size_bucket{le="2"} 0.0' in text
    assert 'inference_batch_size_bucket{le="4"} 2.0' in text
    assert "inference_batch_size_sum 8.0" in text


async def test_two_nodes_in_one_process_count_apart(serve: Callable[..., Any]) -> None:
    one, other = await serve(), await serve()
    await one.client.get("/health/live")
    async with other.client.get("/metrics") as response:
        assert 'route="/health/live"' not in await response.text()


def test_cids_of_the_fakes_are_real() -> None:
    assert Cid.parse(str(MANIFEST_CID)) == MANIFEST_CID
