"""What the node's own SQLite file does when it cannot write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from node.errors import StoreFull
from node.identity.database import Database

SCHEMA = ["CREATE TABLE IF NOT EXISTS notes (note BLOB)"]


async def test_a_full_disk_is_told_and_what_follows_is_written(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.sqlite", schema=SCHEMA)
    database._writer.execute("PRAGMA max_page_count = 3")  # SQLite's own way to say that there is no room
    with pytest.raises(StoreFull, match="DATA_DIR"):
        await database.write("INSERT INTO notes VALUES (?)", (bytes(100_000),))
    database._writer.execute("PRAGMA max_page_count = 1000000")
    await database.write("INSERT INTO notes VALUES (?)", (bytes(100_000),))
    assert database.one("SELECT count(*) FROM notes") == (1,)
    await database.close()


async def test_a_transaction_that_fails_leaves_nothing_and_none_open(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.sqlite", schema=SCHEMA)

    def fail(writer: sqlite3.Connection) -> None:
        writer.execute("INSERT INTO notes VALUES (x'00')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.transaction(fail)
    await database.write("INSERT INTO notes VALUES (x'01')")
    assert database.one("SELECT note FROM notes") == (b"\x01",)
    await database.close()
