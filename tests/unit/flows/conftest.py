"""Small stand-ins for the parts under the flows; each does one thing and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.cid import RAW, Cid
from node.errors import LicenseMissing, ModelNotFound, NodeError
from node.flows.sync_catalogue import SyncCatalogue
from node.models.catalogue import Catalogue
from node.models.policy import ServePolicy
from node.types import (
    PERPETUAL,
    Address,
    Caller,
    CallerScheme,
    ContractRef,
    License,
    LoadReport,
    ModelKey,
    Options,
    Payload,
    RunResult,
    RunTimings,
    TokenId,
    TokenModel,
)

CONTRACT = ContractRef(31337, Address("0x" + "Ab" * 20))
OWNER = Address("0x" + "01" * 20)
LICENSEE = Address("0x" + "02" * 20)
STRANGER = Address("0x" + "03" * 20)


def caller(address: Address) -> Caller:
    return Caller(address, CallerScheme.SESSION)


def manifest_bytes(model_id: str, **changes: object) -> bytes:
    model: dict[str, Any] = {
        "schema": 1,
        "model_id": model_id,
        "model_type": "image_classification",
        "format": "onnx",
        "weights": {
            "cid": str(Cid.of(f"weights of {model_id}".encode(), codec=RAW)),
            "bytes": 10,
            "sha256": "0" * 64,
            "encoding": "plain",
        },
        "labels": ["cat", "dog"],
        "input": {"name": "input", "kind": "image", "preset": "imagenet"},
        "output": {"name": "logits", "task": "classification", "activation": "softmax", "top_k": 5},
    } | changes
    return json.dumps({"name": model_id.upper(), "description": "", "model": model}).encode()


@dataclass
class FakeContent:
    """Objects by CID."""

    objects: dict[Cid, bytes] = field(default_factory=dict)
    reads: list[Cid] = field(default_factory=list)
    held: list[Cid] = field(default_factory=list)

    def add(self, content: bytes) -> Cid:
        cid = Cid.of(content, codec=RAW)
        self.objects[cid] = content
        return cid

    async def read(self, cid: Cid, *, limit: int) -> bytes:
        self.reads.append(cid)
        return self.objects[cid]

    @asynccontextmanager
    async def hold(self, cid: Cid, *, limit: int) -> AsyncIterator[Path]:
        self.held.append(cid)
        try:
            yield Path("/weights") / str(cid)
        finally:
            self.held.remove(cid)


@dataclass
class FakeRegistry:
    tokens: dict[int, TokenModel] = field(default_factory=dict)
    publishers: dict[int, Address] = field(default_factory=dict)
    calls: int = 0
    totals: int = 0

    def put(self, token_id: int, manifest: Cid | str, *, revision: int = 1, owner: Address = OWNER) -> None:
        self.tokens[token_id] = TokenModel(TokenId(token_id), owner, revision, str(manifest), False, 1)

    async def model(self, token_id: TokenId) -> TokenModel:
        self.calls += 1
        if token_id not in self.tokens:
            raise ModelNotFound(f"no token {token_id}")
        return self.tokens[token_id]

    async def publisher(self, token: TokenModel) -> Address:
        return self.publishers.get(token.token_id, OWNER)

    async def total(self) -> int:
        self.totals += 1
        return max(self.tokens, default=0)

    async def models(self) -> AsyncIterator[TokenModel]:
        for token in list(self.tokens.values()):
            yield token


@dataclass
class FakeLicenses:
    holders: set[tuple[str, int]] = field(default_factory=set)
    error: NodeError | None = None

    def cached(self, licensee: Address, token_id: TokenId) -> License | None:
        known = self.error is None and (licensee, token_id) in self.holders
        return License(token_id, licensee, PERPETUAL) if known else None

    async def require(self, licensee: Address, token_id: TokenId) -> License:
        if self.error is not None:
            raise self.error
        if (licensee, token_id) not in self.holders:
            raise LicenseMissing("no license")
        return License(token_id, licensee, PERPETUAL)


@dataclass
class FakeWorker:
    pid: int = 1
    alive: bool = True
    report: LoadReport = field(default_factory=lambda: LoadReport(1.0, 1, 1, [{"name": "input"}]))
    payloads: list[Payload] = field(default_factory=list)
    callers: list[Address] = field(default_factory=list)
    closed: bool = False
    promises: list[Any] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    refusal: NodeError | None = None

    async def run(self, payload: Payload, options: Options, *, deadline: float, caller: Address) -> RunResult:
        self.payloads.append(payload)
        self.callers.append(caller)
        return RunResult(msgspec.Raw(b"[]"), RunTimings(1, 1, 1))

    def submit(
        self, payload: Payload, _options: Options, *, deadline: float, promise: Any, caller: Address
    ) -> int:
        assert deadline > 0
        self.callers.append(caller)
        if self.refusal is not None:
            raise self.refusal
        self.payloads.append(payload)
        self.promises.append(promise)
        return len(self.promises)

    def give_up(self, number: int) -> None:
        self.given_up.append(number)

    async def close(self, *, drain: float = 0) -> None:
        self.closed = True


class World:
    """The parts together."""

    def __init__(self) -> None:
        self.content = FakeContent()
        self.registry = FakeRegistry()
        self.licenses = FakeLicenses()
        self.prepared: list[tuple[ModelKey, int]] = []
        self.catalogue = Catalogue(":memory:", contract=CONTRACT, policy=ServePolicy(everything=True))
        self.models = SyncCatalogue(
            catalogue=self.catalogue,
            registry=self.registry,  # type: ignore[arg-type]
            retriever=self.content,  # type: ignore[arg-type]
            prepare=self.prepare,
        )

    async def prepare(self, key: ModelKey, revision: int) -> None:
        self.prepared.append((key, revision))

    def publish(self, token_id: int, model_id: str, *, revision: int = 1, **changes: object) -> Cid:
        cid = self.content.add(manifest_bytes(model_id, **changes))
        self.registry.put(token_id, cid, revision=revision)
        return cid


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.catalogue.close()
