"""The few calls of the kernel that Python's standard library has no name for, through ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import time
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
M_ARENA_MAX: Final = -8

_libc: Final = ctypes.CDLL(None, use_errno=True)
MACHINE: Final = platform.machine()


def prctl(option: int, *arguments: int) -> None:
    """prctl(2). Raises `OSError`."""
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *words) != 0:
        raise _error("prctl")


def use_few_heaps() -> None:
    """Let threads share one heap: each would keep what it freed to itself. For before the first thread."""
    with contextlib.suppress(AttributeError):  # not glibc
        _libc.mallopt(ctypes.c_int(M_ARENA_MAX), ctypes.c_int(1))


def allow_open_files(count: int) -> int:
    """Raise this process's limit on open files to `count`, as far as it may; the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unbounded = resource.RLIM_INFINITY
    if soft == unbounded or soft >= count:
        return count
    soft = count if hard == unbounded else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def trim_heap() -> None:
    """Give free memory back to the kernel."""
    with contextlib.suppress(AttributeError):  # not glibc
        _libc.malloc_trim(ctypes.c_size_t(0))


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | ctypes.Structure) -> int:
    """syscall(2) with integers, or buffers passed by address. Raises `OSError`."""
    words = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.byref(argument)
        for argument in arguments
    ]
    _libc.syscall.restype = ctypes.c_long
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result == -1:
        raise _error(f"syscall {number}")
    return result


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; exit if it already has."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def name_process(name: str) -> None:
    """What `ps` and `top` call this process."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used (the clock of clock_getcpuclockid(3)). Raises `OSError`."""
    return time.clock_gettime((~pid << 3) | 2)


def limit_cpu(pid: int, *, seconds: float) -> None:
    """Let a process use `seconds` of CPU time from now on; then the kernel ends it (SIGXCPU)."""
    hard = resource.prlimit(pid, resource.RLIMIT_CPU)[1]
    resource.prlimit(pid, resource.RLIMIT_CPU, (int(cpu_seconds(pid) + seconds) + 1, hard))


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
