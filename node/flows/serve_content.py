"""Content by CID for other nodes and clients: metadata to anyone, weights to those who hold a license.

What belongs to nobody's public metadata is treated as weights: the default is to refuse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from node.chain.licenses import Licenses
from node.cid import IDENTITY, Cid
from node.errors import AuthenticationRequired, ContentNotFound, Denied, LicenseMissing
from node.ipfs.store import BlockStore
from node.models.catalogue import Catalogue
from node.types import Address, Caller, CatalogueEntry


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
        if any(self.catalogue.is_public(root) for root in roots):
            return
        if caller is None:
            raise AuthenticationRequired(
                f"{cid} belongs to a model's weights: sign in with an account that holds a license"
            )
        if caller.address.lower() in self.peers | self.operators:
            return
        await self._require_license(caller.address, roots)

    async def _require_license(self, licensee: Address, roots: list[Cid]) -> None:
        """One license among the tokens of whoever registered the weights first.

        A later token of somebody else with the same CID opens nothing: else anyone could register
        a copy, grant themselves a license and fetch what another sells.
        """
        refused: Denied = LicenseMissing(
            "this content is stored here but no model that is served refers to it; only peers may fetch it"
        )
        for root in roots:
            for entry in _first_seller(self.catalogue.sellers_of(root)):
                try:
                    await self.licenses.require(licensee, entry.key.token_id)
                except Denied as error:
                    refused = error
                else:
                    return
        raise refused


def _first_seller(entries: list[CatalogueEntry]) -> list[CatalogueEntry]:
    return [entry for entry in entries if entry.owner == entries[0].owner]
