from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import FormData

from node.addresses import keccak256
from node.errors import DeadlineExceeded
from node.types import CallerScheme
from tests.fakes.flows import LICENSEE, MANIFEST_CID, STRANGERS_TOKEN
from tests.unit.web.conftest import AUTH, Served

URL = "/api/inference/execute"


def body(**changes: object) -> dict[str, object]:
    return {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [0.5] * 16}} | changes


async def test_answers_a_json_request_with_the_members_of_the_interface(node: Served) -> None:
    async with node.client.post(URL, json=body(), headers=AUTH) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert await response.json() == {
            "success": True,
            "model_id": "resnet18",
            "predictions": [{"class": "golden_retriever", "confidence": 0.9234, "class_id": 207}],
            "metrics": {
                "inference_time_ms": 45.0,
                "preprocessing_time_ms": 18.0,
                "postprocessing_time_ms": 3.0,
                "total_time_ms": 66.0,
            },
            "metadata": {
                "token_id": "1",
                "revision": 1,
                "manifest_cid": str(MANIFEST_CID),
                "entropy": 0.31,
            },
        }


async def test_passes_content_on_as_the_json_text_that_came(node: Served) -> None:
    text = b'{"model_id":"resnet18","input_data":{"format":"tensor","content": [1.50, 2e1 ]}}'
    headers = AUTH | {"Content-Type": "application/json"}
    async with node.client.post(URL, data=text, headers=headers) as response:
        assert response.status == 200
    caller, asked = node.fakes.infer.asked[0]
    assert (bytes(asked.payload.content), asked.payload.encoding) == (b"[1.50, 2e1 ]", "json")
    assert caller.address == LICENSEE


async def test_passes_options_on(node: Served) -> None:
    options = {"top_k": 5, "threshold": 0.1, "timeout": 30000}
    await node.client.post(URL, json=body(options=options), headers=AUTH)
    given = node.fakes.infer.asked[0][1].options
    assert (given.top_k, given.threshold, given.timeout) == (5, 0.1, 30000)


async def test_passes_a_url_to_the_flow_unfetched(node: Served) -> None:
    data = {"format": "url", "content": "https://example.org/cat.jpeg"}
    await node.client.post(URL, json=body(input_data=data), headers=AUTH)
    payload = node.fakes.infer.asked[0][1].payload
    assert (payload.format, json.loads(bytes(payload.content))) == ("url", "https://example.org/cat.jpeg")


async def test_takes_a_raw_image_with_the_model_in_the_query(node: Served) -> None:
    headers = AUTH | {"Content-Type": "image/jpeg"}
    url = f"{URL}?model_id=43113:{'0x00000000000000000000000000000000000000E5'}:1&top_k=3&threshold=0.2"
    async with node.client.post(url, data=b"\xff\xd8\xff", headers=headers) as response:
        assert response.status == 200
    asked = node.fakes.infer.asked[0][1]
    assert (asked.payload.format, bytes(asked.payload.content), asked.payload.encoding) == (
        "image",
        b"\xff\xd8\xff",
        "binary",
    )
    assert (asked.options.top_k, asked.options.threshold) == (3, 0.2)


async def test_takes_a_raw_image_with_the_model_in_headers(node: Served) -> None:
    headers = AUTH | {
        "Content-Type": "image/png",
        "X-Model-ID": "resnet18",
        "X-Inference-Options": '{"top_k": 2}',
    }
    async with node.client.post(URL, data=b"png", headers=headers) as response:
        assert response.status == 200
    assert node.fakes.infer.asked[0][1].options.top_k == 2


async def test_takes_a_multipart_form(node: Served) -> None:
    form = FormData()
    form.add_field("model_id", "resnet18")
    form.add_field("options", '{"top_k": 4}')
    form.add_field("file", b"\x89PNG\r\n\x1a\n\r\n--x", filename="a.png", content_type="image/png")
    async with node.client.post(URL, data=form, headers=AUTH) as response:
        assert response.status == 200
    asked = node.fakes.infer.asked[0][1]
    assert asked.payload.content == b"\x89PNG\r\n\x1a\n\r\n--x"
    assert (asked.payload.format, asked.options.top_k) == ("image", 4)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_id": "resnet18"}, "no part 'file'"),
        ({"file": "x"}, "model_id is missing"),
        ({"file": "x", "model_id": "resnet18", "colour": "red"}, "Unknown form field 'colour'"),
        ({"file": "x", "model_id": "resnet18", "top_k": "many"}, "$.top_k"),
        ({"file": "x", "model_id": "resnet18", "top_k": "1", "options": "{}"}, "not both"),
    ],
)
async def test_names_what_is_wrong_with_a_form(node: Served, fields: dict[str, str], expected: str) -> None:
    form = FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    async with node.client.post(URL, data=form, headers=AUTH) as response:
        assert response.status == 422
        assert expected in (await response.json())["message"]


