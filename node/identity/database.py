"""The node's own SQLite file, `DATA_DIR/node.sqlite`.

Enters: statements. Leaves: rows, once they are on disk. Writing waits for the disk (WAL,
`synchronous=FULL`: a nonce that was used stays used after a power cut), so it runs in one thread of
its own, never on the event loop. Reading by primary key takes some 10 us from the page cache, never
waits for a writer in WAL mode, and is done where it is asked for.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from node.disk import told_when_full
from node.errors import StartupError

T = TypeVar("T")
Parameters = Sequence[Any]

BUSY_SECONDS: Final = 5.0


class Database:
    """One file, one writer, one reader. Not for use from several event loops."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="node-sqlite")
        self._writer = _connect(path, synchronous="FULL")
        self._reader = _connect(path, synchronous="NORMAL")

    @classmethod
    def open(cls, path: Path, *, schema: Sequence[str]) -> Database:
        """Open or make the file, readable by its owner only, with the tables of `schema`.

        Raises
        ------
        StartupError
            The file cannot be used.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            database = cls(path)
            for statement in schema:
                database._writer.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise StartupError(f"{path.name} in DATA_DIR cannot be used: {error}") from error
        return database

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await asyncio.to_thread(self._thread.shutdown)
        self._reader.close()
        self._writer.close()

    def one(self, statement: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """The first row of a read by key. On the event loop: use it for primary keys only."""
        row: tuple[Any, ...] | None = self._reader.execute(statement, parameters).fetchone()
        return row

    async def write(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run one statement, atomically; its `RETURNING` rows, once they are on disk."""
        return await self.transaction(lambda writer: writer.execute(statement, parameters).fetchall())

    async def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction in the writer's thread. Raises `StoreFull` where the disk is full."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with told_when_full():
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # SQLite ends it by itself on some errors
                    self._writer.execute("ROLLBACK")
                raise
        return result


def _connect(path: Path, *, synchronous: str) -> sqlite3.Connection:
    # isolation_level=None: transactions are ours to begin, the module adds none of its own
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection
