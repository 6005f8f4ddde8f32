"""Which files a worker may see: its weights and what Python was loaded from, nothing else.

The system-call filter cannot read a path; Landlock (Linux 5.13, landlock(7)) can. It also keeps a
worker from looking into other processes, whose environment may hold secrets. A filter of its own,
so that a kernel with one of the two still gives that one.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node.runtime import linux

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FS_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""ABI version -> number of file rights known from it on."""
_NET_BIND_CONNECT: Final = 0b11
_SCOPE_SOCKET_SIGNAL: Final = 0b11


def restrict(readable: Iterable[Path]) -> None:
    """Let this thread, and those it starts, read beneath `readable` and touch no other file.

    Raises `OSError` where the kernel has no Landlock. Paths that do not exist are left out.
    """
    abi = linux.syscall(_CREATE_RULESET, 0, 0, _VERSION)
    rights = (1 << max(count for since, count in _FS_RIGHTS.items() if since <= abi)) - 1
    attributes = struct.pack(
        "=QQQ", rights, _NET_BIND_CONNECT if abi >= 4 else 0, _SCOPE_SOCKET_SIGNAL if abi >= 6 else 0
    )[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = linux.syscall(_CREATE_RULESET, buffer, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path)
        linux.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12)
        linux.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
