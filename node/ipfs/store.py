"""The node's own content: verified, atomic, bounded. One folder a root CID, and one index over all blocks.

    <root>/items/<cid>/       whole items, each appeared by one rename (see `item`)
    <root>/incomplete/        what is being written, and what a broken download left for its resumption
    <root>/locks/             one lock file a CID in use
    <root>/index.sqlite       where each block is; made again when it is lost

Enters: paths and CARs. Leaves: files under a hold, blocks, CARs. Whatever stands under `items` was
checked block by block when it was written.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from node.cid import Cid, CidInvalid
from node.errors import ContentNotFound, InputTooLarge, InvalidInput, StoreFull
from node.ipfs import importer
from node.ipfs.car import CarInvalid
from node.ipfs.importer import Imported, Profile
from node.ipfs.index import Index
from node.ipfs.intake import Intake, Pump, disk_error
from node.ipfs.item import ItemReader, Recorder, content_path, fsync_folder, key_of
from node.ipfs.locks import Busy, Locks
from node.ipfs.serve import Blocks
from node.ipfs.unixfs import NodeInvalid
from node.ipfs.verifier import Verifier

PARTIAL_KEEP: Final = 24 * 3600.0
"""Seconds for which a broken download waits for its resumption."""

_HOLD_TRIES: Final = 100
_HOLD_PAUSE: Final = 0.002

Scope = Literal["block", "entity", "all"]
Cids = list[Cid]
"""`BlockStore.list` hides the built-in name inside the class."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One root in the store. Times are Unix seconds, `bytes` is what it takes on disk."""

    cid: Cid
    bytes: int
    blocks: int
    stored: float
    used: float
    held: bool
    referenced: bool


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found. Corrupt items are gone, unless somebody holds them."""

    items: int
    bytes: int
    corrupt: Cids


@dataclass(frozen=True, slots=True)
class PruneReport:
    removed: Cids
    freed_bytes: int
    total_bytes: int


class BlockStore:
    """The store under one folder. Several processes may use it at once.

    Parameters
    ----------
    root
        Where everything is kept; made if it is missing.
    max_bytes
        What all items may take together; the least recently used go first.
    is_referenced
        Whether some token still refers to a root. None: every root counts as referred to.
    grace
        Seconds for which a root that no token refers to is kept, so that publishing can come to its end.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        is_referenced: Callable[[Cid], bool] | None = None,
        grace: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_bytes = max_bytes
        self.is_referenced = is_referenced
        self._grace = grace
        self._clock = clock
        self._items = root / "items"
        self._incomplete = root / "incomplete"
        for folder in (self._items, self._incomplete):
            folder.mkdir(parents=True, exist_ok=True)
        self.locks = Locks(root / "locks")
        self._index = Index(root / "index.sqlite")
        self._blocks = Blocks(self._index, self._items, self.hold)
        self._claims: dict[object, int] = {}
        self._space_lock = threading.RLock()
        self._clean_up()
        self._reconcile()

    def close(self) -> None:
        self._index.close()

    # what is there

    def has(self, cid: Cid) -> bool:
        """Whether `cid` is a whole root here."""
        return (self._items / name_of(cid)).is_dir()

    @contextmanager
    def hold(self, cid: Cid) -> Iterator[Path]:
        """The path of a verified file or folder, which is not removed until the hold ends.

        Raises
        ------
        ContentNotFound
            It is not (or not yet, or no longer) in the store.
        """
        with self._pin(cid) as item:
            os.utime(item)
            yield content_path(item, "")

    async def read(self, cid: Cid, *, limit: int) -> bytes:
        """A whole small file. Raises `ContentNotFound`, `InputTooLarge`, `InvalidInput` for a folder."""
        with self.hold(cid) as path:
            return await asyncio.to_thread(_read_bounded, path, cid, limit)

    async def block(self, cid: Cid) -> bytes:
        """One block of what is stored, checked once more. Raises `ContentNotFound`."""
        return await self._blocks.block(cid)

    def car(self, cid: Cid, *, scope: Scope = "all", start: int = 0) -> AsyncIterator[bytes]:
        """A CAR of the DAG under `cid`, depth first, repeated blocks repeated (`order=dfs; dups=y`).

        `cid` may be any block that is stored, not only a root. With `start`, leaves of a file that end
        before that byte are left out (`entity-bytes=start:*`).
        """
        return self._blocks.car(cid, scope=scope, start=start)

    def roots_of(self, cid: Cid) -> Cids:
        """The stored roots that have `cid` as a block of theirs."""
        return [Cid.parse(name) for name in self._index.roots(key_of(cid))]

    def inside(self, root: Cid, cids: Cids) -> Cids:
        """Which of these are blocks of a stored root. Blocking."""
        name = name_of(root)
        return [cid for cid in cids if self._index.holds(name, key_of(cid))]

    def list(self) -> builtins.list[StoredItem]:
        """Every item, least recently used first."""
        found = []
        for name, size, blocks, stored in self._index.items():
            with contextlib.suppress(FileNotFoundError):
                used = (self._items / name).stat().st_mtime
                cid = Cid.parse(name)
                referenced = self._referenced(cid)
                found.append(StoredItem(cid, size, blocks, stored, used, self._held(name), referenced))
        return sorted(found, key=lambda item: item.used)

    # what comes in

    async def import_path(self, path: Path, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Imported:
        """Take a file or folder of this machine. Raises `InvalidInput`, `StoreFull`."""
        imported = await asyncio.to_thread(importer.import_any, path, profile=profile)
        await self._import(_chunked(imported), limit=self.max_bytes)
        return imported

    async def import_bytes(self, content: bytes, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Imported:
        """Take one file from memory. Raises `StoreFull`."""
        imported = importer.import_bytes(content, profile=profile)
        await self._import(_chunked(imported), limit=self.max_bytes)
        return imported

    async def import_car(self, chunks: AsyncIterator[bytes], *, limit: int) -> Cids:
        """Take what a publisher uploads: a CAR whose blocks stand depth first, root after root.

        All of its roots are stored, or none. `limit` bounds the file bytes.

        Raises
        ------
        InvalidInput
            Not a CAR, blocks missing, wrong or out of order, content of a kind that is not accepted.
        InputTooLarge, StoreFull
        """
        return await self._import(chunks, limit=limit)

    def intake(self, folder: Callable[[Cid], Path], *, limit: int) -> Intake:
        """A way in for whoever fetches; its folders must lie under `partial_folder`."""
        return Intake(folder, space=self, limit=limit)

    def partial_folder(self, name: str) -> Path:
        return self._incomplete / name

    def take_up(self, intake: Intake, name: str) -> None:
        """Let an intake go on from what a broken download of `name` left; the caller holds its lock."""
        left = self.partial_folder(name)
        if left.is_dir():
            aside = self._incomplete / f"{name}.{secrets.token_hex(8)}"
            os.rename(left, aside)
            try:
                intake.resume(aside)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def commit(self, intake: Intake) -> None:
        """Make finished items visible; the caller holds the lock of each root. Blocking."""
        intake.finish()
        try:
            for writer in intake.writers:
                name, size = name_of(writer.root), writer.size + writer.node_bytes
                if (self._items / name).is_dir():
                    continue
                # Index first: a row without a folder is dropped at the next start, a folder is never lost.
                self._index.put(name, writer.rows, size=size, stored=self._clock())
                os.rename(writer.item, self._items / name)
            fsync_folder(self._items)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            intake.discard()

    # what goes

    async def verify(self) -> VerifyReport:
        """Hash everything once more, offline; corrupt items are removed so that they are fetched anew."""
        return await asyncio.to_thread(self._verify)

    async def prune(self, *, target_bytes: int | None = None) -> PruneReport:
        """Remove what no token refers to and whose grace is over, then the least recently used items
        until `target_bytes` (default: `max_bytes`) are kept. What is held stays."""
        return await asyncio.to_thread(self._prune, self.max_bytes if target_bytes is None else target_bytes)

    def claim(self, owner: object, total: int) -> None:
        """Reserve room for content that is coming. Raises `StoreFull`."""
        with self._space_lock:
            self._claims[owner] = total
            need = self._index.total() + sum(self._claims.values()) - self.max_bytes
            if need <= 0 or sum(self._evict(need).values()) >= need:
                return
            del self._claims[owner]
        raise StoreFull(
            f"the content store has no room for {total} more bytes: raise STORE_MAX_BYTES, "
            "or let models go that are in use"
        )

    def release(self, owner: object) -> None:
        with self._space_lock:
            self._claims.pop(owner, None)

    # inner

    @contextmanager
    def _pin(self, cid: Cid) -> Iterator[Path]:
        """Like `hold`, for the item's folder, and not counted as a use."""
        item = self._items / name_of(cid)
        with contextlib.ExitStack() as locks:
            for left in reversed(range(_HOLD_TRIES)):
                if not item.is_dir():
                    raise ContentNotFound(f"{cid} is not in this node's store")
                try:
                    locks.enter_context(self.locks.shared(item.name))
                    break
                except Busy:  # it is being committed or looked at; that lasts microseconds
                    if not left:
                        raise ContentNotFound(f"{cid} is being removed from this node's store") from None
                    time.sleep(_HOLD_PAUSE)
            if not item.is_dir():
                raise ContentNotFound(f"{cid} is not in this node's store")
            yield item

    async def _import(self, chunks: AsyncIterator[bytes], *, limit: int) -> Cids:
        suffix = f".{secrets.token_hex(8)}"
        with contextlib.ExitStack() as locks:

            def folder(root: Cid) -> Path:
                locks.enter_context(self.locks.exclusive(name_of(root) + suffix))
                return self._incomplete / (name_of(root) + suffix)

            intake = self.intake(folder, limit=limit)
            intake.want_header_roots()
            pump = Pump(intake.feed)
            try:
                async for chunk in chunks:
                    await pump.push(chunk)
                await pump.drain()
                if not (await asyncio.to_thread(intake.segment_complete) and intake.writers):
                    raise InvalidInput("the CAR ends before all blocks of its roots have come")
                await self._commit_import(intake)
            except (CarInvalid, NodeInvalid) as error:
                raise InvalidInput(f"the CAR is refused: {error}") from error
            finally:
                await pump.close()
                await asyncio.to_thread(intake.discard)
                for writer in intake.writers:
                    self.locks.forget(name_of(writer.root) + suffix)
        return [writer.root for writer in intake.writers]

    async def _commit_import(self, intake: Intake) -> None:
        async with contextlib.AsyncExitStack() as locks:
            for name in sorted({name_of(writer.root) for writer in intake.writers}):
                if not (self._items / name).is_dir():
                    await locks.enter_async_context(self.locks.exclusive_wait(name))
            await asyncio.to_thread(self.commit, intake)

    def _referenced(self, cid: Cid) -> bool:
        return self.is_referenced is None or self.is_referenced(cid)

    def _held(self, name: str) -> bool:
        try:
            with self.locks.exclusive(name):
                return False
        except Busy:
            return True

    def _verify(self) -> VerifyReport:
        self._reconcile()
        corrupt, items, size = [], 0, 0
        for item in self.list():
            with contextlib.suppress(ContentNotFound):
                with self._pin(item.cid) as folder:
                    rows = _walk(folder, item.cid)
                items, size = items + 1, size + item.bytes
                if rows is None:
                    corrupt.append(item.cid)
                    self._remove(name_of(item.cid))
        return VerifyReport(items, size, corrupt)

    def _prune(self, target: int) -> PruneReport:
        self._clean_up()
        with self._space_lock:
            removed = {}
            for item in self.list():
                if (
                    not item.referenced
                    and item.stored + self._grace < self._clock()
                    and self._remove(name_of(item.cid))
                ):
                    removed[item.cid] = item.bytes
            removed.update(self._evict(self._index.total() - target))
            return PruneReport(list(removed), sum(removed.values()), self._index.total())

    def _evict(self, need: int) -> dict[Cid, int]:
        """Remove items until `need` bytes are free: unreferred first, then the least recently used."""
        gone: dict[Cid, int] = {}
        if need <= 0:
            return gone
        for item in sorted(self.list(), key=lambda item: (item.referenced, item.used)):
            if sum(gone.values()) >= need:
                break
            if self._remove(name_of(item.cid)):
                gone[item.cid] = item.bytes
        return gone

    def _remove(self, name: str) -> bool:
        """Remove an item unless somebody holds it."""
        trash = self._incomplete / f"{name}.{secrets.token_hex(8)}"
        try:
            with self.locks.exclusive(name):
                os.rename(self._items / name, trash)
                self._index.remove(name)
                self.locks.forget(name)
        except (Busy, FileNotFoundError):
            return False
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def _clean_up(self) -> None:
        """Remove what was being written when a process ended; fresh partial downloads stay for resumption."""
        for path in self._incomplete.iterdir():
            resumable = "." not in path.name and _parses(path.name)
            with contextlib.suppress(Busy, FileNotFoundError), self.locks.exclusive(path.name):
                if not resumable or path.stat().st_mtime + PARTIAL_KEEP < self._clock():
                    shutil.rmtree(path, ignore_errors=True)
                self.locks.forget(path.name)

    def _reconcile(self) -> None:
        """Bring the index and the folders together, whichever of them was lost."""
        on_disk = {path.name for path in self._items.iterdir() if _parses(path.name)}
        indexed = {row[0] for row in self._index.items()}
        for name in indexed - on_disk:
            with contextlib.suppress(Busy), self.locks.exclusive(name):
                if not (self._items / name).is_dir():
                    self._index.remove(name)
        for name in on_disk - indexed:
            self._index_again(name)

    def _index_again(self, name: str) -> None:
        cid = Cid.parse(name)
        try:
            with self._pin(cid) as item:
                found = _walk(item, cid)
                if found is not None:
                    size = found.size + (item / "nodes.car").stat().st_size
                    self._index.put(name, found.rows, size=size, stored=item.stat().st_mtime)
                    return
        except ContentNotFound:
            return
        self._remove(name)


def name_of(cid: Cid) -> str:
    """The folder's name: one for CID versions 0 and 1 of the same block."""
    return str(Cid(1, cid.codec, cid.hash_code, cid.digest))


def _walk(item: Path, cid: Cid) -> Recorder | None:
    """Hash an item offline; None if it is not what its name says."""
    recorder, reader = Recorder(), ItemReader(item)
    verifier = Verifier(open_writer=lambda _: recorder, limit=2**62)
    verifier.want(cid)
    try:
        if not reader.replay(verifier):
            return None
    except NodeInvalid:
        return None
    for key, row in reader.nodes.items():
        recorder.rows.setdefault(key, row)
    return recorder


def _parses(name: str) -> bool:
    try:
        Cid.parse(name)
    except CidInvalid:
        return False
    return True


def _read_bounded(path: Path, cid: Cid, limit: int) -> bytes:
    if not path.is_file():
        raise InvalidInput(f"{cid} is a folder, not a file")
    size = path.stat().st_size
    if size > limit:
        raise InputTooLarge(f"{cid} has {size} bytes; at most {limit} are read here")
    return path.read_bytes()


async def _chunked(imported: Imported) -> AsyncIterator[bytes]:
    chunks = importer.car_chunks([imported])
    while chunk := await asyncio.to_thread(next, chunks, None):
        yield chunk
