"""The development chain as a JSON-RPC server on loopback, for web3.py, ethers, viem, cast and wallets.

Enters: HTTP POST of one request or a batch. Leaves: the answers. The EVM runs in one thread of its own, so
that the event loop stays free and the ledger never sees two callers.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from aiohttp import web

from lonja.devnet.accounts import Account
from lonja.devnet.rpc import Rpc
from lonja.devnet.rpc_error import INTERNAL, INVALID_REQUEST, PARSE_ERROR, RpcError

_MAX_BODY: Final = 16 * 2**20
_MAX_BATCH: Final = 1_000
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "86400",
}
_encode = msgspec.json.encode


class EmbeddedChain:
    """A chain in memory behind `url`; start it with `async with`.

    Parameters
    ----------
    accounts : funded at genesis and unlocked for `eth_sendTransaction`.
    port : of 127.0.0.1; 0 takes a free one.
    clock : Unix seconds, for the blocks' times; the wall clock where None.
    """

    def __init__(
        self, *, accounts: tuple[Account, ...], port: int = 0, clock: Callable[[], float] | None = None
    ) -> None:
        self._accounts = accounts
        self._port = port
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evm")
        self._runner: web.AppRunner | None = None
        self._rpc: Rpc | None = None
        self.url = ""

    async def __aenter__(self) -> EmbeddedChain:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._rpc = await loop.run_in_executor(self._thread, self._build)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("POST", "/{anything:.*}", self._post)
        app.router.add_route("OPTIONS", "/{anything:.*}", _preflight)
        app.router.add_route("GET", "/{anything:.*}", _hint)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _build(self) -> Rpc:
        from lonja.devnet.ledger import Ledger

        genesis = [bytes.fromhex(account.address[2:]) for account in self._accounts]
        clocked = {} if self._clock is None else {"clock": self._clock}
        keys = {account.address: bytes.fromhex(account.private_key[2:]) for account in self._accounts}
        return Rpc(Ledger(accounts=genesis, **clocked), keys=keys)

    async def request(self, method: str, *params: Any) -> Any:
        """Call the chain without HTTP. Raises `RpcError`."""
        if self._rpc is None:
            raise RuntimeError("the chain is not started")
        work = functools.partial(self._rpc, method, params)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _post(self, request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read())
        except msgspec.DecodeError as error:
            return _answer(_failed(None, RpcError(PARSE_ERROR, f"not JSON: {error}")))
        if not isinstance(body, list):
            return _answer(await self._one(body))
        if not body or len(body) > _MAX_BATCH:
            return _answer(
                _failed(None, RpcError(INVALID_REQUEST, f"a batch holds 1 to {_MAX_BATCH} requests"))
            )
        return _answer([await self._one(each) for each in body])

    async def _one(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return _failed(None, RpcError(INVALID_REQUEST, "a request is an object with a `method`"))
        params = body.get("params") or []
        if not isinstance(params, list):
            return _failed(body.get("id"), RpcError(INVALID_REQUEST, "`params` is a list"))
        try:
            result = await self.request(body["method"], *params)
        except RpcError as error:
            return _failed(body.get("id"), error)
        except Exception as error:  # the EVM's own failure must reach the caller as JSON, not end the server
            return _failed(body.get("id"), RpcError(INTERNAL, f"{type(error).__name__}: {error}"))
        return {"jsonrpc": "2.0", "id": body.get("id"), "result": result}


def _failed(request_id: Any, error: RpcError) -> dict[str, Any]:
    described: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        described["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": described}


def _answer(value: object) -> web.Response:
    return web.Response(body=_encode(value), content_type="application/json", headers=_CORS)


async def _preflight(_request: web.Request) -> web.Response:
    return web.Response(status=204, headers=_CORS)


async def _hint(_request: web.Request) -> web.Response:
    return web.Response(text="A JSON-RPC server: POST here.\n", headers=_CORS)
