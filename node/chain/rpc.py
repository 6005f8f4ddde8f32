"""JSON-RPC to one chain over several URLs, in the order in which the operator wrote them.

Enters: method and parameters. Leaves: the `result` of the first URL that answers properly, or
`ChainUnavailable`. Every call has a deadline; a URL that fails is passed over and, when it keeps
failing, left alone for a while (`breaker`). A URL is used only while it has proved to serve the right
chain and not to lag behind the others, so that a stuck peer cannot answer from the past.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from node.chain.endpoint import (
    HEIGHT,
    BatchRefused,
    Call,
    CallReverted,
    Endpoint,
    EndpointFailed,
    Read,
    RpcError,
    RpcRefusal,
    data_bytes,
    quantity,
    shown,
    value_of,
)
from node.errors import ChainUnavailable, StartupError

__all__ = [
    "HEIGHT", "Call", "CallReverted", "Endpoint", "EndpointFailed", "Read", "Rpc", "RpcRefusal", "RpcRefused",
    "data_bytes", "quantity", "shown",
]  # fmt: skip

log = logging.getLogger(__name__)

MAX_LAG_BLOCKS: Final = 10
AT_ONCE: Final = 32
MAX_WAITING: Final = 1_000
"""Questions that wait while `AT_ONCE` are under way; more are turned away."""

HEAD_FRESH_SECONDS: Final = 10.0
HEAD_KNOWN_SECONDS: Final = 60.0
_NEVER_WAITS: Final = frozenset({"eth_blockNumber", "eth_getLogs"})


class RpcRefused(ChainUnavailable):
    """The peers answered, but with a JSON-RPC error: they would not do this call."""

    def __init__(self, message: str, *, code: int = 0, reason: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after=retry_after)
        self.rpc_code = code
        self.reason = reason


class NobodyAnswered(ChainUnavailable):
    """No URL gave an answer. `tried` says of each what it did; the message, which clients see, does not."""

    def __init__(self, message: str, *, tried: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.tried = tried


class Rpc:
    """The URLs together: ordered fail-over, deadlines, proofs.

    Parameters
    ----------
    urls : http or https URLs, the preferred one first. May hold secrets; those are never shown.
    timeout : seconds for one call to one URL.
    """

    def __init__(
        self, urls: Sequence[str], *, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise StartupError(
                    f"AVALANCHE_RPC_URL: {shown(url)} is not an http or https URL; no other kind is spoken"
                )
        self.endpoints = [Endpoint(url, timeout=timeout, clock=clock) for url in urls]
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), trust_env=False
        )
        self.proof: Callable[[Endpoint], Awaitable[None]] | None = None
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def close(self) -> None:
        await self.session.close()

    def now(self) -> float:
        """Monotonic seconds, as this object counts them."""
        return self._clock()

    @property
    def head(self) -> int | None:
        """Height that the newest answer told, if it is fresh."""
        newest = max(self.endpoints, key=lambda endpoint: endpoint.head_at)
        return newest.head if self._clock() - newest.head_at < HEAD_FRESH_SECONDS else None

    async def call(self, method: str, params: list[Any], read: Read = lambda result: result) -> Any:
        """What one call gives. Raises `CallReverted`, `RpcRefused`, `ChainUnavailable`."""
        answer = (await self.batch([Call(method, params, read)]))[0]
        if isinstance(answer, CallReverted):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """What several calls give, all from one URL and in one HTTP request where it takes batches.

        A reverted call stands in the list as its `CallReverted`. Waiting for a turn does not count as
        the peer's time, so a crowd here never looks like a slow peer. Following the chain does not wait:
        a crowd must not delay a revocation.
        """
        if calls[0].method in _NEVER_WAITS:
            return await self._first_answer(calls)
        if self._waiting >= MAX_WAITING:
            raise ChainUnavailable("too many questions to the chain at once; try again", retry_after=1)
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._first_answer(calls)
        finally:
            self._turns.release()

    async def _first_answer(self, calls: Sequence[Call]) -> list[Any]:
        refusal: RpcError | None = None
        for endpoint in self.endpoints:
            if endpoint.refused is not None or not endpoint.breaker.allows():
                continue
            try:
                await self._prove(endpoint, calls)
                answers = await self.ask(endpoint, calls)
                if calls[0].method == HEIGHT.method:
                    self.note_head(endpoint, answers[0])
            except EndpointFailed as failure:
                self._count(endpoint, failure)
                continue
            except RpcRefusal as refused:
                endpoint.breaker.succeeded()
                refusal = refused.error
                log.warning("RPC %s refused %s: code %d", endpoint.name, calls[0].method, refusal.code)
                continue
            endpoint.breaker.succeeded()
            return answers
        raise self._nobody(refusal)

    async def ask(self, endpoint: Endpoint, calls: Sequence[Call]) -> list[Any]:
        """The same from one given URL. Raises `EndpointFailed`, `RpcRefusal`."""
        try:
            answers = await endpoint.exchange(self.session, calls)
        except BatchRefused:
            answers = [(await endpoint.exchange(self.session, [call]))[0] for call in calls]
        return [value_of(call, answer) for call, answer in zip(calls, answers, strict=True)]

    async def _prove(self, endpoint: Endpoint, calls: Sequence[Call]) -> None:
        if not endpoint.proved and self.proof is not None:
            await self.proof(endpoint)
            endpoint.proved = True
        if calls[0].method == HEIGHT.method or len(self.endpoints) == 1:
            return
        if self._clock() - endpoint.head_at >= HEAD_FRESH_SECONDS:
            self.note_head(endpoint, (await self.ask(endpoint, [HEIGHT]))[0])

    def note_head(self, endpoint: Endpoint, head: int) -> None:
        """Remember the height that a URL told; `EndpointFailed` when it lags behind the others."""
        now = self._clock()
        known = [e.head for e in self.endpoints if e is not endpoint and now - e.head_at < HEAD_KNOWN_SECONDS]
        if known and head < max(known) - MAX_LAG_BLOCKS:
            raise EndpointFailed(f"is {max(known) - head} blocks behind the others")
        endpoint.head, endpoint.head_at = head, now

    def _count(self, endpoint: Endpoint, failure: EndpointFailed) -> None:
        endpoint.trouble = f"({failure})"
        if endpoint.breaker.failed(at_once=failure.timed_out):
            log.warning("RPC %s: %s; leaving it alone for a while", endpoint.name, failure)
        else:
            log.info("RPC %s: %s", endpoint.name, failure)

    def _nobody(self, refusal: RpcError | None) -> ChainUnavailable:
        usable = [endpoint.breaker.seconds_left() for endpoint in self.endpoints if endpoint.refused is None]
        wait = max(1.0, round(min(usable, default=60.0), 1))
        if refusal is not None:
            return RpcRefused(
                "the chain's RPC refused the call; nothing is decided, try again",
                code=refusal.code,
                reason=refusal.message,
                retry_after=wait,
            )
        return NobodyAnswered(
            "the chain cannot be asked now; nothing is decided, try again",
            tried="; ".join(f"{each.name} {each.trouble or 'is left alone'}" for each in self.endpoints),
            retry_after=wait,
        )