async def test_refuses_a_form_without_end(node: Served) -> None:
    headers = AUTH | {"Content-Type": "multipart/form-data; boundary=b"}
    data = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nxyz'
    async with node.client.post(URL, data=data, headers=headers) as response:
        assert response.status == 400


async def test_refuses_a_form_without_boundary(node: Served) -> None:
    headers = AUTH | {"Content-Type": "multipart/form-data"}
    async with node.client.post(URL, data=b"--b\r\n\r\n--b--", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "malformed"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"modelid": "x"}, "`modelid`"),
        ({"options": {"topk": 1}}, "`topk` - at `$.options`"),
        ({"options": {"top_k": "5"}}, "`$.options.top_k`"),
        ({"options": {"top_k": 0}}, "`$.options.top_k`"),
        ({"options": {"threshold": 1.5}}, "`$.options.threshold`"),
        ({"options": {"timeout": -1}}, "`$.options.timeout`"),
        ({"input_data": {"format": "tensor"}}, "`content` - at `$.input_data`"),
        ({"input_data": {"format": 1, "content": 1}}, "`$.input_data.format`"),
        ({"model_id": 7}, "`$.model_id`"),
        ({"execution_mode": "later"}, "`$.execution_mode`"),
    ],
)
async def test_names_the_member_that_is_wrong(node: Served, changes: dict[str, object], path: str) -> None:
    async with node.client.post(URL, json=body(**changes), headers=AUTH) as response:
        assert response.status == 422
        problem = await response.json()
    assert problem["code"] == "invalid_input"
    assert path in problem["message"]
    assert node.fakes.infer.asked == []


async def test_says_that_async_is_not_served_yet(node: Served) -> None:
    async with node.client.post(URL, json=body(execution_mode="async"), headers=AUTH) as response:
        assert response.status == 422
        problem = await response.json()
    assert problem["code"] == "unsupported_mode"
    assert "async" in problem["message"]


async def test_refuses_who_holds_no_license(node: Served) -> None:
    headers = {"Authorization": f"Bearer {STRANGERS_TOKEN}"}
    async with node.client.post(URL, json=body(), headers=headers) as response:
        assert response.status == 403
        problem = await response.json()
    assert problem["error"] == "No valid license"
    assert problem["token_id"] == "1"


async def test_does_not_know_the_model(node: Served) -> None:
    async with node.client.post(URL, json=body(model_id="nope"), headers=AUTH) as response:
        assert response.status == 404
        problem = await response.json()
    assert problem["error"] == "Model not found"
    assert "/api/models" in problem["suggestion"]


async def test_tells_the_stages_in_server_timing(node: Served) -> None:
    async with node.client.post(URL, json=body(), headers=AUTH) as response:
        timing = response.headers["Server-Timing"]
    assert timing.startswith("total;dur=")
    assert "run;dur=45.000" in timing
    assert "pre;dur=18.000" in timing


async def test_hands_a_signature_the_hash_of_the_body(node: Served) -> None:
    header = "Lonja-EIP712 address=0x1,nonce=n,deadline=1,signature=0x2"
    text = json.dumps(body()).encode()
    headers = {"Authorization": header, "Content-Type": "application/json"}
    async with node.client.post(f"{URL}?a=1", data=text, headers=headers) as response:
        assert response.status == 200
    assert node.fakes.authenticate.signed == [
        {"header": header, "method": "POST", "path": f"{URL}?a=1", "body_hash": keccak256(text)}
    ]
    assert node.fakes.infer.asked[0][0].scheme is CallerScheme.SIGNATURE


async def test_hashes_a_large_body_the_same(node: Served) -> None:
    text = json.dumps(body(input_data={"format": "tensor", "content": "x" * 200_000})).encode()
    headers = {"Authorization": "Lonja-EIP712 x", "Content-Type": "application/json"}
    async with node.client.post(URL, data=text, headers=headers) as response:
        assert response.status == 200
    assert node.fakes.authenticate.signed[0]["body_hash"] == keccak256(text)


async def test_tells_a_deadline_apart_from_a_fault(node: Served) -> None:
    async def late() -> None:
        raise DeadlineExceeded("No answer within 30000 ms.")

    node.fakes.infer.before = late
    async with node.client.post(URL, json=body(), headers=AUTH) as response:
        assert response.status == 504


async def test_a_client_that_goes_away_cancels_its_request(node: Served) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    node.fakes.infer.before = hang
    task = asyncio.ensure_future(node.client.post(URL, json=body(), headers=AUTH))
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_lists_formats_limits_and_models(node: Served) -> None:
    async with node.client.get("/api/inference/formats") as response:
        told = await response.json()
    assert {"base64_jpeg", "image", "tensor", "url"} <= {each["name"] for each in told["formats"]}
    assert told["limits"]["body_bytes"] == 32 * 2**20
    assert told["models"][0]["model_id"] == "resnet18"
