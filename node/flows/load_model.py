"""A model into a slot: by its CIDs from the store or the gateways, into a worker of its own.

`Loader` is what the slots call when a model is not resident; `LoadModel` is the use case of someone
who asks for it (`POST /api/models/load`).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from node.chain.licenses import Licenses
from node.cid import Cid
from node.errors import Denied, ManifestInvalid, NotPermitted, RevisionMismatch
from node.flows.sync_catalogue import SyncCatalogue
from node.ipfs.fetch import Retriever
from node.models import manifest as manifests
from node.models.catalogue import Catalogue
from node.models.slots import Slots
from node.runtime.host import Worker, WorkerHost
from node.runtime.plan import LoadPlan
from node.types import Address, Caller, CatalogueEntry, ModelKey, TokenId

MANIFEST_LIMIT = 1 * 2**20
LABELS_LIMIT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model: its worker, and the hold that keeps its weights from being pruned."""

    entry: CatalogueEntry
    worker: Worker
    holds: AsyncExitStack

    @property
    def alive(self) -> bool:
        return self.worker.alive

    async def close(self) -> None:
        try:
            await self.worker.close()
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

    async def __call__(self, key: ModelKey, revision: int) -> Resident:
        """Raises `ManifestInvalid`, `ModelInvalid`, `GatewayUnavailable`, `ContentMismatch`."""
        entry = self.catalogue.revision(key, revision)
        manifest = manifests.parse(await self.retriever.read(entry.manifest_cid, limit=MANIFEST_LIMIT))
        labels = await self._labels(manifest)
        holds = AsyncExitStack()
        try:
            weights = await holds.enter_async_context(
                self.retriever.hold(entry.weights_cid, limit=self.weights_limit)
            )
            worker = await self.host.spawn(
                LoadPlan(
                    model=msgspec.json.encode(manifest.model),
                    weights_path=str(weights),
                    labels=labels,
                    warmup=False,
                    threads=self.threads,
                    memory_bytes=self.memory_bytes,
                    max_pixels=self.max_pixels,
                    max_bytes=self.max_bytes,
                )
            )
        except BaseException:
            await holds.aclose()
            raise
        return Resident(entry, worker, holds)

    async def _labels(self, manifest: manifests.Manifest) -> list[str] | None:
        labels = manifest.model.labels
        if labels is None or isinstance(labels, list):
            return labels
        raw = await self.retriever.read(Cid.parse(labels.cid), limit=LABELS_LIMIT)
        try:
            return msgspec.json.decode(raw, type=list[str])
        except msgspec.DecodeError as error:
            raise ManifestInvalid(
                f"model.labels: {labels.cid} is not a JSON list of texts: {error}"
            ) from None


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
    return SlotsView(len(resident), slots.capacity, [item.entry.model_id for item in resident])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """Load a model on request of its owner, a licensee or the operator."""

    models: SyncCatalogue
    licenses: Licenses
    slots: Slots[Resident]
    operators: frozenset[Address]

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
        async with self.slots.use(entry.key, entry.revision) as resident:
            if warmup:
                await resident.worker.warm_up()
        elapsed = (loop.time() - started) * 1000
        return LoadedModel(entry.model_id, f"{entry.name} is loaded", elapsed, slots_view(self.slots))

    async def _permit(self, caller: Caller, entry: CatalogueEntry) -> None:
        if caller.address in self.operators or caller.address == entry.owner:
            return
        try:
            await self.licenses.require(caller.address, entry.key.token_id)
        except Denied:
            raise NotPermitted(
                f"only the owner of token {entry.key.token_id}, a licensee or the operator may load it"
            ) from None
