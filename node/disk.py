"""A full disk, told as an error of ours wherever SQLite writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from node.errors import StoreFull


@contextmanager
def told_when_full() -> Iterator[None]:
    """For statements that write. Raises `StoreFull` where the disk is full; other errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        # the module's own errors have no code of SQLite's
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(
                "the disk that holds DATA_DIR is full; its operator has to free some space"
            ) from error
        raise
