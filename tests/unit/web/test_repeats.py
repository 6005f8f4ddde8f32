"""Requests with a head that came before: what parsing them would have given, for any bytes and any cut."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from node.types import Caller, InferenceRequest
from node.web.repeats import Repeat, exact
from tests.fakes.flows import RESULT, TOKEN, FakeInfer
from tests.unit.web.conftest import Served

URL = "/api/inference/execute"


def head(length: int | str, *, extra: str = "", name: str = "Content-Length") -> bytes:
    return (
        f"POST {URL} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {TOKEN}\r\n{name}: {length}\r\n"
        f"Content-Type: application/json\r\n{extra}\r\n"
    ).encode()


def body(mark: int, size: int = 1) -> bytes:
    return json.dumps(
        {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [mark] * size}}
    ).encode()


def parsed(data: bytes) -> RawRequestMessage:
    loop = asyncio.get_running_loop()
    [(message, _)], _, _ = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(data)
    return message


def marks(node: Served) -> list[int]:
    """The first number of each request that was begun, in their order."""
    return [json.loads(bytes(request.payload.content))[0] for _, request in node.fakes.infer.asked]


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[bytes]:
    """What aiohttp was given to parse."""
    fed: asyncio.Queue[bytes] = asyncio.Queue()
    feed = RequestHandler.data_received

    def data_received(self: RequestHandler, data: bytes) -> None:
        fed.put_nowait(data)
        feed(self, data)

    monkeypatch.setattr(RequestHandler, "data_received", data_received)
    return fed


class Line:
    """A connection to the node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.write, self._writer = reader, writer.write, writer

    async def answer(self) -> int:
        """The status of one answer, which is read whole."""
        text = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        length = re.search(rb"Content-Length: (\d+)", text)
        assert length is not None
        await self._reader.readexactly(int(length[1]))
        return int(text.split()[1])

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def line(node: Served) -> AsyncIterator[Line]:
    line = Line(*await asyncio.open_connection("127.0.0.1", node.port))
    yield line
    await line.close()


