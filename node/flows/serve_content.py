"""Content by CID for other nodes and clients: metadata to anyone, weights to those who hold a license.

What belongs to nobody's public metadata is treated as weights: the default is to refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from node.chain.licenses import Licenses
from node.cid import IDENTITY, RAW, Cid
from node.errors import AuthenticationRequired, ContentNotFound, Denied, LicenseMissing
from node.ipfs.store import BlockStore
from node.models.catalogue import Catalogue
from node.types import Address, Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeContent:
    """`peers` are lower-case addresses of nodes that may fetch anything."""

    store: BlockStore
    catalogue: Catalogue
    licenses: Licenses
    peers: frozenset[str]
    operators: frozenset[str]

    async def block(self, caller: Caller | None, cid: Cid) -> bytes:
        """One block. Raises `ContentNotFound`, `AuthenticationRequired`, the `Denied` tree."""
        await self._permit(caller, cid)
        return await self.store.block(cid)

    async def car(
        self,
        caller: Caller | None,
        cid: Cid,
        scope: Literal["block", "entity", "all"],
        *,
        start: int = 0,
    ) -> AsyncIterator[bytes]:
        """The chunks of a depth-first CAR, without leaves that end before byte `start`.

        Raises before the first chunk, as `block` does.
        """
        await self._permit(caller, cid)
        return self.store.car(cid, scope=scope, start=start)

    async def _permit(self, caller: Caller | None, cid: Cid) -> None:
        if cid.hash_code == IDENTITY:
            return  # the CID is the content; gateways are probed with such a one
        roots = self.store.roots_of(cid)
        if not roots:
            raise ContentNotFound(f"{cid} is not stored here")
        if any(self.catalogue.is_manifest(root) for root in roots):
            return
        weights = await self._weights_in(roots)
        if not weights and any(self.catalogue.is_public(root) for root in roots):
            return
        if caller is None:
            raise AuthenticationRequired(
                f"{cid} belongs to a model's weights: sign in with an account that holds a license"
            )
        if caller.address.lower() in self.peers | self.operators:
            return
        await self._require_license(caller.address, weights)

    async def _weights_in(self, roots: list[Cid]) -> list[Cid]:
        """What tokens carry as weights among the roots and inside them.

        Inside as well: a folder or file that somebody builds around another's weights is that other's.
        """
        found = [root for root in roots if self.catalogue.is_weights(root)]
        for root in roots:
            if root.codec != RAW:
                found += await asyncio.to_thread(self.store.inside, root, self.catalogue.all_weights())
        return found

    async def _require_license(self, licensee: Address, weights: list[Cid]) -> None:
        """One license among the tokens of whoever claimed the weights first.

        Another token with the same weights opens nothing: else anyone could register a copy, grant
        themselves a license and fetch what another sells.
        """
        refused: Denied = LicenseMissing(
            "no model that is served refers to this content, or it is unsure whose it is; "
            "only peers may fetch it"
        )
        for entry in self.catalogue.sellers_of(*weights):
            try:
                await self.licenses.require(licensee, entry.key.token_id)
            except Denied as error:
                refused = error
            else:
                return
        raise refused
