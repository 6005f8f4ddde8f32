"""Flows that answer at once and remember what they were asked: what the HTTP layer is tested against.

Their answers are fixed, so that the examples of docs/http.md can be compared word for word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import msgspec

from node.cid import RAW, Cid
from node.errors import (
    AuthenticationRequired,
    ContentNotFound,
    LicenseMissing,
    ModelNotFound,
    NodeError,
    NonceReused,
    SessionExpired,
    SignatureInvalid,
)
from node.types import (
    PERPETUAL,
    Address,
    Caller,
    CallerScheme,
    CatalogueEntry,
    InferenceRequest,
    InferenceResult,
    License,
    ModelKey,
    Offer,
    RunResult,
    RunTimings,
    TokenId,
)
from node.web.keys import Flows

LICENSEE = Address("0x00000000000000000000000000000000000000A1")
STRANGER = Address("0x00000000000000000000000000000000000000B2")
PUBLISHER = Address("0x00000000000000000000000000000000000000C3")
NODE = Address("0x00000000000000000000000000000000000000D4")
CONTRACT = Address("0x00000000000000000000000000000000000000E5")
TOKEN = "licensee-session-token"
STRANGERS_TOKEN = "stranger-session-token"

LABELS = b'["negative","positive"]'
LABELS_CID = Cid.of(LABELS, codec=RAW)
WEIGHTS = b"weights" * 100
WEIGHTS_CID = Cid.of(WEIGHTS, codec=RAW)
MANIFEST_CID = Cid.of(b"{}", codec=RAW)

ENTRY = CatalogueEntry(
    key=ModelKey(43113, CONTRACT, TokenId(1)),
    model_id="resnet18",
    revision=1,
    manifest_cid=MANIFEST_CID,
    owner=PUBLISHER,
    name="ResNet-18",
    description="ImageNet classifier",
    model_type="image_classification",
    weights_cid=WEIGHTS_CID,
    weights_bytes=len(WEIGHTS),
)
PREDICTIONS = b'[{"class":"golden_retriever","confidence":0.9234,"class_id":207}]'
RESULT = InferenceResult(
    entry=ENTRY,
    run=RunResult(
        predictions=msgspec.Raw(PREDICTIONS),
        timings=RunTimings(preprocessing=18.0, inference=45.0, postprocessing=3.0, queue=0.5, batch=4),
        entropy=0.31,
    ),
    total_ms=66.0,
)
INPUTS: list[dict[str, object]] = [
    {"name": "input", "kind": "image", "size": [224, 224], "formats": ["base64_jpeg", "image"]}
]

Hook = Callable[[], Awaitable[None]]


@dataclass
class FakeInfer:
    """Answers `RESULT`; `before` runs first, so that a test can hold or fail a request."""

    asked: list[tuple[Caller, InferenceRequest]] = field(default_factory=list)
    before: Hook | None = None

    async def __call__(self, caller: Caller, request: InferenceRequest) -> InferenceResult:
        self.asked.append((caller, request))
        if self.before is not None:
            await self.before()
        if request.model not in (ENTRY.model_id, str(ENTRY.key)):
            raise ModelNotFound(
                f"No model {request.model!r} is known here.",
                suggestion="GET /api/models lists the models that this node serves.",
            )
        if caller.address != LICENSEE:
            raise LicenseMissing(
                f"{caller.address} holds no license for {request.model}.",
                suggestion="Buy one of its offers: GET /api/models/resnet18 lists them.",
                token_id="1",
            )
        return RESULT

    def begin(
        self,
        caller: Caller,
        request: InferenceRequest,
        settled: Callable[[InferenceResult | NodeError], None],
    ) -> Callable[[], None] | None:
        """Only what needs no waiting, as the real one; a fake that `before` holds or fails is called."""
        known = request.model == ENTRY.model_id and caller.address == LICENSEE
        if self.before is not None or not known or request.payload.format == "url":
            return None
        self.asked.append((caller, request))
        return asyncio.get_running_loop().call_soon(settled, RESULT).cancel


@dataclass
class FakeLoadModel:
    asked: list[tuple[Caller, int, Cid | None, bool]] = field(default_factory=list)

    async def __call__(
        self, caller: Caller, *, token_id: TokenId, manifest_cid: Cid | None, warmup: bool
    ) -> Any:
        self.asked.append((caller, token_id, manifest_cid, warmup))
        slots = SimpleNamespace(current_size=1, max_size=3, models_in_cache=["resnet18"])
        return SimpleNamespace(
            model_id="resnet18", message="ResNet-18 is loaded", load_time_ms=152.0, slots=slots
        )


@dataclass
class FakeBrowse:
    asked: list[dict[str, object]] = field(default_factory=list)

    async def models(self, **asked: object) -> Any:
        self.asked.append(asked)
        return SimpleNamespace(items=[ENTRY], total=1)

    async def model(self, name: str) -> Any:
        if name not in (ENTRY.model_id, str(ENTRY.key)):
            raise ModelNotFound(f"No model {name!r} is known here.")
        offer = Offer(offer_id=1, price=10**16, currency=Address("0x" + "0" * 40), duration=30 * 86_400)
        return SimpleNamespace(entry=ENTRY, offers=[offer], resident=True, inputs=INPUTS)

    async def license(self, name: str, licensee: Address) -> License:
        if licensee != LICENSEE:
            raise LicenseMissing(f"{licensee} holds no license for {name}.")
        return License(TokenId(1), licensee, PERPETUAL if name == "perpetual" else 1_800_000_000)

    def resident_formats(self) -> Any:
        return [SimpleNamespace(model_id="resnet18", key=str(ENTRY.key), inputs=INPUTS)]


@dataclass
class FakePublish:
    received: bytes = b""
    size: int | None = None

    async def __call__(self, caller: Caller, chunks: AsyncIterator[bytes], *, size: int | None) -> list[Cid]:
        self.size = size
        self.received = b"".join([chunk async for chunk in chunks])
        return [MANIFEST_CID]


@dataclass
class FakeServeContent:
    """Labels to anyone, weights to the licensee; `break_off` fails a CAR after its first chunk."""

    labels: bytes = LABELS

    starts: list[int] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    break_off: bool = False
    closed: int = 0

    async def block(self, caller: Caller | None, cid: Cid) -> bytes:
        if cid == LABELS_CID:
            return self.labels
        if cid != WEIGHTS_CID:
            raise ContentNotFound(f"{cid} is not stored here")
        if caller is None:
            raise AuthenticationRequired(f"{cid} belongs to a model's weights")
        if caller.address != LICENSEE:
            raise LicenseMissing(f"{caller.address} holds no license")
        return WEIGHTS

    async def car(
        self,
        caller: Caller | None,
        cid: Cid,
        scope: Literal["block", "entity", "all"],
        *,
        start: int = 0,
    ) -> AsyncIterator[bytes]:
        content = await self.block(caller, cid)
        self.scopes.append(scope)
        self.starts.append(start)
        return self._chunks(content)

    async def _chunks(self, content: bytes) -> AsyncIterator[bytes]:
        try:
            yield b"car:"
            if self.break_off:
                raise OSError("disk on fire at /secret/path")
            yield content
        finally:
            self.closed += 1


@dataclass
class FakeReadiness:
    parts: dict[str, str] = field(default_factory=lambda: {"chain": "ok", "store": "ok", "workers": "ok"})
    asked: int = 0
    fail_with: Exception | None = None

    async def __call__(self) -> dict[str, str]:
        self.asked += 1
        if self.fail_with is not None:
            raise self.fail_with
        return self.parts


@dataclass
class FakeSignIn:
    closed: list[str] = field(default_factory=list)

    async def nonce(self) -> Any:
        return SimpleNamespace(
            nonce="8dTzr6ZPbXbWqFbW",
            domains=["dapp.example"],
            uri="http://127.0.0.1:3000",
            chain_id=43113,
            node=NODE,
            expires_at=1_800_000_000,
        )

    async def open_session(self, *, message: str, signature: str) -> Any:
        if "used" in message:
            raise NonceReused("This nonce was used already; ask for another.")
        if signature == "0xbad":
            raise SignatureInvalid("The signature is not that of the address in the message.")
        return SimpleNamespace(token=TOKEN, address=LICENSEE, expires_at=1_800_000_900)

    async def close_session(self, token: str) -> None:
        self.closed.append(token)


@dataclass
class FakeAuthenticate:
    signed: list[dict[str, object]] = field(default_factory=list)

    def session(self, token: str) -> Caller:
        address = {TOKEN: LICENSEE, STRANGERS_TOKEN: STRANGER}.get(token)
        if address is None:
            raise SessionExpired("This session is over; sign in again.")
        return Caller(address, CallerScheme.SESSION)

    async def signature(self, header: str, *, method: str, path: str, body_hash: bytes) -> Caller:
        self.signed.append({"header": header, "method": method, "path": path, "body_hash": body_hash})
        return Caller(LICENSEE, CallerScheme.SIGNATURE)


@dataclass
class FakeFlows:
    """All of them, reachable one by one; `flows` is what the node holds."""

    infer: FakeInfer = field(default_factory=FakeInfer)
    load_model: FakeLoadModel = field(default_factory=FakeLoadModel)
    browse: FakeBrowse = field(default_factory=FakeBrowse)
    publish: FakePublish = field(default_factory=FakePublish)
    serve_content: FakeServeContent = field(default_factory=FakeServeContent)
    readiness: FakeReadiness = field(default_factory=FakeReadiness)
    sign_in: FakeSignIn = field(default_factory=FakeSignIn)
    authenticate: FakeAuthenticate = field(default_factory=FakeAuthenticate)

    @property
    def flows(self) -> Flows:
        return Flows(
            infer=self.infer,
            load_model=self.load_model,
            browse=self.browse,
            publish=self.publish,
            serve_content=self.serve_content,
            readiness=self.readiness,
            sign_in=self.sign_in,
            authenticate=self.authenticate,
        )
