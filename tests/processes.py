"""Processes of a node as the kernel shows them, and waiting for their end."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def descendants(pid: int) -> set[int]:
    """Children of `pid`, their children, and so on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue  # it has just ended
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def workers(node: int) -> set[int]:
    """The model workers of a node."""
    found = set()
    for pid in descendants(node):
        try:
            if name_of(pid) == "lonja-worker":
                found.add(pid)
        except OSError:
            continue  # it has just ended
    return found


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has used, in the kernel's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Watched:
    """Processes that are running now and whose end shall be seen; their ids cannot be reused meanwhile."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._handles = {pid: os.pidfd_open(pid) for pid in pids}

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def running(self) -> set[int]:
        """Those that have not ended yet."""
        return {pid for pid, handle in self._handles.items() if not select.select([handle], [], [], 0)[0]}
