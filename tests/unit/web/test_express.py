"""What the express lane must have in common with the ordinary way, and what only it has to get right."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from node.errors import InvalidInput, NodeError
from node.types import Caller, InferenceRequest, InferenceResult
from node.web import answers
from node.web.keys import Limits
from node.web.schemas import ExecuteAnswer
from tests.fakes.flows import RESULT, TOKEN, FakeInfer
from tests.unit.web.conftest import AUTH, Served

URL = "/api/inference/execute"
BODY = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [0.5]}}
CONTENT = json.dumps(BODY).encode()
REQUEST = (
    f"POST {URL} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {TOKEN}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(CONTENT)}\r\n"
).encode()
VARYING = {"Date", "Server-Timing", "X-Request-ID"}
Settled = Callable[[InferenceResult | NodeError], None]


class HeldBack:
    """Stands for `Infer.begin`: keeps what it was asked until the test settles it."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[InferenceRequest, Settled]] = asyncio.Queue()
        self.given_up = asyncio.Event()

    def __call__(self, _caller: Caller, request: InferenceRequest, settled: Settled) -> Callable[[], None]:
        self.begun.put_nowait((request, settled))
        return self.given_up.set


@pytest.fixture
def held(node: Served, monkeypatch: pytest.MonkeyPatch) -> HeldBack:
    held = HeldBack()
    monkeypatch.setattr(type(node.fakes.infer), "begin", lambda _self, *given: held(*given))
    return held


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[InferenceRequest]:
    """`Infer.begin` answers by itself; what it was asked."""
    asked: list[InferenceRequest] = []

    def begin(_self: object, _caller: Caller, request: InferenceRequest, _: Settled) -> InferenceResult:
        asked.append(request)
        return RESULT

    monkeypatch.setattr(FakeInfer, "begin", begin)
    return asked


async def ordinary() -> None:
    """As `FakeInfer.before` it closes the express lane."""


async def test_both_ways_give_the_same_answer(node: Served) -> None:
    async with node.client.post(URL, json=BODY, headers=AUTH) as response:
        express = (dict(response.headers), await response.json())
    node.fakes.infer.before = ordinary
    async with node.client.post(URL, json=BODY, headers=AUTH) as response:
        usual = (dict(response.headers), await response.json())
    assert express[0].keys() == usual[0].keys()
    fixed = express[0].keys() - VARYING - {"Content-Length"}
    assert {name: express[0][name] for name in fixed} == {name: usual[0][name] for name in fixed}
    assert express[1] == usual[1]


async def test_both_ways_give_the_same_problem(node: Served, held: HeldBack) -> None:
    refusal = InvalidInput("not a tensor")
    request = asyncio.create_task(node.client.post(URL, json=BODY, headers=AUTH))
    _, settled = await held.begun.get()
    settled(refusal)
    response = await request
    express = (response.status, response.headers.keys(), await response.json())

    async def refuse() -> None:
        raise refusal

    node.fakes.infer.before = refuse
    origin = {"Origin": "https://elsewhere.example"}  # always the ordinary way
    async with node.client.post(URL, json=BODY, headers=AUTH | origin) as response:
        usual = (response.status, response.headers.keys(), await response.json())
    assert express[2] | {"request_id": ""} == usual[2] | {"request_id": ""}
    assert (express[0], set(express[1])) == (usual[0], set(usual[1]))


async def test_an_answer_that_is_there_at_once_is_the_same(
    node: Served, at_once: list[InferenceRequest]
) -> None:
    async with node.client.post(URL, json=BODY, headers=AUTH) as response:
        express = (response.headers.keys(), await response.json())
    async with node.client.post(URL, json=BODY, headers=AUTH | {"Origin": "https://a.example"}) as response:
        usual = (response.headers.keys(), await response.json())
    assert (set(express[0]), express[1]) == (set(usual[0]), usual[1])
    assert (len(at_once), node.state.running) == (1, 0)
    async with node.client.get("/metrics") as response:
        assert 'inference_requests_total{outcome="ok"} 2.0' in await response.text()


async def test_answers_at_once_keep_the_connection_as_others_do(
    serve: Callable[..., Any], at_once: list[InferenceRequest]
) -> None:
    limits = Limits(body_bytes=1000, publish_bytes=1, headers_seconds=0.2, keepalive_seconds=0.5)
    node: Served = await serve(limits=limits)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    for _ in range(3):
        writer.write(REQUEST + b"\r\n" + CONTENT)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert length is not None
        await reader.readexactly(int(length[1]))
    assert await asyncio.wait_for(reader.read(), 5) == b""  # it was idle, and not slow with its headers
    writer.close()
    assert len(at_once) == 3


