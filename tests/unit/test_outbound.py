from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from node.errors import InputTooLarge, InvalidInput, UrlFetchFailed
from node.outbound import GuardedFetcher, is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "104.16.0.1",
        "172.15.255.255",
        "172.32.0.0",
        "2606:4700::1111",
        "2a00:1450:4001::1",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
        "",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


class Names(AbstractResolver):
    """Answers as it is told, one answer after the other, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None: ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[TestServer]]]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> TestServer:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"hello", content_type="image/png")


async def get(url: str, fetcher: GuardedFetcher, **how: float) -> object:
    try:
        limit, timeout = int(how.get("limit", 1000)), how.get("timeout", 5.0)
        return await fetcher.get(url, limit=limit, timeout=timeout, accept="image/*")
    finally:
        await fetcher.close()


def near(server: TestServer, *answers: list[str]) -> GuardedFetcher:
    """A fetcher for which loopback is public, and one private network remains."""
    return GuardedFetcher(
        ports=[server.port or 0],
        allowed=lambda address: address == "127.0.0.1",
        resolver=Names(*(answers or (["127.0.0.1"],))),
    )


async def test_a_picture_is_fetched(serve) -> None:  # type: ignore[no-untyped-def]
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(
            f"{request.headers['Accept']} {request.headers['Accept-Encoding']} {request.headers['Host']}"
        )
        return await hello(request)

    server = await serve(handler)
    fetched = await get(f"http://pictures.example:{server.port}/x.png#part", near(server))
    assert fetched.body == b"hello"
    assert fetched.content_type == "image/png"
    assert fetched.final_url == f"http://pictures.example:{server.port}/x.png"
    assert seen == [f"image/* identity pictures.example:{server.port}"]


async def test_a_name_is_resolved_once(serve) -> None:  # type: ignore[no-untyped-def]
    """DNS rebinding: a second answer, were it asked for, would be another."""
    server = await serve(hello)
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    fetcher = GuardedFetcher(
        ports=[server.port], allowed=lambda address: address == "127.0.0.1", resolver=names
    )
    await get(f"http://pictures.example:{server.port}/", fetcher)
    assert names.asked == 1


async def test_a_name_with_any_private_address_is_refused(serve) -> None:  # type: ignore[no-untyped-def]
    server = await serve(hello)
    fetcher = near(server, ["127.0.0.1", "10.0.0.1"])
    with pytest.raises(InvalidInput, match="does not lead to a public address"):
        await get(f"http://pictures.example:{server.port}/", fetcher)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "https://192.168.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
    ],
)
async def test_private_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"not (lead to )?a public address"):
        await get(url, GuardedFetcher())


@pytest.mark.parametrize(
    "url", ["http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/"]
)
async def test_other_spellings_of_loopback_lead_nowhere(url: str) -> None:
    with pytest.raises((InvalidInput, UrlFetchFailed)):
        await get(url, GuardedFetcher())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "http://"),
        ("ftp://example.org/x", "http://"),
        ("gopher://example.org/x", "http://"),
        ("data:text/plain,x", "http://"),
        ("//example.org/x", "http://"),
        ("", "http://"),
        ("http://", "http://"),
        ("http://user:secret@example.org/", "user name"),
        ("http://example.org:22/", "port 22"),
        ("http://example.org:6379/", "port 6379"),
        ("http://example.org:99999/", "cannot be read"),
        ("http://example.org/" + "x" * 3000, "longer"),
    ],
)
async def test_urls_that_are_not_fetched(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        await get(url, GuardedFetcher())
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("http://10.0.0.1/", "not a public address"),
        ("http://169.254.169.254/", "not a public address"),
        ("file:///etc/passwd", "http://"),
        ("http://user:x@other.example/", "user name"),
        ("http://other.example:22/", "port 22"),
    ],
)
async def test_each_redirect_is_checked_again(serve, target: str, says: str) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target})

    server = await serve(handler)
    with pytest.raises(InvalidInput, match=says):
        await get(f"http://pictures.example:{server.port}/", near(server))


async def test_a_redirect_to_a_name_that_leads_inside_is_refused(serve) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"http://inside.example:{request.url.port}/"})

    server = await serve(handler)
    with pytest.raises(InvalidInput, match=r"inside\.example does not lead"):
        await get(f"http://pictures.example:{server.port}/", near(server, ["127.0.0.1"], ["10.0.0.1"]))


async def test_a_redirect_is_followed(serve) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            raise web.HTTPMovedPermanently("/new")
        return await hello(request)

    server = await serve(handler)
    fetched = await get(f"http://pictures.example:{server.port}/old", near(server))
    assert fetched.final_url.endswith("/new")


async def test_a_redirect_in_a_circle_ends(serve) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/again")

    server = await serve(handler)
    with pytest.raises(UrlFetchFailed, match="more than 5 times"):
        await get(f"http://pictures.example:{server.port}/", near(server))


@pytest.mark.parametrize("chunked", [True, False])
async def test_the_size_is_bounded(serve, chunked: bool) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if chunked:
            answer.enable_chunked_encoding()
        else:
            answer.content_length = 1001
        await answer.prepare(request)
        await answer.write(bytes(1001))
        return answer

    server = await serve(handler)
    with pytest.raises(InputTooLarge, match=r"1000|1001"):
        await get(f"http://pictures.example:{server.port}/", near(server), limit=1000)


async def test_a_length_of_thousands_of_digits_is_refused() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 4400 + b"5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fetcher = GuardedFetcher(ports=[port], allowed=lambda _address: True, resolver=Names(["127.0.0.1"]))
        with pytest.raises(InputTooLarge, match="0000 bytes"):
            await get(f"http://pictures.example:{port}/", fetcher)


async def test_compressed_answers_are_refused(serve) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(bytes(10**6)), headers={"Content-Encoding": "gzip"})

    server = await serve(handler)
    with pytest.raises(UrlFetchFailed, match="Content-Encoding"):
        await get(f"http://pictures.example:{server.port}/", near(server))


async def test_the_time_is_bounded_even_where_bytes_drip(serve) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(b"x")
            await asyncio.sleep(0.01)
        return answer

    server = await serve(handler)
    with pytest.raises(UrlFetchFailed, match=r"within 0\.2 s"):
        await get(f"http://pictures.example:{server.port}/", near(server), timeout=0.2)


@pytest.mark.parametrize("status", [204, 404, 500])
async def test_other_statuses_are_failures(serve, status: int) -> None:  # type: ignore[no-untyped-def]
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    server = await serve(handler)
    with pytest.raises(UrlFetchFailed, match=f"status {status}"):
        await get(f"http://pictures.example:{server.port}/", near(server))


async def test_a_host_that_is_down_is_said() -> None:
    fetcher = GuardedFetcher(ports=[1], allowed=lambda _: True, resolver=Names(["127.0.0.1"]))
    with pytest.raises(UrlFetchFailed, match=r"pictures\.example cannot be reached"):
        await get("http://pictures.example:1/", fetcher)
