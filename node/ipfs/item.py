"""One stored root on disk: the content as files, and beside it the blocks that files alone cannot give back.

    <item>/content       the file or folder, as a program wants it
    <item>/nodes.car     every dag-pb block that cannot be made again from the content, depth first

Enters: checked bytes (`ItemWriter`), or an item's folder (`ItemReader`). Leaves: rows that say where each
block is, and the blocks themselves.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.cid import DAG_PB, RAW, Cid
from node.ipfs.car import MAX_BLOCK, CarInvalid, CarReader, write_header, write_prefix
from node.ipfs.unixfs import FILE_TYPE, RAW_TYPE, encode_leaf
from node.ipfs.verifier import FRAMED_LEAF, KEPT_LEAF, BlockRefused, Verifier, Want

NODE: Final = 0
"""Kind of a row whose block stands in `nodes.car`; the other kinds are the leaves' of `verifier`."""


@dataclass(frozen=True, slots=True)
class Row:
    """Where a block is: `size` bytes at `offset` of `content/place` (leaves) or of `nodes.car` (nodes)."""

    kind: int
    place: str
    offset: int
    size: int


def content_path(item: Path, place: str) -> Path:
    return item / "content" / place if place else item / "content"


def read_row(item: Path, row: Row) -> bytes:
    """The block that `row` locates; unchecked. Raises `OSError`."""
    path = item / "nodes.car" if row.kind == NODE else content_path(item, row.place)
    with path.open("rb", buffering=0) as source:
        data = os.pread(source.fileno(), row.size, row.offset)
    return encode_leaf(data, kind=row.kind - FRAMED_LEAF) if row.kind >= FRAMED_LEAF else data


class Recorder:
    """A `verifier.Writer` that only notes where everything is: for content that is on disk already."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.size = 0
        self._place = ""
        self._offset = 0

    def folder(self, place: str) -> None: ...
    def write(self, piece: memoryview) -> None: ...
    def take_back(self) -> None: ...

    def file(self, place: str) -> None:
        self._place, self._offset = place, 0

    def keep_leaf(self, cid: Cid, size: int, kind: int) -> None:
        if kind != KEPT_LEAF:
            self.rows.setdefault(key_of(cid), Row(kind, self._place, self._offset, size))
        self._offset += size
        self.size += size

    def keep_node(self, cid: Cid, block: bytes) -> None: ...

    def known(self, cid: Cid) -> bytes | None:  # noqa: ARG002 - the protocol's name
        return None

    def has(self, cid: Cid) -> bool:
        return key_of(cid) in self.rows


class ItemWriter(Recorder):
    """Writes an item into a folder of its own; nobody else looks there until it is whole."""

    def __init__(self, item: Path, root: Cid) -> None:
        super().__init__()
        self.item = item
        self.root = root
        self.node_bytes = 0
        item.mkdir(parents=True)
        self._out = -1
        self._nodes = os.open(item / "nodes.car", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._nodes_end = os.write(self._nodes, write_header([root]))

    def folder(self, place: str) -> None:
        self._close_file()
        content_path(self.item, place).mkdir()

    def file(self, place: str) -> None:
        self._close_file()
        super().file(place)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._out = os.open(content_path(self.item, place), flags, 0o644)

    def write(self, piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(self._out, piece) :]

    def take_back(self) -> None:
        """Cut the file behind its last checked leaf."""
        if self._out >= 0:
            os.ftruncate(self._out, self._offset)
            os.lseek(self._out, self._offset, os.SEEK_SET)

    def keep_node(self, cid: Cid, block: bytes) -> None:
        if key_of(cid) in self.rows:
            return
        prefix = write_prefix(cid, len(block))
        whole = memoryview(prefix + block)
        self.rows[key_of(cid)] = Row(NODE, "", self._nodes_end + len(prefix), len(block))
        self._nodes_end += len(whole)
        self.node_bytes += len(whole)
        while whole:
            whole = whole[os.write(self._nodes, whole) :]

    def known(self, cid: Cid) -> bytes | None:
        row = self.rows.get(key_of(cid))
        return None if row is None else read_row(self.item, row)

    def finish(self) -> None:
        """Close and fsync everything, so that a rename may make it visible."""
        self._close_file()
        os.fsync(self._nodes)
        self.close()
        for folder, _, _ in os.walk(self.item):
            fsync_folder(Path(folder))

    def close(self) -> None:
        """Close without keeping anything durable."""
        for fd in (self._out, self._nodes):
            if fd >= 0:
                os.close(fd)
        self._out = self._nodes = -1

    def _close_file(self) -> None:
        if self._out >= 0:
            os.fsync(self._out)
            os.fchmod(self._out, 0o444)
            os.close(self._out)
            self._out = -1


class ItemReader:
    """Gives back the blocks of an item, whole or begun, in the order in which a verifier wants them."""

    def __init__(self, item: Path) -> None:
        self._item = item
        self.nodes = _read_nodes(item / "nodes.car")

    def replay(self, verifier: Verifier) -> bool:
        """Feed the verifier from this item; False where the item ends, or is not what it should be."""
        while verifier.stack:
            want = verifier.stack[-1]
            place = verifier.place if want.place is None else want.place
            offset = verifier.offset if want.place is None else 0
            try:
                block = self._block(want, place, offset)
                if block is None:
                    return False
                verifier.begin(want.cid, len(block))
                verifier.data(memoryview(block))
                verifier.end()
            except (BlockRefused, OSError):
                return False
        return True

    def _block(self, want: Want, place: str, offset: int) -> bytes | None:
        row = self.nodes.get(key_of(want.cid))
        if row is not None:
            return read_row(self._item, row)
        path = content_path(self._item, place)
        size = path.stat().st_size if want.size is None else want.size
        if size > MAX_BLOCK or not path.is_file():
            return None
        data = read_row(self._item, Row(1, place, offset, size))
        if want.cid.codec == RAW:
            return data if want.cid.matches(data) else None
        framed = (encode_leaf(data, kind=kind) for kind in (FILE_TYPE, RAW_TYPE))
        return next((block for block in framed if want.cid.matches(block)), None)


class _NodeScan:
    """A `car.Sections` that notes where the blocks of a `nodes.car` begin."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.at = 0
        self._next: tuple[Cid, int] | None = None

    def header(self, roots: list[Cid]) -> None:
        self.at = len(write_header(roots))

    def begin(self, cid: Cid, size: int) -> None:
        self.at += len(write_prefix(cid, size))
        self._next = (cid, size)

    def data(self, piece: memoryview) -> None: ...

    def end(self) -> None:
        if self._next is not None:
            cid, size = self._next
            self.rows[key_of(cid)] = Row(NODE, "", self.at, size)
            self.at += size


def _read_nodes(path: Path) -> dict[bytes, Row]:
    scan = _NodeScan()
    reader = CarReader(scan)
    try:
        with path.open("rb") as source:
            while chunk := source.read(2**18):
                reader.feed(chunk)
    except (CarInvalid, OSError):
        pass  # what was read so far is checked by its hashes anyway
    return scan.rows


def key_of(cid: Cid) -> bytes:
    """One key for one block: codec and digest; CID versions 0 and 1 of it are the same."""
    return (b"p" if cid.codec == DAG_PB else b"r") + cid.digest


def fsync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
