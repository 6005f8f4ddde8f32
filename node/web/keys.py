"""What the web layer holds while it runs, one AppKey a line, and what it asks of the flows.

The port opens before the flows exist (web3 alone takes 0.7 s to import), so they arrive later through
`NodeState`: until then every request that needs one is answered with `Starting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from aiohttp import web

from node.cid import Cid
from node.errors import NodeError, ShuttingDown, Starting
from node.types import Address, Caller, InferenceRequest, InferenceResult, License, TokenId

if TYPE_CHECKING:
    from node.flows.browse import ModelDetail, ModelFormats, Page
    from node.flows.load_model import LoadedModel
    from node.flows.sign_in import SignInChallenge
    from node.identity.sessions import Session
    from node.web.body import Budget
    from node.web.cors import CorsPolicy
    from node.web.handlers.health import Readiness
    from node.web.metrics import Metrics
    from node.web.peer import TrustedProxies
    from node.web.schemas import FormatsAnswer

Scope = Literal["block", "entity", "all"]


class InferFlow(Protocol):
    async def __call__(self, caller: Caller, request: InferenceRequest) -> InferenceResult: ...
    def begin(
        self,
        caller: Caller,
        request: InferenceRequest,
        settled: Callable[[InferenceResult | NodeError], None],
    ) -> InferenceResult | Callable[[], None] | None: ...


class LoadModelFlow(Protocol):
    async def __call__(
        self, caller: Caller, *, token_id: TokenId, manifest_cid: Cid | None, warmup: bool
    ) -> LoadedModel: ...


class BrowseFlow(Protocol):
    async def models(self, *, search: str | None, owner: Address | None, offset: int, limit: int) -> Page: ...
    async def model(self, name: str) -> ModelDetail: ...
    async def license(self, name: str, licensee: Address) -> License: ...
    def resident_formats(self) -> list[ModelFormats]: ...


class PublishFlow(Protocol):
    async def __call__(
        self, caller: Caller, chunks: AsyncIterator[bytes], *, size: int | None
    ) -> list[Cid]: ...


class ServeContentFlow(Protocol):
    async def block(self, caller: Caller | None, cid: Cid) -> bytes: ...
    async def car(
        self, caller: Caller | None, cid: Cid, scope: Scope, *, start: int = 0
    ) -> AsyncIterator[bytes]: ...


class ReadinessFlow(Protocol):
    async def __call__(self) -> dict[str, str]: ...


class SignInFlow(Protocol):
    async def nonce(self) -> SignInChallenge: ...
    async def open_session(self, *, message: str, signature: str) -> Session: ...
    async def close_session(self, token: str) -> None: ...


class AuthenticateFlow(Protocol):
    def session(self, token: str) -> Caller: ...
    async def signature(self, header: str, *, method: str, path: str, body_hash: bytes) -> Caller: ...


@dataclass(frozen=True, slots=True)
class Flows:
    """The use cases that HTTP reaches; one attribute a file of `node/flows`."""

    infer: InferFlow
    load_model: LoadModelFlow
    browse: BrowseFlow
    publish: PublishFlow
    serve_content: ServeContentFlow
    readiness: ReadinessFlow
    sign_in: SignInFlow
    authenticate: AuthenticateFlow


@dataclass(slots=True)
class NodeState:
    """Where the node is in its life. The composition root writes it, handlers read it."""

    flows: Flows | None = None
    draining: bool = False
    running: int = 0
    _idle: asyncio.Event | None = field(default=None, repr=False)

    def ready_flows(self) -> Flows:
        """The flows. Raises `Starting` before they exist, `ShuttingDown` once the node drains."""
        if self.draining:
            raise ShuttingDown(
                "This node is shutting down. Send the request again: another replica or the restarted "
                "node will answer it.",
                retry_after=5,
            )
        if self.flows is None:
            raise Starting("This node has opened its port and is still starting.", retry_after=1)
        return self.flows

    def left(self) -> None:
        """One request is done."""
        self.running -= 1
        if self.running == 0 and self._idle is not None:
            self._idle.set()

    async def drain(self, *, timeout: float) -> bool:
        """Refuse new requests and wait until those that run are done.

        Returns
        -------
        False when some still ran after `timeout` seconds.
        """
        self.draining = True
        if self.running == 0:
            return True
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one connection may cost. Seconds and bytes."""

    body_bytes: int
    publish_bytes: int
    connections: int = 1024
    """Open at once; further ones are *late* (see `crowd.py`)."""
    unproven_bytes: int = 128 * 2**20
    """Bodies in memory at once whose signature is not checked yet."""
    headers_seconds: float = 10.0
    """From the first byte of a request (or the connection's start) to the end of its headers."""
    stall_seconds: float = 10.0
    """Without one byte of a body arriving, or of an answer being taken."""
    body_seconds: float = 120.0
    """For a whole body that is read into memory, or for what is left of an answer to be taken."""
    keepalive_seconds: float = 75.0
    linger_seconds: float = 2.0
    """Reading on after a refusal, so that a client that is still sending gets to see it."""
    line_bytes: int = 8_190
    header_count: int = 64


@dataclass(frozen=True, slots=True)
class Edge:
    """What the outermost middleware needs for every request, looked up once."""

    state: NodeState
    limits: Limits
    cors: CorsPolicy
    proxies: TrustedProxies
    metrics: Metrics
    https: bool
    """The public URL is https, so browsers are told to stay with it."""
    clock: Callable[[], float]
    """Monotonic seconds."""
    started: float
    readiness: Readiness
    formats: FormatsAnswer
    unproven: Budget


@dataclass(slots=True)
class Exchange:
    """What is known of one request while it runs; becomes its log line."""

    request_id: str
    client: str
    caller: Address | None = None
    code: str | None = None
    timing: str = ""
    """Further entries for `Server-Timing`, each beginning with a comma."""


EDGE: Final = web.AppKey("edge", Edge)
EXCHANGE: Final = web.RequestKey("exchange", Exchange)
