"""One test for each request that is refused before it reaches a flow."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from node import logs
from node.types import Caller
from node.web.keys import Limits
from tests.fakes.flows import TOKEN
from tests.unit.web.conftest import AUTH, Served

URL = "/api/inference/execute"
JSON = AUTH | {"Content-Type": "application/json"}
VALID = b'{"model_id":"resnet18","input_data":{"format":"tensor","content":[1]}}'
SHORT = Limits(
    body_bytes=10_000,
    publish_bytes=10_000,
    headers_seconds=0.3,
    stall_seconds=0.3,
    body_seconds=0.6,
    keepalive_seconds=0.6,
    linger_seconds=0.05,
)
HEAD = f"POST {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    return document


def watch_entry(node: Served) -> asyncio.Event:
    """Set once a handler has looked up its caller, which is before it reads the body."""
    entered = asyncio.Event()
    session = node.fakes.authenticate.session

    def entering(token: str) -> Caller:
        entered.set()
        return session(token)

    node.fakes.authenticate.session = entering  # type: ignore[method-assign]
    return entered


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"hello", "not JSON"),
        (VALID + b" x", "not JSON"),
        (VALID.replace(b"[1]", b"NaN"), "not JSON"),
        (VALID.replace(b"[1]", b"[Infinity]"), "not JSON"),
        (VALID.replace(b"[1]", b"[-Infinity]"), "not JSON"),
        (VALID.replace(b"[1]", b"[1,]"), "not JSON"),
        (VALID.replace(b"resnet18", b"\xff\xfe"), "not UTF-8"),
        (VALID.replace(b"[1]", b'"\xc3\x28"'), "not UTF-8"),
        (VALID.replace(b"[1]", b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
        (VALID.replace(b"[1]", b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested too deeply"),
        (b"\xef\xbb\xbf" + VALID, "not JSON"),
        (VALID.decode().encode("utf-16"), "not UTF-8"),
    ],
)
async def test_400_for_what_is_not_json(node: Served, body: bytes, expected: str) -> None:
    async with node.client.post(URL, data=body, headers=JSON) as response:
        assert response.status == 400
        problem = await response.json()
    assert (problem["code"], problem["error"]) == ("malformed", "Malformed request")
    assert expected in problem["message"]
    assert node.fakes.infer.asked == []


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"', b"{}"])
async def test_422_for_json_of_another_shape(node: Served, body: bytes) -> None:
    async with node.client.post(URL, data=body, headers=JSON) as response:
        assert response.status == 422


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "json"]
)
async def test_415_for_another_content_type(node: Served, media: str) -> None:
    headers = AUTH | {"Content-Type": media}
    async with node.client.post(URL, data=VALID, headers=headers) as response:
        assert response.status == 415
        problem = await response.json()
    assert problem["accepted"] == ["application/json", "image/*", "multipart/form-data"]


async def test_415_without_content_type(node: Served) -> None:
    answer = await node.raw(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
    assert status_of(answer) == 415
    assert "missing" in problem_of(answer)["message"]


async def test_415_for_a_compressed_body(node: Served) -> None:
    headers = JSON | {"Content-Encoding": "gzip"}
    async with node.client.post(URL, data=b"\x1f\x8b", headers=headers) as response:
        assert response.status == 415


async def test_a_charset_does_not_matter(node: Served) -> None:
    headers = AUTH | {"Content-Type": "Application/JSON; charset=utf-8"}
    async with node.client.post(URL, data=VALID, headers=headers) as response:
        assert response.status == 200


async def test_413_before_the_body_is_read(serve: Callable[..., Any]) -> None:
    node: Served = await serve(max_body_bytes=1000)
    head = HEAD + b"Content-Type: application/json\r\nContent-Length: 1001\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head)
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)  # not one byte of the body was sent
    writer.close()
    assert status_of(answer) == 413
    assert b'"limit":1000' in answer


async def test_413_for_a_chunked_body_that_grows(serve: Callable[..., Any]) -> None:
    node: Served = await serve(max_body_bytes=1000)

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    async with node.client.post(URL, data=chunks(), headers=JSON) as response:
        assert response.status == 413


async def test_401_before_the_body_is_read(node: Served) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head + b"Authorization: Bearer nonsense\r\nContent-Length: 1000000\r\n\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    assert status_of(answer) == 401
    assert b"WWW-Authenticate: Bearer" in answer


async def test_100_continue_only_for_a_body_that_is_wanted(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=Limits(body_bytes=1000, publish_bytes=1, linger_seconds=0.05))
    head = HEAD + b"Content-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\n"
    refused = await node.raw(head.replace(TOKEN.encode(), b"x") + b"Content-Length: 70\r\n\r\n")
    assert status_of(refused) == 401
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head + f"Content-Length: {len(VALID)}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(VALID)
    assert status_of(await reader.read()) == 200
    writer.close()


async def test_401_without_authorization(node: Served) -> None:
    async with node.client.post(URL, data=VALID, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 401
        assert (await response.json())["code"] == "authentication_required"


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Lonja-EIP712", ""])
async def test_401_for_another_scheme(node: Served, header: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": header}
    async with node.client.post(URL, data=VALID, headers=headers) as response:
        assert response.status == 401


async def test_400_for_two_authorization_headers(node: Served) -> None:
    rest = f"Authorization: Bearer other\r\nContent-Type: application/json\r\nContent-Length: {len(VALID)}"
    answer = await node.raw(HEAD + rest.encode() + b"\r\nConnection: close\r\n\r\n" + VALID)
    assert status_of(answer) == 400
    assert "more than one Authorization" in problem_of(answer)["message"]


@pytest.mark.parametrize(
    ("method", "url", "allow"),
    [
        ("GET", URL, "OPTIONS, POST"),
        ("PUT", "/api/models", "GET, HEAD, OPTIONS"),
        ("POST", "/ipfs/bafkqaaa", "GET, HEAD, OPTIONS"),
        ("GET", "/api/auth/session", "DELETE, OPTIONS, POST"),
    ],
)
async def test_405_with_what_is_allowed(node: Served, method: str, url: str, allow: str) -> None:
    async with node.client.request(method, url) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)
        assert (await response.json())["allowed"] == allow.split(", ")


@pytest.mark.parametrize(
    "url", ["/", "/api", "/api/models/", "/wp-login.php", "/api/../etc/passwd", "/%00", "/ipfs/"]
)
async def test_404_for_what_is_not_there(node: Served, url: str) -> None:
    answer = await node.raw(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status_of(answer) == 404
    assert problem_of(answer)["code"] == "route_not_found"


async def test_431_for_a_header_that_is_too_long(node: Served) -> None:
    answer = await node.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 20_000 + b"\r\n\r\n")
    assert status_of(answer) == 431
    assert problem_of(answer)["code"] == "headers_too_large"
    assert b"aaaa" not in answer


async def test_431_for_too_many_headers(node: Served) -> None:
    many = b"".join(b"X-%d: 1\r\n" % index for index in range(200))
    answer = await node.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")
    assert status_of(answer) == 431


async def test_431_for_a_url_that_is_too_long(node: Served) -> None:
    answer = await node.raw(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(answer) == 431


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        HEAD
        + b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: "
        + b"0" * 4400
        + b"2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_400_for_what_is_not_http(node: Served, bytes_: bytes) -> None:
    answer = await node.raw(bytes_)
    assert status_of(answer) == 400
    assert problem_of(answer)["code"] == "malformed"


async def test_400_for_broken_chunks(node: Served) -> None:
    head = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status_of(await node.raw(head + b"zz\r\nhello\r\n")) == 400


async def test_400_for_chunks_that_break_while_they_are_read(
    node: Served, caplog: pytest.LogCaptureFixture
) -> None:
    entered = watch_entry(node)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
    await asyncio.wait_for(entered.wait(), 5)
    writer.write(b"helloworld\r\nzz\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert status_of(answer) == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_closes_a_connection_whose_headers_do_not_come(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    answer = await asyncio.wait_for(node.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "), 5)
    assert status_of(answer) == 408


async def test_dripping_headers_do_not_prolong_the_time(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")

    async def drip() -> None:
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.01)  # the drip itself is what is tested

    dripping = asyncio.ensure_future(drip())
    answer = b""
    try:
        with contextlib.suppress(ConnectionResetError):  # what drips after the close may reset the connection
            answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        dripping.cancel()
        writer.close()
    assert answer == b"" or status_of(answer) == 408


async def test_closes_a_connection_that_says_nothing(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    assert status_of(await asyncio.wait_for(node.raw(), 5)) == 408


async def test_closes_a_second_request_whose_headers_do_not_come(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=Limits(body_bytes=1, publish_bytes=1, headers_seconds=0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(await reader.readuntil(b"}")) == 200
    writer.write(b"GET /he")
    assert status_of(await asyncio.wait_for(reader.read(), 5)) == 408
    writer.close()


async def test_closes_an_idle_connection(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    answer = await asyncio.wait_for(node.raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"), 5)
    assert status_of(answer) == 200


async def test_408_for_a_body_that_stalls(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    head = HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    answer = await asyncio.wait_for(node.raw(head + b'{"model'), 10)
    assert status_of(answer) == 408
    assert problem_of(answer)["code"] == "too_slow"


async def test_408_for_a_body_that_drips(serve: Callable[..., Any]) -> None:
    node: Served = await serve(limits=SHORT)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HEAD + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)  # the drip itself is what is tested

    dripping = asyncio.ensure_future(drip())
    try:
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    finally:
        dripping.cancel()
        writer.close()
    assert status_of(answer) == 408


async def test_a_client_that_leaves_in_mid_body_is_no_fault(
    node: Served, caplog: pytest.LogCaptureFixture
) -> None:
    entered = watch_entry(node)
    _reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await asyncio.wait_for(entered.wait(), 5)
    writer.close()
    assert await node.state.drain(timeout=5)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("value", ["100", "id-1.2_3"])
async def test_keeps_a_sane_request_id(node: Served, value: str) -> None:
    async with node.client.get("/health/live", headers={"X-Request-ID": value}) as response:
        assert response.headers["X-Request-ID"] == value


@pytest.mark.parametrize("value", ["", "a b", "x" * 65, 'a"b', "ünicode", "<script>"])
async def test_replaces_any_other_request_id(node: Served, value: str) -> None:
    async with node.client.get("/nowhere", headers={"X-Request-ID": value}) as response:
        given = response.headers["X-Request-ID"]
        assert (await response.json())["request_id"] == given
    assert len(given) == 16
    assert given != value


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/models/%ff HTTP/1.1",
        b"GET /api/models/\xff HTTP/1.1",
        b"GET /api/models?search=%ff%fe HTTP/1.1",
        b"GET /api/models?%ff=1 HTTP/1.1",
        b"GET /%ff%00%0a HTTP/1.1",
        b"GET /api/models/%ed%a0%80 HTTP/1.1",
        b"GET /ipfs/%ff?format=raw HTTP/1.1",
        b"GET /ipfs/bafkqaaa?format=%ff HTTP/1.1",
        b"GET /ipfs/bafkqaaa HTTP/1.1\r\nAccept: \xff",
        b"GET /ipfs/bafkqaaa?format=raw HTTP/1.1\r\nIf-None-Match: \xff",
        b"GET /api/models HTTP/1.1\r\nOrigin: \xff",
        b"GET /api/models HTTP/1.1\r\nX-Request-ID: \xff",
        b"GET /api/licenses/x HTTP/1.1\r\nAuthorization: \xff",
        b"GET /api/licenses/x HTTP/1.1\r\nAuthorization: Bearer \xff",
        b"POST /api/auth/session HTTP/1.1\r\nContent-Type: \xff",
        b"POST /api/auth/session HTTP/1.1\r\nContent-Type: application/json\r\nContent-Encoding: \xff",
        HEAD.rstrip() + b"\r\nContent-Type: image/png\r\nX-Model-ID: \xff",
        HEAD.rstrip() + b"\r\nContent-Type: image/png\r\nX-Model-ID: a\r\nX-Inference-Options: \xff",
        HEAD.rstrip() + b"\r\nContent-Type: multipart/form-data; boundary=\xff",
        HEAD.rstrip() + b"\r\nContent-Type: image/png; \xff",
    ],
)
@pytest.mark.parametrize("production", [True, False])
async def test_bytes_that_are_no_text_are_no_fault(
    node: Served, head: bytes, production: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = io.StringIO()
    handler = logging.StreamHandler(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    handler.setFormatter(logs.JsonLines() if production else logs.ReadableLines(colour=False))
    handler.handleError = lambda record: shown.write(str(record.__dict__))  # type: ignore[method-assign]
    logging.getLogger("node.web").addHandler(handler)
    logging.getLogger("node.web").setLevel(logging.INFO)
    try:
        body = b"\r\nContent-Length: 1\r\n\r\n{" if head.startswith(b"POST") else b"\r\n\r\n"
        host = b"" if b"Host" in head else b"\r\nHost: x"
        answer = await node.raw(head + host + b"\r\nConnection: close" + body)
    finally:
        logging.getLogger("node.web").removeHandler(handler)
        logging.getLogger("node.web").setLevel(logging.NOTSET)
    assert status_of(answer) < 500
    assert shown.getvalue() == ""


async def test_a_form_field_whose_name_is_no_text_is_no_fault(node: Served) -> None:
    headers = AUTH | {"Content-Type": "multipart/form-data; boundary=b"}
    form = b'--b\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\nx\r\n--b--\r\n'
    async with node.client.post(URL, data=form, headers=headers) as response:
        assert response.status == 422
        assert "Unknown form field" in (await response.json())["message"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 200),
        (
            b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n",
            200,
        ),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n", 404),
        (b"TRACE /health/live HTTP/1.1\r\nHost: x\r\n", 405),
    ],
)
async def test_what_other_protocols_ask_for_is_answered_plainly(
    node: Served, head: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head + b"\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    assert status_of(answer) == status


async def test_503_when_too_much_unproven_content_arrives_at_once(serve: Callable[..., Any]) -> None:
    limits = Limits(body_bytes=10_000, publish_bytes=1, unproven_bytes=10_000, linger_seconds=0.05)
    node: Served = await serve(limits=limits)
    signed = {"Authorization": "Lonja-EIP712 x", "Content-Type": "application/json"}
    head = HEAD.replace(f"Bearer {TOKEN}".encode(), b"Lonja-EIP712 x") + b"Content-Type: application/json\r\n"
    _reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head + b"Content-Length: 9990\r\n\r\n")
    await writer.drain()
    async with asyncio.timeout(5):
        while True:  # the first has no sign that it was seen but that others are refused
            async with node.client.post(URL, data=VALID, headers=signed) as response:
                if response.status == 503:
                    assert (await response.json())["code"] == "overloaded"
                    break
    async with node.client.post(URL, data=VALID, headers=JSON) as response:
        assert response.status == 200
    writer.close()
    assert await node.state.drain(timeout=5)
    node.state.draining = False
    async with node.client.post(URL, data=VALID, headers=signed) as response:
        assert response.status == 200