@pytest.fixture(params=["worker", "at once"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come a moment later, or at once."""
    if request.param == "at once":
        usual = FakeInfer.begin

        def begin(self: FakeInfer, caller: Caller, asked: InferenceRequest, settled: Any) -> Any:
            give_up = usual(self, caller, asked, settled)
            if give_up is not None:
                give_up()
            return give_up and RESULT

        monkeypatch.setattr(FakeInfer, "begin", begin)


async def test_a_head_that_comes_again_is_not_parsed_whatever_the_length(
    node: Served, line: Line, fed: asyncio.Queue[bytes]
) -> None:
    for mark, size in enumerate((1, 1, 400, 2)):
        sent = body(mark, size)
        line.write(head(len(sent)) + sent)
        assert await line.answer() == 200
    assert (marks(node), fed.qsize()) == ([0, 1, 2, 3], 1)


async def test_a_head_is_known_again_where_the_first_request_came_with_the_connection(
    node: Served, fed: asyncio.Queue[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, start = asyncio.Event(), RequestHandler.start

    async def late(self: RequestHandler) -> None:
        await begun.wait()
        await start(self)

    monkeypatch.setattr(RequestHandler, "start", late)
    line = Line(*await asyncio.open_connection("127.0.0.1", node.port))
    line.write(head(len(body(0))) + body(0))
    await asyncio.wait_for(fed.get(), 10)
    begun.set()
    assert await line.answer() == 200
    for mark in (1, 2, 3):
        line.write(head(len(body(mark))) + body(mark))
        assert await line.answer() == 200
    await line.close()
    assert (marks(node), fed.qsize()) == ([0, 1, 2, 3], 1)


async def test_what_the_express_lane_does_not_take_is_parsed(
    node: Served, line: Line, fed: asyncio.Queue[bytes]
) -> None:
    other = body(1).replace(b"resnet18", b"vgg16")
    for sent, status in ((body(0), 200), (b"{", 400), (body(1), 200), (other, 404), (body(2), 200)):
        line.write(head(len(sent)) + sent)
        assert await line.answer() == status
    assert fed.qsize() == 5
    assert marks(node) == [0, 1, 1, 2]


async def test_a_length_of_thousands_of_digits_is_not_kept(line: Line, fed: asyncio.Queue[bytes]) -> None:
    for _ in range(2):
        line.write(head("0" * 4400 + str(len(body(1)))) + body(1))
        assert await line.answer() == 200
    assert fed.qsize() == 2


async def test_another_head_is_parsed(node: Served, line: Line) -> None:
    usual = head(len(body(1)))
    stranger = usual.replace(TOKEN.encode(), b"x" * len(TOKEN))
    for start, status in ((usual, 200), (stranger, 401), (usual, 200)):
        line.write(start + body(1))
        assert await line.answer() == status
    assert marks(node) == [1, 1]


@pytest.mark.parametrize("begun", [head(5).partition(b"Host")[0] + b"X-Begun: ", b"P"])
@pytest.mark.parametrize("apart", [True, False])
async def test_what_follows_a_begun_request_is_its_rest(
    line: Line, fed: asyncio.Queue[bytes], *, begun: bytes, apart: bool
) -> None:
    """Equal bytes in the midst of a request are not another request."""
    whole = head(len(body(1))) + body(1)
    line.write(whole)
    assert await line.answer() == 200
    line.write(whole if apart else whole + begun)
    assert await line.answer() == 200
    if apart:
        line.write(begun)
    while not (await asyncio.wait_for(fed.get(), 10)).endswith(begun):
        pass
    line.write(whole)
    # they are the value of a header, or behind a P no method
    taken = b"X-Begun" in begun
    assert await line.answer() == (200 if taken else 400)
    if taken:
        line.write(whole)  # its head meant more than its bytes say: not to be kept
        assert await line.answer() == 200
        assert [fed.get_nowait() for _ in range(fed.qsize())] == [whole, whole]


@pytest.mark.parametrize("seed", range(10))
async def test_any_cut_of_a_stream_of_requests_gives_the_same(node: Served, line: Line, seed: int) -> None:
    rng = random.Random(seed)
    names = ("Content-Length", "content-length", "CONTENT-LENGTH")
    stream, name, ends = b"", rng.choice(names), []
    for mark in range(30):
        if rng.random() < 0.2:
            name = rng.choice(names)
        sent = body(mark, rng.choice((1, 1, 3, 40)))
        length = f"{len(sent):0{rng.choice((1, 1, 5))}d}"
        stream += head(length, name=name, extra=rng.choice(("", "", "X-A: 1\r\n"))) + sent
        ends.append(len(stream))
    cuts = sorted({*rng.sample(ends, 25), *rng.sample(range(1, len(stream)), rng.choice((0, 5, 40)))})
    asked = 0
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        line.write(stream[begin:end])
        whole = sum(at <= end for at in ends)
        for _ in range(whole - asked if rng.random() < 0.8 else 0):
            assert await line.answer() == 200
            asked += 1
    for _ in range(30 - asked):
        assert await line.answer() == 200
    assert marks(node) == list(range(30))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(5) + b"hello" + b"G", id="bytes behind"),
        pytest.param(head(5, extra="Connection: close\r\n") + b"hello", id="close"),
        pytest.param(head(5, extra="Upgrade: x\r\nConnection: upgrade\r\n") + b"hello", id="upgrade"),
    ],
)
async def test_what_is_not_exactly_one_request_is_not_kept(data: bytes) -> None:
    loop = asyncio.get_running_loop()
    messages, _, _ = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(
        data[: data.find(b"hello") + 5]
    )
    assert exact(data, messages[0][0]) is None


async def test_a_body_is_found_only_behind_the_same_head() -> None:
    known = exact(head(5) + b"hello", parsed(head(5) + b"hello"))
    assert isinstance(known, Repeat)
    assert known.body(head(5) + b"olleh") == b"olleh"
    assert known.body(head(11) + b"hello world") == b"hello world"
    for other in (
        head(5) + b"hell",
        head(5) + b"hellos",
        head("+5") + b"hello",
        head(" 5") + b"hello",
        head("5_0") + b"hello",
        head("٥") + b"hello",
        head("") + b"hello",
        head("0" * 18 + "5") + b"hello",
        head(5, name="Content-length") + b"hello",
        head(5, extra="Transfer-Encoding: chunked\r\n") + b"hello",
        head(5).replace(b"\r\n", b"\n") + b"hello",
        b"\r\n" + head(5) + b"hello",
    ):
        assert known.body(other) is None
