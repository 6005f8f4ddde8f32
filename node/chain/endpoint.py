"""One RPC URL: a question over HTTP, and an answer that is known to be one.

Enters: `Call`s. Leaves: values, or `EndpointFailed` (no usable answer), `RpcRefusal` (a JSON-RPC error),
`CallReverted` (the contract failed). Nothing that is raised or logged holds the URL's secret parts.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import msgspec

from node.chain.breaker import Breaker

Read: TypeAlias = Callable[[Any], Any]

MAX_ANSWER_BYTES: Final = 32 * 2**20
_EXECUTION_FAILED: Final = re.compile(
    r"revert|invalid opcode|invalid jump|stack (under|over)flow|out of gas|evm error|vm exception",
    re.IGNORECASE,
)
_LIMIT_CODES: Final = frozenset({-32005, -32029, 429})


class CallReverted(Exception):
    """The contract reverted. An answer, not a trouble: no other peer is asked."""

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.data = data


class RpcRefusal(Exception):
    """One URL answered with a JSON-RPC error that is no revert."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


class EndpointFailed(Exception):
    """One URL did not give an answer that can be used; the text says why, without the URL."""

    def __init__(self, reason: str, *, timed_out: bool = False, garbage: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.garbage = garbage


class Call(NamedTuple):
    """One question; `read` turns the JSON result into a value, or raises `EndpointFailed` for garbage."""

    method: str
    params: list[Any]
    read: Read


class RpcError(msgspec.Struct):
    """A JSON-RPC error object."""

    code: int
    message: str
    data: Any = None


class Endpoint:
    """One RPC URL. `name` is the part of it that may be shown, `trouble` why it failed last."""

    def __init__(self, url: str, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = shown(url)
        self.breaker = Breaker(trial=timeout, clock=clock)
        self.proved = False
        self.refused: str | None = None
        self.trouble = ""
        self.head = 0
        self.head_at = float("-inf")
        self._url = url
        self.timeout = timeout
        self._ids = itertools.count(1)

    async def exchange(self, session: aiohttp.ClientSession, calls: Sequence[Call]) -> list[Any | RpcError]:
        """Ask one or several calls in one HTTP request; each answer is a result or an `RpcError`."""
        requests = [
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
            for method, params, _ in calls
        ]
        body = msgspec.json.encode(requests[0] if len(requests) == 1 else requests)
        answer = await self._post(session, body)
        if len(requests) == 1:
            return [_one(answer, requests[0]["id"])]
        if not isinstance(answer, list):
            raise BatchRefused("does not take batches")
        items = [item for item in answer if isinstance(item, dict)]
        by_id = {item["id"]: item for item in items if isinstance(item.get("id"), int)}
        return [_one(by_id.get(request["id"]), request["id"]) for request in requests]

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> Any:
        try:
            async with (
                asyncio.timeout(self.timeout),
                session.post(
                    self._url,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                raw = await _read(response)
                status = response.status
        except TimeoutError:
            raise EndpointFailed(f"no answer within {self.timeout:g} s", timed_out=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # the foreign text may hold the whole URL, so only its kind is kept
            raise EndpointFailed(_kind(error)) from None
        try:
            answer = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = None
        if not isinstance(answer, dict | list) or status >= 500 or status == 429:
            if status != 200:
                raise EndpointFailed(f"HTTP status {status}")
            raise EndpointFailed("the answer is not JSON-RPC", garbage=True)
        return answer


class BatchRefused(EndpointFailed):
    pass


def shown(url: str) -> str:
    """The part of a URL that holds no secret: scheme, host and port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "(a malformed URL)"
    if not host:
        return "(a URL without a host)"
    host = f"[{host}]" if ":" in host else host
    more = "/..." if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{more}"


def quantity(value: object) -> int:
    """An unsigned integer as JSON-RPC writes it. Raises `EndpointFailed`."""
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 66:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise EndpointFailed("the answer is not a number", garbage=True)


def data_bytes(value: object) -> bytes:
    """Bytes as JSON-RPC writes them. Raises `EndpointFailed`."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise EndpointFailed("the answer is not hexadecimal data", garbage=True)


HEIGHT: Final = Call("eth_blockNumber", [], quantity)


def value_of(call: Call, answer: Any | RpcError) -> Any:
    if not isinstance(answer, RpcError):
        return call.read(answer)
    if answer.code in _LIMIT_CODES or "rate limit" in answer.message.lower():
        raise EndpointFailed("its rate limit is reached")
    if _is_revert(answer):
        return _reverted(answer)
    raise RpcRefusal(answer)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise EndpointFailed(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", garbage=True)
        parts.append(part)
    return b"".join(parts)


def _one(answer: Any, request_id: object) -> Any | RpcError:
    if isinstance(answer, dict):
        error = answer.get("error")
        if error is not None:
            try:
                return msgspec.convert(error, RpcError)
            except msgspec.ValidationError:
                pass
        elif answer.get("id") == request_id and "result" in answer:
            return answer["result"]
    raise EndpointFailed("the answer is not JSON-RPC", garbage=True)


def _is_revert(error: RpcError) -> bool:
    """Whether the contract failed, in the words of geth, Nethermind, anvil and others."""
    return error.code == 3 or _EXECUTION_FAILED.search(error.message) is not None


def _reverted(error: RpcError) -> CallReverted:
    data = error.data
    if isinstance(data, dict):  # ganache's shape, and some gateways'
        data = data.get("data") or data.get("result")
    text = data.removeprefix("Reverted ").removeprefix("0x") if isinstance(data, str) else ""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    return CallReverted(error.message, raw)


def _kind(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its TLS certificate is not accepted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "nobody answers there"
    return f"the connection broke ({type(error).__name__})"
