"""A trustless gateway on loopback that can be told to misbehave in every way that gateways do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from node.cid import Cid
from node.errors import ContentNotFound
from node.ipfs.store import BlockStore

CAR_TYPE = "application/vnd.ipld.car; version=1; order=dfs; dups=y"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeGateway:
    """Serves a store's CARs, or whatever `answer` says.

    Attributes
    ----------
    answer : replaces the honest answer while it is set.
    change : rewrites the whole CAR before it is sent.
    break_after : bytes after which the connection is cut, once.
    ranges : whether `entity-bytes` is honoured.
    """

    store: BlockStore | None = None
    answer: Answer | None = None
    change: Callable[[bytes], bytes] | None = None
    break_after: int | None = None
    ranges: bool = True
    content_type: str = CAR_TYPE
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    _server: TestServer | None = None

    async def start(self) -> FakeGateway:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._server = TestServer(app)
        await self._server.start_server()
        return self

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return str(self._server.make_url(""))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.headers.append(dict(request.headers))
        if self.answer is not None:
            return await self.answer(request)
        if self.store is None:
            raise web.HTTPNotFound
        cid = Cid.parse(request.path.rpartition("/")[2])
        span = request.query.get("entity-bytes", "0:*") if self.ranges else "0:*"
        chunks = self.store.car(cid, scope="all", start=int(span.partition(":")[0]))
        try:
            if self.change is not None:
                whole = b"".join([chunk async for chunk in chunks])
                chunks = in_pieces(self.change(whole))
            return await self.send(request, chunks)
        except ContentNotFound:
            raise web.HTTPNotFound from None

    async def send(self, request: web.Request, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": self.content_type})
        first = await anext(chunks, b"")
        await answer.prepare(request)
        left = self.break_after
        await self._write(answer, first if left is None else first[:left])
        async for chunk in chunks:
            if left is not None and self.sent + len(chunk) > left:
                await self._write(answer, chunk[: max(0, left - self.sent)])
                break
            await self._write(answer, chunk)
        if left is not None:
            self.break_after = None
            await asyncio.sleep(0)
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write_eof()
        return answer

    async def _write(self, answer: web.StreamResponse, chunk: bytes) -> None:
        await answer.write(chunk)
        self.sent += len(chunk)


async def in_pieces(content: bytes, *, size: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]
    if not content:
        yield b""


def car_answer(content: bytes, *, content_type: str = CAR_TYPE, **headers: str) -> Answer:
    """Answers every request with the same bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, headers={"Content-Type": content_type, **headers})

    return answer
