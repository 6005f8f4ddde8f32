"""The one way into the store: bytes of a CAR go through the verifier into folders nobody looks into yet.

Enters: pieces of one or more CARs (`feed`), for roots that are known (a fetch) or that the CAR's header
names (an upload). Leaves: finished items, committed by the store, or nothing.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from node.cid import Cid
from node.errors import ContentMismatch, Fault, NodeError, StoreFull
from node.ipfs.car import CarInvalid, CarReader
from node.ipfs.item import ItemReader, ItemWriter
from node.ipfs.verifier import Segment, Verifier, Writer

MAX_UPLOAD_ROOTS: Final = 16
_BATCH: Final = 2**20


class Space(Protocol):
    """Who decides whether there is room: `claim` may remove old items, or raise `StoreFull`."""

    def claim(self, owner: object, total: int) -> None: ...
    def release(self, owner: object) -> None: ...


class Intake:
    """Content on its way in. Every method that touches the disk is to be called in a thread."""

    def __init__(self, folder: Callable[[Cid], Path], *, space: Space, limit: int) -> None:
        self._folder = folder
        self._space = space
        self.writers: list[ItemWriter] = []
        self.verifier = Verifier(
            open_writer=self._open, limit=limit, reserve=lambda total: space.claim(self, total)
        )
        self._car = CarReader(self.verifier)

    def want(self, root: Cid) -> None:
        """Say what is to come."""
        self.verifier.want(root)

    def want_header_roots(self) -> None:
        """Take the roots from the CAR's header: an upload says itself what it is."""
        self._car = CarReader(_Upload(self.verifier))

    def resume(self, partial: Path) -> None:
        """Take over, block by checked block, what an earlier intake left in `partial`."""
        if (partial / "nodes.car").is_file():
            with _disk_errors():
                ItemReader(partial).replay(self.verifier)

    @property
    def progress(self) -> tuple[int, int]:
        """Grows with every block that is checked and kept."""
        return self.verifier.size, self.verifier.nodes

    def segment(self, *, ranges: bool) -> Segment:
        """What to ask for next; what is fed from now on is a new CAR."""
        with _disk_errors():
            segment = self.verifier.segment(ranges=ranges)
        self._car = CarReader(self.verifier)
        return segment

    def feed(self, chunks: list[bytes]) -> None:
        """Check and write. Raises `CarInvalid`, `NodeInvalid`, `RangeIgnored` and the store's errors."""
        with _disk_errors():
            for chunk in chunks:
                self._car.feed(chunk)

    def segment_complete(self) -> bool:
        """Whether the CAR that was fed is whole and held all that was asked for."""
        with _disk_errors():
            return self._car.close() and self.verifier.complete

    @property
    def begun(self) -> bool:
        """Whether any block has come in this segment."""
        return self._car.sections > 0

    def settle(self) -> bool:
        """Whether nothing is missing; what needs no peer (identity CIDs, repeated blocks) is taken."""
        self.verifier.base = 0
        with _disk_errors():
            return self.verifier.complete and bool(self.writers)

    def finish(self) -> None:
        """Make what was written durable."""
        with _disk_errors():
            for writer in self.writers:
                writer.finish()

    def suspend(self) -> None:
        """Close, and leave what is checked on disk for a later `resume`."""
        self.verifier.give_up()
        self._close()

    def discard(self) -> None:
        """Close, and leave nothing behind."""
        self._close()
        for writer in self.writers:
            shutil.rmtree(writer.item, ignore_errors=True)

    def _close(self) -> None:
        self._space.release(self)
        for writer in self.writers:
            writer.close()

    def _open(self, root: Cid) -> Writer:
        writer = ItemWriter(self._folder(root), root)
        self.writers.append(writer)
        return writer


class Pump:
    """Hands chunks to a thread in batches, one batch ahead of the reader: bounded, and off the event loop."""

    def __init__(self, feed: Callable[[list[bytes]], None]) -> None:
        self._feed = feed
        self._batch: list[bytes] = []
        self._size = 0
        self._running: asyncio.Future[None] | None = None

    async def push(self, chunk: bytes) -> None:
        self._batch.append(chunk)
        self._size += len(chunk)
        if self._size >= _BATCH:
            await self._next()

    async def drain(self) -> None:
        """Wait until everything that was pushed is through."""
        await self._next()
        await self._settle()

    async def close(self) -> None:
        """Wait for the thread, whatever it comes to; what has not begun is dropped."""
        self._batch = []
        while self._running is not None and not self._running.done():
            try:
                await asyncio.shield(self._running)
            except asyncio.CancelledError:
                continue  # the thread still writes: leaving now would pull the files from under it
            except Exception:  # noqa: S110 - told already, or of no interest to one who gives up
                pass

    async def _next(self) -> None:
        await self._settle()
        if self._batch:
            batch, self._batch, self._size = self._batch, [], 0
            self._running = asyncio.ensure_future(asyncio.to_thread(self._feed, batch))

    async def _settle(self) -> None:
        if self._running is not None:
            await asyncio.shield(self._running)
            self._running = None


class _Upload:
    """The verifier with the CAR's header believed."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.begin, self.data, self.end = verifier.begin, verifier.data, verifier.end

    def header(self, roots: list[Cid]) -> None:
        if not 1 <= len(roots) <= MAX_UPLOAD_ROOTS or len(set(roots)) != len(roots):
            raise CarInvalid(f"the CAR must name 1 to {MAX_UPLOAD_ROOTS} different roots")
        self._verifier.want(*roots)


class _disk_errors:  # noqa: N801 - reads as a statement
    """Maps what the disk says to the node's errors."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise disk_error(error) from error


def disk_error(error: OSError) -> NodeError:
    """The node's error for one of the disk's; paths stay out of its text."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull("the disk that holds the content store is full; free some space or move MODEL_DIR")
    if error.errno == errno.ENAMETOOLONG:
        return ContentMismatch("the content has a path that is too long for this machine")
    return Fault(f"the content store cannot be written: {errno.errorcode.get(error.errno or 0, 'I/O error')}")
