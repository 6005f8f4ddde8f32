"""Blocks and CARs out of the store: what a trustless gateway gives.

Enters: a CID of any block that is stored. Leaves: its bytes, or the pieces of a CAR. Every block is
hashed once more before it leaves: a peer drops a gateway for good that gives it one bad block.

Format of the requests served: https://specs.ipfs.tech/http-gateways/trustless-gateway/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from node.cid import IDENTITY, RAW, Cid
from node.errors import ContentNotFound, Fault
from node.ipfs.car import write_header, write_prefix
from node.ipfs.index import Index
from node.ipfs.item import key_of, read_row
from node.ipfs.unixfs import FolderNode, decode

Hold = Callable[[Cid], AbstractContextManager[Path]]


class Blocks:
    """Reads blocks by the index."""

    def __init__(self, index: Index, items: Path, hold: Hold) -> None:
        self._index = index
        self._items = items
        self._hold = hold

    async def block(self, cid: Cid) -> bytes:
        """One block. Raises `ContentNotFound`."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        root = self._root_of(cid)
        with self._hold(Cid.parse(root)):
            return await asyncio.to_thread(self._read, cid)

    async def car(self, cid: Cid, *, scope: str, start: int) -> AsyncIterator[bytes]:
        """The pieces of a CAR, one a block."""
        with self._hold(Cid.parse(self._root_of(cid))):
            header = write_header([cid])
            stack: list[tuple[Cid, int]] = [(cid, start)]
            while stack:
                current, skip = stack.pop()
                block = await asyncio.to_thread(self._read, current)
                yield header + write_prefix(current, len(block)) + block
                header = b""
                if scope == "block" or current.codec == RAW:
                    continue
                node = decode(block)
                if isinstance(node, FolderNode):
                    if scope == "all":
                        stack.extend((link.cid, 0) for link in reversed(node.entries))
                else:
                    stack.extend(reversed(_from(node.children, skip)))

    def _root_of(self, cid: Cid) -> str:
        found = self._index.find(key_of(cid))
        if found is None:
            raise ContentNotFound(f"{cid} is not in this node's store")
        return found[0]

    def _read(self, cid: Cid) -> bytes:
        if cid.hash_code == IDENTITY:
            return cid.digest
        found = self._index.find(key_of(cid))
        if found is None:
            raise ContentNotFound(f"{cid} is not in this node's store")
        root, row = found
        try:
            block = read_row(self._items / root, row)
        except FileNotFoundError:
            raise ContentNotFound(f"{cid} is no longer in this node's store") from None
        if not cid.matches(block):
            raise Fault(
                f"block {cid} is damaged on this node's disk; `lonja store verify` finds and removes it"
            )
        return block


def _from(children: tuple[tuple[Cid, int], ...], skip: int) -> list[tuple[Cid, int]]:
    """The children that reach behind byte `skip`, each with what is to be skipped inside it."""
    kept, at = [], 0
    for child, size in children:
        if at + size > skip:
            kept.append((child, max(0, skip - at)))
        at += size
    return kept
