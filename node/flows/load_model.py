"""A model into a slot: by its CIDs from the store or the gateways, into a worker of its own.

`Loader` is what the slots call when a model is not resident; `LoadModel` is the use case of someone
who asks for it (`POST /api/models/load`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from node.chain.licenses import Licenses
from node.cid import Cid
from node.errors import Denied, ManifestInvalid, NotPermitted, RevisionMismatch
from node.flows.sync_catalogue import SyncCatalogue
from node.ipfs.fetch import Retriever
from node.models import manifest as manifests
from node.models.catalogue import Catalogue
from node.models.slots import Slots
from node.runtime.host import WorkerHost
from node.runtime.inline import Inline, prepare
from node.runtime.plan import LoadPlan
from node.runtime.remote import Worker
from node.types import Caller, CatalogueEntry, ModelKey, TokenId


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model: its worker, and the hold that keeps its weights from being pruned."""

    entry: CatalogueEntry
    worker: Worker
    holds: AsyncExitStack
    inline: Inline | None = None
    """What answers for the worker where a model is small and an input plain."""

    @property
    def alive(self) -> bool:
        return self.worker.alive

    async def close(self) -> None:
        """The slots have drained it already: what is left in flight is past its deadline."""
        try:
            await self.worker.close(drain=0)
        finally:
            await self.holds.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Brings one revision of a model into a worker. The slots call it once per model at a time."""

    catalogue: Catalogue
    retriever: Retriever
    host: WorkerHost
    weights_limit: int
    threads: int
    memory_bytes: int
    max_pixels: int
    max_bytes: int
    lost: Callable[[Resident], None]
    """Told when a resident's worker dies unasked."""
    _unwarmed: set[ModelKey] = field(default_factory=set)

    async def __call__(self, key: ModelKey, revision: int) -> Resident:
        """Raises `ManifestInvalid`, `ModelInvalid`, `GatewayUnavailable`, `ContentMismatch`."""
        entry, model = await self._manifest(key, revision)
        labels = await self._labels(model)
        holds = AsyncExitStack()
        try:
            weights = await holds.enter_async_context(self._weights(entry, model.weights))
            plan = LoadPlan(
                model=msgspec.json.encode(model),
                weights_path=str(weights),
                weights_file=model.weights.file,
                labels=labels,
                warmup=key not in self._unwarmed,
                threads=self.threads,
                memory_bytes=self.memory_bytes,
                max_pixels=self.max_pixels,
                max_bytes=self.max_bytes,
            )
            inline = await asyncio.to_thread(prepare, plan) if model.format == "bare" else None
            resident = Resident(entry, await self.host.spawn(plan), holds, inline)
        except BaseException:
            await holds.aclose()
            raise
        resident.worker.when_dead(lambda _: self.lost(resident))
        return resident

    async def fetch(self, key: ModelKey, revision: int) -> None:
        """Bring all of a revision into the store. Raises as loading does."""
        entry, model = await self._manifest(key, revision)
        await self._labels(model)
        async with self._weights(entry, model.weights):
            pass

    @contextmanager
    def unwarmed(self, key: ModelKey) -> Iterator[None]:
        """While open, a load of this model skips the warm-up run."""
        self._unwarmed.add(key)
        try:
            yield
        finally:
            self._unwarmed.discard(key)

    async def _manifest(self, key: ModelKey, revision: int) -> tuple[CatalogueEntry, manifests.Model]:
        entry = self.catalogue.revision(key, revision)
        raw = await self.retriever.read(entry.manifest_cid, limit=manifests.MAX_MANIFEST_BYTES)
        return entry, manifests.parse(raw).model

    @asynccontextmanager
    async def _weights(self, entry: CatalogueEntry, weights: manifests.Weights) -> AsyncIterator[Path]:
        limit = min(self.weights_limit, weights.bytes)
        async with self.retriever.hold(entry.weights_cid, limit=limit) as path:
            if path.is_dir() != (weights.file is not None):
                raise ManifestInvalid(
                    "model.weights.file: names the model file if, and only if, `cid` is a folder; "
                    f"{weights.cid} is a {'folder' if path.is_dir() else 'file'}"
                )
            if path.is_file() and path.stat().st_size != weights.bytes:
                raise ManifestInvalid(
                    f"model.weights.bytes: says {weights.bytes}, the file has {path.stat().st_size}"
                )
            yield path

    async def _labels(self, model: manifests.Model) -> list[str] | None:
        if not isinstance(model.labels, manifests.LabelsRef):
            return model.labels
        cid = Cid.parse(model.labels.cid)
        return manifests.parse_labels(await self.retriever.read(cid, limit=manifests.MAX_LABELS_BYTES))


class SlotsView(msgspec.Struct, frozen=True):
    """The state of the slots; models least recently used first."""

    current_size: int
    max_size: int
    models_in_cache: list[str]


class LoadedModel(msgspec.Struct, frozen=True):
    """What `LoadModel` returns."""

    model_id: str
    message: str
    load_time_ms: float
    slots: SlotsView


def slots_view(slots: Slots[Resident]) -> SlotsView:
    resident = slots.resident()
    return SlotsView(len(resident), slots.capacity, [slot.resident.entry.model_id for slot in resident])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """Load a model on request of its owner, a licensee or the operator."""

    models: SyncCatalogue
    licenses: Licenses
    slots: Slots[Resident]
    loader: Loader
    operators: frozenset[str]
    """Lower-case addresses."""

    async def __call__(
        self, caller: Caller, *, token_id: TokenId, manifest_cid: Cid | None, warmup: bool
    ) -> LoadedModel:
        """Make a token's current revision resident.

        Raises
        ------
        ModelNotFound, ModelNotServed
        NotPermitted
            The caller is neither owner, licensee nor operator.
        RevisionMismatch
            `manifest_cid` is not the one that the token carries on chain.
        """
        entry = await self.models.find_token(token_id)
        await self._permit(caller, entry)
        if manifest_cid is not None and manifest_cid != entry.manifest_cid:
            raise RevisionMismatch(
                f"token {token_id} carries {entry.manifest_cid} on chain (revision {entry.revision}), "
                f"not {manifest_cid}; leave metadataCid out, or name that one"
            )
        loop = asyncio.get_running_loop()
        started = loop.time()
        with nullcontext() if warmup else self.loader.unwarmed(entry.key):
            await self.slots.load(entry.key, entry.revision)
        elapsed = (loop.time() - started) * 1000
        return LoadedModel(entry.model_id, f"{entry.name} is loaded", elapsed, slots_view(self.slots))

    async def _permit(self, caller: Caller, entry: CatalogueEntry) -> None:
        if caller.address.lower() in self.operators or caller.address == entry.owner:
            return
        try:
            await self.licenses.require(caller.address, entry.key.token_id)
        except Denied:
            raise NotPermitted(
                f"only the owner of token {entry.key.token_id}, a licensee or the operator may load it"
            ) from None
