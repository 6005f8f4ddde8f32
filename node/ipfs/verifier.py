"""The depth-first verifier: what block must come next, and what becomes of it.

Enters: sections of a CAR in depth-first order (it is a `car.Sections`), from a gateway, a publisher's
upload or our own disk. Leaves: calls on a `Writer`, with checked bytes only. A stack holds what is
still wanted; each block must be the one on top. Raw leaves are handed on while they are hashed and are
taken back when their hash is wrong; everything else is held until it is checked.

Memory: one block that is not a raw leaf, and depth x links of stack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from node.cid import IDENTITY, RAW, Cid
from node.errors import InputTooLarge
from node.ipfs.car import CarInvalid
from node.ipfs.unixfs import FileNode, FolderNode, NodeInvalid, decode, encode_leaf

KEPT_LEAF: Final = -1
RAW_LEAF: Final = 1
FRAMED_LEAF: Final = 2
"""Kinds of leaf: kept as a block; raw; dag-pb whose frame can be made again (plus its UnixFS type)."""

MAX_DEPTH: Final = 32
MAX_ENTRIES: Final = 100_000
_BLOCK_ALLOWANCE: Final = 4096


class BlockRefused(CarInvalid):
    """A block is not the one that was asked for: whoever sent it is not to be trusted."""


class RangeIgnored(Exception):
    """A gateway sent known blocks although only those behind them were asked for."""


class Writer(Protocol):
    """Where checked content of one root goes."""

    def folder(self, place: str) -> None: ...
    def file(self, place: str) -> None: ...
    def write(self, piece: memoryview) -> None: ...
    def keep_leaf(self, cid: Cid, size: int, kind: int) -> None: ...
    def take_back(self) -> None: ...
    def keep_node(self, cid: Cid, block: bytes) -> None: ...
    def known(self, cid: Cid) -> bytes | None: ...
    def has(self, cid: Cid) -> bool: ...


@dataclass(frozen=True, slots=True)
class Want:
    """One block to come.

    `place` is set where the block begins a file or folder ("" for a root), None within a file.
    `above` are the file's nodes on the way to this block. `size` is what the parent says, if it does.
    """

    cid: Cid
    size: int | None
    depth: int
    place: str | None
    above: tuple[Cid, ...] = ()


class Verifier:
    """Checks blocks against a growing stack of wants.

    Parameters
    ----------
    open_writer
        Called as each root begins; with several roots the writers fill one after the other.
    limit
        Bytes of file content in all.
    reserve
        Told how many content bytes there will be so far, before they come; may raise `StoreFull`.
    """

    def __init__(
        self,
        *,
        open_writer: Callable[[Cid], Writer],
        limit: int,
        reserve: Callable[[int], None] | None = None,
    ) -> None:
        self.stack: list[Want] = []
        self.offset = 0
        self.size = 0
        self.nodes = 0
        self.place = ""
        self.writers: list[Writer] = []
        self.base = 0
        self.prelude: list[Cid] = []
        self._open_writer = open_writer
        self._limit = limit
        self._reserve = reserve
        self._blocks_left = _BLOCK_ALLOWANCE + limit // 1024
        self._node_bytes_left = 16 * 2**20 + limit // 16
        self._entries_left = MAX_ENTRIES
        self._hash = hashlib.sha256()
        self._cid: Cid | None = None
        self._held: bytearray | None = None
        self._misfit: Exception | None = None
        self._prelude_block = False
        self._ranged = False
        self._started: Want | None = None
        self._pending = 0

    def want(self, *roots: Cid) -> None:
        """Set what is to come, first root first."""
        self.stack = [Want(root, None, 0, "") for root in reversed(roots)]

    @property
    def complete(self) -> bool:
        """Whether all of the current segment has come; blocks that can be had without a peer are taken."""
        while len(self.stack) > self.base and self._settle():
            pass
        return len(self.stack) <= self.base

    # car.Sections

    def header(self, roots: list[Cid]) -> None:
        """A gateway's word for the roots counts for nothing."""

    def begin(self, cid: Cid, size: int) -> None:
        """A block is announced. Raises `BlockRefused` if it is not the one that must come now."""
        self._cid, self._hash, self._held, self._misfit = cid, hashlib.sha256(), None, None
        self._prelude_block = bool(self.prelude)
        if self.prelude:
            self._begin_prelude(cid)
            return
        while len(self.stack) > self.base and not _same(self.stack[-1].cid, cid):
            if not self._settle():
                self._refuse(cid)
        if len(self.stack) <= self.base:
            raise BlockRefused(f"block {cid} came after the last one")
        want = self.stack[-1]
        if cid.codec != RAW or cid.hash_code == IDENTITY:
            self._held = bytearray()
            return
        # A length that does not fit is judged once the hash is known: only then is it clear who lied.
        self._misfit = self._misfit_of(want, size)
        if self._misfit is None:
            self._start(want)
            self._account(size)

    def data(self, piece: memoryview) -> None:
        self._hash.update(piece)
        if self._held is not None:
            self._held += piece
        elif self._writing:
            self.writers[-1].write(piece)

    def end(self) -> None:
        """The block is whole. Raises `BlockRefused` for a wrong hash, `NodeInvalid` for bad content."""
        cid = self._cid
        if cid is None:  # pragma: no cover - a reader always begins first
            raise CarInvalid("a block ended that never began")
        self._cid = None
        right = (
            self._hash.digest() == cid.digest
            if cid.hash_code != IDENTITY
            else bytes(self._held or b"") == cid.digest
        )
        if not right:
            self._take_back()
            raise BlockRefused(f"block {cid} does not have the bytes that its CID promises")
        if self._prelude_block:
            self.prelude.pop(0)
            return
        if self._misfit is not None:
            raise self._misfit
        if self._held is not None:
            block, self._held = bytes(self._held), None
            self._take(cid, block)
        else:
            self._leaf_done(RAW_LEAF)

    def give_up(self) -> None:
        """Forget the block that has begun: its peer broke off."""
        if self._cid is not None:
            self._take_back()
        self._cid = self._held = None
        self.prelude = []

    def segment(self, *, ranges: bool) -> Segment:
        """What to ask a gateway for next, so that no more than one block comes a second time.

        With `ranges` the rest of a begun file is asked for by its offset, and the nodes on the way to it
        come again; without, the subtrees that are missing are asked for one by one.
        """
        self.give_up()
        want = self.stack[-1]
        self._ranged = ranges and want.place is None
        if not self._ranged:
            self.base = len(self.stack) - 1
            return Segment(want.cid, 0)
        self.base = len(self.stack)
        while self.stack[self.base - 1].place is None:
            self.base -= 1
            if not self.base:
                break
        self.prelude = list(want.above)
        return Segment(want.above[0], self.offset)

    # inner

    @property
    def _writing(self) -> bool:
        return self._held is None and self._misfit is None and not self._prelude_block

    def _take_back(self) -> None:
        if self._writing:
            self.writers[-1].take_back()
            self.size -= self._pending
            self._pending = 0

    def _begin_prelude(self, cid: Cid) -> None:
        if not _same(cid, self.prelude[0]):
            if self.writers[-1].has(cid):
                raise RangeIgnored
            raise BlockRefused(f"block {cid} is not on the way to the one that was asked for")

    def _refuse(self, cid: Cid) -> None:
        wanted = self.stack[-1].cid
        if self._ranged and self.writers[-1].has(cid):
            raise RangeIgnored
        raise BlockRefused(f"block {cid} came where {wanted} must come")

    def _settle(self) -> bool:
        """Take the wanted block from the CID itself or from what has come before, if it is there."""
        want = self.stack[-1]
        if want.cid.hash_code == IDENTITY:
            self._take(want.cid, want.cid.digest)
            return True
        for writer in reversed(self.writers):
            block = writer.known(want.cid)
            if block is not None:
                self._take(want.cid, block)
                return True
        return False

    def _take(self, cid: Cid, block: bytes) -> None:
        """A whole block whose hash is right."""
        want = self.stack[-1]
        if cid.codec == RAW:
            self._leaf(want, memoryview(block), kind=RAW_LEAF)
            return
        node = decode(block)
        if isinstance(node, FolderNode):
            self._folder(want, node, block)
        elif node.children:
            self._interior(want, node, block)
        else:
            framed = encode_leaf(node.data, kind=node.type) == block
            self._leaf(want, node.data, kind=FRAMED_LEAF + node.type if framed else KEPT_LEAF)
            if not framed:
                self._node(want.cid, block)

    def _leaf(self, want: Want, data: memoryview, *, kind: int) -> None:
        misfit = self._misfit_of(want, len(data))
        if misfit is not None:
            raise misfit
        self._start(want)
        self._account(len(data))
        self.writers[-1].write(data)
        self._leaf_done(kind)

    def _leaf_done(self, kind: int) -> None:
        want, size = self.stack.pop(), self._pending
        self._pending = 0
        self.offset += size
        self.writers[-1].keep_leaf(want.cid, size, kind)

    def _interior(self, want: Want, node: FileNode, block: bytes) -> None:
        if want.size is not None and want.size != node.size:
            raise NodeInvalid(f"a node says {node.size} bytes where its parent said {want.size}")
        if want.depth >= MAX_DEPTH:
            raise NodeInvalid(f"the content is nested deeper than {MAX_DEPTH}")
        if want.place is not None:
            too_large = self._too_large(node.size)
            if too_large is not None:
                raise too_large
            self._start(want)
            self._expect(node.size)
        self._node(want.cid, block)
        self.stack.pop()
        above = (*want.above, want.cid)
        self.stack.extend(
            Want(child, size, want.depth + 1, None, above) for child, size in reversed(node.children)
        )

    def _folder(self, want: Want, node: FolderNode, block: bytes) -> None:
        if want.place is None:
            raise NodeInvalid("a file has a folder inside it")
        if want.depth >= MAX_DEPTH:
            raise NodeInvalid(f"the content is nested deeper than {MAX_DEPTH}")
        self._entries_left -= len(node.entries)
        if self._entries_left < 0:
            raise NodeInvalid(f"the content has more than {MAX_ENTRIES} entries")
        self._begin_root(want)
        self.writers[-1].folder(want.place)
        self._node(want.cid, block)
        self.stack.pop()
        prefix = f"{want.place}/" if want.place else ""
        self.stack.extend(
            Want(link.cid, None, want.depth + 1, prefix + link.name) for link in reversed(node.entries)
        )

    def _begin_root(self, want: Want) -> None:
        if want.depth == 0:
            self.writers.append(self._open_writer(want.cid))

    def _start(self, want: Want) -> None:
        """Begin a file if this block does. A block that is sent again finds its file begun."""
        if want.place is None or want is self._started:
            return
        self._begin_root(want)
        self._started = want
        self.place, self.offset = want.place, 0
        self.writers[-1].file(want.place)

    def _node(self, cid: Cid, block: bytes) -> None:
        self._count()
        self.nodes += 1
        self._node_bytes_left -= len(block)
        if self._node_bytes_left < 0:
            raise NodeInvalid("the content has too many nodes for its size")
        self.writers[-1].keep_node(cid, block)

    def _misfit_of(self, want: Want, size: int) -> Exception | None:
        if want.size is not None and want.size != size:
            return NodeInvalid(f"a leaf has {size} bytes where its parent said {want.size}")
        return self._too_large(size)

    def _too_large(self, size: int) -> InputTooLarge | None:
        total = self.size + size
        if total <= self._limit:
            return None
        return InputTooLarge(f"the content has {total} bytes or more; the limit here is {self._limit}")

    def _expect(self, size: int) -> None:
        if self._reserve is not None:
            self._reserve(self.size + size)

    def _account(self, size: int) -> None:
        self._count()
        self._expect(size)
        self.size += size
        self._pending = size

    def _count(self) -> None:
        self._blocks_left -= 1
        if self._blocks_left < 0:
            raise NodeInvalid("the content has too many blocks for its size")


@dataclass(frozen=True, slots=True)
class Segment:
    """One request: the DAG under `cid`, from byte `start` of its file on."""

    cid: Cid
    start: int


def _same(left: Cid, right: Cid) -> bool:
    """Whether two CIDs name one block; CID versions 0 and 1 of it are the same."""
    return left.codec == right.codec and left.digest == right.digest and left.hash_code == right.hash_code
