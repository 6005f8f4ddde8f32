"""A publisher's content into this node's store, before its token exists.

Enters: the chunks of a CAR from a caller whom the operator allows. Leaves: the roots that are now
stored, every block verified. What no token refers to within `PUBLISH_GRACE` is pruned again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from node.cid import Cid
from node.errors import InputTooLarge, NotPermitted
from node.ipfs.store import BlockStore
from node.types import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """`publishers` are lower-case addresses; `anyone` is `PUBLISHERS=any`."""

    store: BlockStore
    publishers: frozenset[str]
    anyone: bool
    limit: int

    async def __call__(self, caller: Caller, chunks: AsyncIterator[bytes], *, size: int | None) -> list[Cid]:
        """Store what `chunks` carry, all or nothing.

        Raises
        ------
        NotPermitted
            The operator has not listed the caller in `PUBLISHERS`.
        InputTooLarge, ContentMismatch, InvalidInput, StoreFull
        """
        if not self.anyone and caller.address.lower() not in self.publishers:
            raise NotPermitted(
                f"{caller.address} may not store content on this node; "
                "its operator allows addresses with PUBLISHERS, or publish through Kubo or a .car file"
            )
        if size is not None and size > self.limit:
            raise InputTooLarge(f"the CAR has {size} bytes; this node takes at most {self.limit}")
        return await self.store.import_car(chunks, limit=self.limit)
