"""Where each block is, in SQLite. Only an index: it can be made again from the items on disk."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from node.errors import Fault, StoreFull
from node.ipfs.item import Row

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    root TEXT PRIMARY KEY, bytes INTEGER NOT NULL, blocks INTEGER NOT NULL, stored REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    key BLOB NOT NULL, root TEXT NOT NULL, kind INTEGER NOT NULL, place TEXT NOT NULL,
    "offset" INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (key, root)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_of_root ON blocks (root);
"""
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_log = logging.getLogger("node.ipfs")


class Index:
    """Items and their blocks. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) not in _DAMAGED:
                raise Fault(f"the content store's index cannot be used: {error}") from error
            _log.warning("the content store's index was damaged (%s): it is made again", error)
            for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                file.unlink(missing_ok=True)
            self._db = _open(path)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, root: str, rows: Mapping[bytes, Row], *, size: int, stored: float) -> None:
        """Add an item, replacing what was said of it before."""
        blocks = [(key, root, row.kind, row.place, row.offset, row.size) for key, row in rows.items()]
        with _mapped(), self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM blocks WHERE root = ?", (root,))
            self._db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)", blocks)
            self._db.execute("REPLACE INTO items VALUES (?, ?, ?, ?)", (root, size, len(blocks), stored))

    def remove(self, root: str) -> None:
        with _mapped(), self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM blocks WHERE root = ?", (root,))
            self._db.execute("DELETE FROM items WHERE root = ?", (root,))

    def items(self) -> list[tuple[str, int, int, float]]:
        """(root, bytes, blocks, stored) of every item."""
        with _mapped(), self._lock:
            return self._db.execute("SELECT root, bytes, blocks, stored FROM items").fetchall()

    def total(self) -> int:
        """Bytes of all items."""
        with _mapped(), self._lock:
            return int(self._db.execute("SELECT coalesce(sum(bytes), 0) FROM items").fetchone()[0])

    def find(self, key: bytes) -> tuple[str, Row] | None:
        """An item that has the block, and where in it."""
        with _mapped(), self._lock:
            row = self._db.execute(
                'SELECT root, kind, place, "offset", size FROM blocks WHERE key = ? LIMIT 1', (key,)
            ).fetchone()
        return None if row is None else (row[0], Row(*row[1:]))

    def holds(self, root: str, key: bytes) -> bool:
        """Whether the item has the block."""
        with _mapped(), self._lock:
            row = self._db.execute("SELECT 1 FROM blocks WHERE key = ? AND root = ?", (key, root)).fetchone()
        return row is not None

    def roots(self, key: bytes) -> list[str]:
        """Every item that has the block."""
        with _mapped(), self._lock:
            rows = self._db.execute("SELECT root FROM blocks WHERE key = ?", (key,)).fetchall()
        return [row[0] for row in rows]


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull("the disk that holds the content store is full; free some space") from error
        raise Fault(f"the content store's index cannot be used: {error}") from error
