"""Locks on CIDs that hold between tasks and between processes (`lonja store prune` beside a node).

flock(2) belongs to an open file description, so two holders in one process exclude each other as two
processes do, and a process that is killed lets go.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

_POLL: Final = 0.05


class Busy(Exception):
    """Somebody else has the lock in a mode that excludes ours."""


class Locks:
    """Shared and exclusive locks by name, kept as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def shared(self, name: str) -> Iterator[None]:
        """Hold `name` beside other shared holders. Raises `Busy`."""
        fd = self._take(name, fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(fd)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold `name` alone. Raises `Busy`."""
        fd = self._take(name, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(fd)

    @asynccontextmanager
    async def exclusive_wait(self, name: str) -> AsyncIterator[None]:
        """Hold `name` alone as soon as nobody else does; the caller bounds the wait."""
        while True:
            try:
                fd = self._take(name, fcntl.LOCK_EX)
                break
            except Busy:
                await asyncio.sleep(_POLL)
        try:
            yield
        finally:
            os.close(fd)

    def forget(self, name: str) -> None:
        """Remove the lock's file; only while it is held exclusively."""
        (self._folder / name).unlink(missing_ok=True)

    def _take(self, name: str, mode: int) -> int:
        path = self._folder / name
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:  # else `forget` came between open and flock
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise Busy(name) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
