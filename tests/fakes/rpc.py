"""JSON-RPC over HTTP that misbehaves on demand, in front of a real chain or of a table of answers."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import web


class RpcPeer:
    """One RPC URL. Use `async with`.

    Parameters
    ----------
    behind : URL of the chain that it forwards to; with None, `table` answers.
    table : results by method; a callable gets the parameters. A `dict` with `error` is an error object.

    Attributes
    ----------
    mode : "ok", "hang", "broken" (drops the connection), "garbage", "html", "status-500", "status-429",
        "huge" (64 KiB), "error" (a JSON-RPC error), "limited" (a rate limit's error), "no-batch",
        "odd-ids" (a batch whose ids are lists).
    posts, methods : HTTP requests, and calls by method, that came.
    """

    def __init__(self, *, behind: str | None = None, table: dict[str, Any] | None = None) -> None:
        self.mode = "ok"
        self.posts = 0
        self.methods: Counter[str] = Counter()
        self.override: dict[str, Callable[[list[Any]], Any]] = {}
        self.released = asyncio.Event()
        self.url = ""
        self._behind = behind
        self._table = table or {}

    async def __aenter__(self) -> RpcPeer:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._session.close()
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read())
        self.posts += 1
        for one in asked if isinstance(asked, list) else [asked]:
            self.methods[one["method"]] += 1
        if self.mode != "ok":
            odd = await self._misbehave(request, asked)
            if odd is not None:
                return odd
        if isinstance(asked, list):
            answer: Any = [await self._answer(one) for one in reversed(asked)]  # any order is allowed
        else:
            answer = await self._answer(asked)
        return web.json_response(body=msgspec.json.encode(answer))

    async def _misbehave(self, request: web.Request, asked: Any) -> web.StreamResponse | None:
        match self.mode:
            case "hang":
                await self.released.wait()
                return web.Response()
            case "broken":
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            case "garbage":
                return web.json_response({"hello": "world"})
            case "html":
                return web.Response(text="<html>login</html>", content_type="text/html")
            case "huge":
                return web.Response(body=b"[" + b"1," * 2**15)
            case "error":
                return web.json_response(_error(asked, -32000, "header not found"))
            case "limited":
                return web.json_response(_error(asked, -32005, "limit exceeded"))
            case "odd-ids":
                odd = [{"jsonrpc": "2.0", "id": [], "result": "0x1"}]
                return web.json_response(odd * len(asked)) if isinstance(asked, list) else None
            case "no-batch":
                return (
                    web.json_response(_error({}, -32600, "no batches")) if isinstance(asked, list) else None
                )
            case mode:
                return web.Response(status=int(mode.removeprefix("status-")), text="no")

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": asked["id"]}
        method, params = asked["method"], asked["params"]
        if method in self.override:
            found = self.override[method](params)
            if inspect.isawaitable(found):
                found = await found
        elif self._behind is not None:
            body = msgspec.json.encode(asked)
            async with self._session.post(
                self._behind, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                answer: dict[str, Any] = msgspec.json.decode(await response.read())
                return answer
        else:
            found = self._table[method]
            found = found(params) if callable(found) else found
        return head | (found if isinstance(found, dict) and "error" in found else {"result": found})


def _error(asked: Any, code: int, message: str) -> Any:
    if isinstance(asked, list):
        return [_error(one, code, message) for one in asked]
    return {"jsonrpc": "2.0", "id": asked.get("id"), "error": {"code": code, "message": message}}