@pytest.mark.parametrize("entropy", [0.31, None, [0.1, 0.2]])
def test_the_written_answer_is_the_described_one(entropy: float | list[float] | None) -> None:
    run = msgspec.structs.replace(RESULT.run, entropy=entropy)
    result = msgspec.structs.replace(RESULT, run=run)
    content, timing = answers.written(result)
    assert msgspec.json.decode(content, type=ExecuteAnswer) == msgspec.json.decode(
        answers.encode(answers.executed(result)), type=ExecuteAnswer
    )
    assert timing == answers.timing(run.timings)


async def test_pipelined_requests_are_answered_in_their_order(node: Served, held: HeldBack) -> None:
    def request(number: int, *more: str) -> bytes:
        head = "".join(f"{line}\r\n" for line in (f"X-Request-ID: number-{number}", *more))
        return REQUEST + head.encode() + b"\r\n" + CONTENT

    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(request(1))
    _, settled = await held.begun.get()
    writer.write(request(2) + request(3, "Connection: close"))
    await node.client.get("/health/live")  # a round trip, in which they arrive
    settled(RESULT)
    text = (await reader.read()).decode()
    writer.close()
    assert text.count("HTTP/1.1 200 OK") == 3
    assert text.index("number-1") < text.index("number-2") < text.index("number-3")


async def test_a_client_that_leaves_gives_its_inference_up(node: Served, held: HeldBack) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(REQUEST + b"\r\n" + CONTENT)
    await held.begun.get()
    assert node.state.running == 1
    writer.close()
    async with asyncio.timeout(5):
        await held.given_up.wait()
    assert node.state.running == 0


async def test_a_client_that_leaves_does_not_hold_up_the_end(node: Served, held: HeldBack) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(REQUEST + b"\r\n" + CONTENT)
    await held.begun.get()
    server = node.runner.server
    assert server is not None
    [connection] = server.connections
    ended = asyncio.create_task(connection.shutdown(60))
    await asyncio.sleep(0)
    writer.close()
    await asyncio.wait_for(ended, 10)


async def test_draining_waits_for_the_express_lane(node: Served, held: HeldBack) -> None:
    request = asyncio.create_task(node.client.post(URL, json=BODY, headers=AUTH))
    _, settled = await held.begun.get()
    drained = asyncio.create_task(node.state.drain(timeout=5))
    await asyncio.sleep(0)
    assert not drained.done()
    settled(RESULT)
    assert await drained
    assert (await request).status == 200


async def test_an_answer_that_cannot_be_written_is_our_fault(
    node: Served, held: HeldBack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_result: InferenceResult) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(answers, "written", broken)
    request = asyncio.create_task(node.client.post(URL, json=BODY, headers=AUTH))
    _, settled = await held.begun.get()
    settled(RESULT)
    response = await request
    assert (response.status, (await response.json())["code"]) == (500, "fault")
    assert "unexpected error" in caplog.text


async def test_an_answer_at_once_that_cannot_be_written_is_our_fault_too(
    node: Served, at_once: list[InferenceRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(answers, "written")
    async with node.client.post(URL, json=BODY, headers=AUTH) as response:
        assert (response.status, (await response.json())["code"]) == (500, "fault")
    assert (len(at_once), node.state.running) == (1, 0)


@pytest.mark.parametrize(
    "head", [b"Origin: https://a.example\r\n", b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n"]
)
async def test_requests_that_ask_for_more_take_the_ordinary_way(
    node: Served, held: HeldBack, head: bytes
) -> None:
    text = await node.raw(REQUEST + head + b"Connection: close\r\n\r\n" + CONTENT)
    assert text.startswith(b"HTTP/1.1 ")
    assert held.begun.empty()


async def test_a_body_that_comes_in_pieces_takes_the_ordinary_way(node: Served, held: HeldBack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(REQUEST + b"\r\n" + CONTENT[:10])
    await node.client.get("/health/live")  # a round trip, in which the first piece arrives
    writer.write(CONTENT[10:])
    assert b"200 OK" in await reader.readline()
    assert held.begun.empty()
    writer.close()
    await writer.wait_closed()
