"""The catalogue kept equal to the contract: at the start, on events, and when somebody asks for more.

A new revision of a resident model is made ready beside the old one and becomes current only then, so
that no request fails and a broken revision changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from node.chain.registry import Registry
from node.cid import Cid, CidInvalid
from node.errors import ManifestInvalid, ModelNotFound, ModelNotServed, NodeError
from node.ipfs.fetch import Retriever
from node.models import manifest as manifests
from node.models.catalogue import Catalogue, KnownModel
from node.types import CatalogueEntry, ModelKey, TokenId, TokenModel

log = logging.getLogger(__name__)

CONCURRENT_SYNCS = 8
NEWEST_AT_ONCE = 16
NEWEST_PAUSE = 1.0
"""An unknown name costs the chain one question in this many seconds, however many ask."""


@dataclass(slots=True)
class _Newest:
    """How far the contract's tokens have been read, readable or not, and when it was last asked."""

    seen: int = 0
    asked_at: float = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCatalogue:
    """Parameters are the parts it uses; `prepare` makes a new revision resident if the old one is."""

    catalogue: Catalogue
    registry: Registry
    retriever: Retriever
    prepare: Callable[[ModelKey, int], Awaitable[None]]
    _running: dict[TokenId, asyncio.Task[CatalogueEntry]] = field(default_factory=dict)
    _newest: _Newest = field(default_factory=_Newest)

    async def find(self, name: str) -> CatalogueEntry:
        """A served model by `model_id` or canonical name; what is unknown is looked up on chain.

        Raises `ModelNotFound`, `ModelNotServed`, `ModelAmbiguous`, and what `refresh` raises.
        """
        try:
            return self.catalogue.resolve(name)
        except ModelNotFound:
            key = self.catalogue.parse_canonical(name)
        if key is not None:
            return await self.find_token(key.token_id)
        await self._read_newest()
        return self.catalogue.resolve(name)

    async def find_token(self, token_id: TokenId) -> CatalogueEntry:
        """A served model by its token. Raises as `find`."""
        known = self.catalogue.known(self.catalogue.key(token_id))
        entry = known.entry if known else await self.refresh(token_id)
        if not self.catalogue.serves(token_id, entry.owner):
            raise ModelNotServed(
                f"token {token_id} is on the contract, but this node does not serve it",
                suggestion="GET /api/models lists the models that this node serves.",
            )
        return entry

    async def refresh(self, token_id: TokenId) -> CatalogueEntry:
        """Read one token anew; callers at the same time share one reading.

        Raises
        ------
        ModelNotFound
            The contract has no such token.
        ManifestInvalid, GatewayUnavailable, ContentMismatch, ChainUnavailable
            Its manifest cannot be had or used.
        """
        task = self._running.get(token_id)
        if task is None:
            task = asyncio.create_task(self._refresh(token_id))
            self._running[token_id] = task
            task.add_done_callback(lambda _: self._running.pop(token_id, None))
        return await asyncio.shield(task)

    async def _read_newest(self) -> None:
        """Read tokens that no event has told of yet; asked for at most once in `NEWEST_PAUSE` seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._newest.asked_at + NEWEST_PAUSE:
            return
        self._newest.asked_at = now
        total = await self.registry.total()
        first = max(self._newest.seen, total - NEWEST_AT_ONCE) + 1
        await asyncio.gather(*(self.changed(TokenId(token)) for token in range(first, total + 1)))

    async def fill(self) -> None:
        """Read every served token of the contract; one that cannot be read is logged and passed over."""
        gate = asyncio.Semaphore(CONCURRENT_SYNCS)

        async def one(token: TokenModel) -> None:
            async with gate:
                await self.changed(token.token_id)

        async with asyncio.TaskGroup() as group:
            async for token in self.registry.models():
                known = self.catalogue.known(self.catalogue.key(token.token_id))
                if known is not None and _same(known.entry, token):
                    self._newest.seen = max(self._newest.seen, token.token_id)
                    continue
                group.create_task(one(token))

    async def changed(self, token_id: TokenId) -> None:
        """An event spoke of this token: read it again, and log instead of raising.

        A reading that is under way may have asked the contract before the event: another follows it.
        """
        running = self._running.get(token_id)
        if running is not None:
            await asyncio.wait([running])
        try:
            await self.refresh(token_id)
        except NodeError as error:
            log.warning("token %s is not in the catalogue: %s", token_id, error.message)

    async def _refresh(self, token_id: TokenId) -> CatalogueEntry:
        token = await self.registry.model(token_id)
        # Not before it is known to exist: anybody may ask for any number.
        self._newest.seen = max(self._newest.seen, token_id)
        if not self.catalogue.serves(token_id, token.owner):
            raise ModelNotServed(
                f"token {token_id} is on the contract, but this node does not serve it",
                suggestion="GET /api/models lists the models that this node serves.",
            )
        known = await self._joined(token)
        key, revision = known.entry.key, known.entry.revision
        before = self.catalogue.known(key)
        if before is not None and before.entry.revision != revision:
            self.catalogue.stage(known)
            try:
                await self.prepare(key, revision)
            finally:
                self.catalogue.unstage(key, revision)
        self.catalogue.put(known)
        return known.entry

    async def _joined(self, token: TokenModel) -> KnownModel:
        try:
            cid = Cid.parse(token.manifest_cid)
        except CidInvalid as error:
            raise ManifestInvalid(
                f"token {token.token_id} carries {token.manifest_cid[:80]!r}, which is no usable CID: {error}"
            ) from None
        manifest = manifests.parse(await self.retriever.read(cid, limit=manifests.MAX_MANIFEST_BYTES))
        model = manifest.model
        if model.publisher is not None:
            await self._check_publisher(token, model.publisher)
        entry = CatalogueEntry(
            key=self.catalogue.key(token.token_id),
            model_id=model.model_id,
            revision=token.revision,
            manifest_cid=cid,
            owner=token.owner,
            name=manifest.name,
            description=manifest.description,
            model_type=model.model_type,
            weights_cid=Cid.parse(model.weights.cid),
            weights_bytes=model.weights.bytes,
        )
        labels = model.labels
        return KnownModel(
            entry,
            () if labels is None or isinstance(labels, list) else (Cid.parse(labels.cid),),
            # Only of the first revision its id says how old the claim on the weights is.
            None if token.revision == 1 else await self.registry.total(),
        )

    async def _check_publisher(self, token: TokenModel, named: str) -> None:
        """Refuse a manifest that somebody registered who is not its publisher.

        Its CID can be copied from a transaction that waits to be mined (decision 0008). A refused manifest
        never reaches the catalogue: else the copy would claim the weights, and make the manifest public,
        which tells the CID of the weights, while the publisher's own token is not there yet.
        """
        registered_by = await self.registry.publisher(token)
        if registered_by.lower() != named.lower():
            raise ManifestInvalid(
                f"the manifest of token {token.token_id} names {named} as its publisher, but "
                f"{registered_by} registered the token; it is not served, and claims no weights"
            )


def _same(entry: CatalogueEntry, token: TokenModel) -> bool:
    return entry.revision == token.revision and entry.owner == token.owner
