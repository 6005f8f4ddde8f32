"""A system-call filter for workers: what is not listed does not exist for them.

Enters: a machine name and a stage. Leaves: a classic BPF program (seccomp(2),
Documentation/userspace-api/seccomp_filter.rst), or its installation. To a filtered process the
kernel looks like one that never had the other calls (ENOSYS): no sockets, no exec, no fork, no
ptrace, no io_uring, no changing of limits. A file opened for writing is refused with EPERM.

A list of what is allowed, and not of what is forbidden, because new system calls keep appearing.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable
from enum import Enum
from typing import Final

from node.runtime import linux

SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL_PROCESS: Final = 0x80000000

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16
_X32: Final = 0x40000000

_CLONE_THREAD: Final = 0x00010000
_PROT_EXEC: Final = 4
_WRITING: Final = 0o3 | 0o100 | 0o1000
"""O_ACCMODE | O_CREAT | O_TRUNC; O_TMPFILE needs one of the first."""


class Stage(Enum):
    """LOADING may start threads and map code; SERVING may not, and cannot change its filter either.
    COMPUTING is SERVING for a backend whose runs start threads, each time anew."""

    LOADING = "loading"
    COMPUTING = "computing"
    SERVING = "serving"


_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "recvfrom": 45, "sendto": 44, "futex": 202, "read": 0, "write": 1, "recvmsg": 47, "sendmsg": 46,
        "readv": 19, "writev": 20, "pread64": 17, "close": 3, "fstat": 5, "lseek": 8, "poll": 7,
        "ppoll": 271, "select": 23, "pselect6": 270, "fcntl": 72, "getdents64": 217, "munmap": 11,
        "mremap": 25, "brk": 12, "madvise": 28, "membarrier": 324, "sched_yield": 24,
        "sched_getaffinity": 204, "nanosleep": 35, "clock_nanosleep": 230, "clock_gettime": 228,
        "clock_getres": 229, "gettimeofday": 96, "getcpu": 309, "getrusage": 98, "times": 100,
        "sysinfo": 99, "uname": 63, "getpid": 39, "gettid": 186, "getppid": 110, "getuid": 102,
        "geteuid": 107, "getgid": 104, "getegid": 108, "exit": 60, "exit_group": 231, "rt_sigaction": 13,
        "rt_sigprocmask": 14, "rt_sigreturn": 15, "sigaltstack": 131, "restart_syscall": 219,
        "set_robust_list": 273, "rseq": 334, "getrandom": 318, "newfstatat": 262, "stat": 4, "lstat": 6,
        "statx": 332, "access": 21, "faccessat": 269, "faccessat2": 439, "readlink": 89,
        "readlinkat": 267, "getcwd": 79, "statfs": 137, "fstatfs": 138, "mmap": 9, "mprotect": 10,
        "openat": 257, "open": 2, "tgkill": 234, "prlimit64": 302, "clone": 56, "prctl": 157,
        "seccomp": 317, "sched_setaffinity": 203,
    },
    "aarch64": {
        "recvfrom": 207, "sendto": 206, "futex": 98, "read": 63, "write": 64, "recvmsg": 212,
        "sendmsg": 211, "readv": 65, "writev": 66, "pread64": 67, "close": 57, "fstat": 80, "lseek": 62,
        "ppoll": 73, "pselect6": 72, "fcntl": 25, "getdents64": 61, "munmap": 215, "mremap": 216,
        "brk": 214, "madvise": 233, "membarrier": 283, "sched_yield": 124, "sched_getaffinity": 123,
        "nanosleep": 101, "clock_nanosleep": 115, "clock_gettime": 113, "clock_getres": 114,
        "gettimeofday": 169, "getcpu": 168, "getrusage": 165, "times": 153, "sysinfo": 179, "uname": 160,
        "getpid": 172, "gettid": 178, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
        "getegid": 177, "exit": 93, "exit_group": 94, "rt_sigaction": 134, "rt_sigprocmask": 135,
        "rt_sigreturn": 139, "sigaltstack": 132, "restart_syscall": 128, "set_robust_list": 99,
        "rseq": 293, "getrandom": 278, "newfstatat": 79, "statx": 291, "faccessat": 48,
        "faccessat2": 439, "readlinkat": 78, "getcwd": 17, "statfs": 43, "fstatfs": 44, "mmap": 222,
        "mprotect": 226, "openat": 56, "tgkill": 131, "prlimit64": 261, "clone": 220, "prctl": 167,
        "seccomp": 277, "sched_setaffinity": 122,
    },
}  # fmt: skip
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CONDITIONAL: Final = frozenset(
    {"openat", "open", "tgkill", "prlimit64", "clone", "sched_setaffinity", "mmap", "mprotect"}
)
_LOADING_ONLY: Final = frozenset({"prctl", "seccomp"})


def install(stage: Stage, *, pid: int) -> None:
    """Filter every thread of this process. Raises `OSError` where the kernel refuses or cannot."""
    code = program(stage, machine=linux.MACHINE, pid=pid)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: u16 count, padding, pointer
    prog = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    number = _NUMBERS[linux.MACHINE]["seccomp"]
    linux.syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, prog)


def program(stage: Stage, *, machine: str, pid: int) -> bytes:
    """The filter as an array of `struct sock_filter`. Raises `OSError` on a machine without a table."""
    if machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"no system-call filter for {machine}")
    numbers = _NUMBERS[machine]
    code = [
        _op(_LOAD, _ARCH), _op(_JEQ, _AUDIT_ARCH[machine], 1, 0), _op(_RETURN, _KILL_PROCESS),
        _op(_LOAD, _NR),
    ]  # fmt: skip
    if machine == "x86_64":
        code += [_op(_JGE, _X32, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    for name, number in numbers.items():
        if name in _CONDITIONAL or (stage is not Stage.LOADING and name in _LOADING_ONLY):
            continue
        code += [_op(_JEQ, number, 0, 1), _op(_RETURN, _ALLOW)]
    for name, rule in _conditions(stage, pid):
        if name in numbers:
            code += [_op(_JEQ, numbers[name], 0, len(rule)), *rule]
    code.append(_op(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(code)


def _conditions(stage: Stage, pid: int) -> Iterable[tuple[str, list[bytes]]]:
    """Calls that depend on their arguments. Each rule ends in a return on every path."""
    yield "openat", _unless(_bits(2, _WRITING))
    yield "open", _unless(_bits(1, _WRITING))
    yield "tgkill", _only(_equals(0, pid))  # abort() and the crash handler signal themselves
    # prlimit64(0, ..., NULL, ...) reads a limit; the upper half of the pointer counts as well.
    yield "prlimit64", [*_only(_equals(2, 0), last=False), *_only(_equals(2, 0, upper=True))]
    if stage is not Stage.SERVING:
        yield "clone", _only(_bits(0, _CLONE_THREAD))  # threads, no processes
    if stage is Stage.COMPUTING:
        # where threads start; who was there before this process is out of reach
        yield "sched_setaffinity", _only(_at_least(0, pid))
    if stage is Stage.LOADING:
        yield "mmap", [_op(_RETURN, _ALLOW)]
        yield "mprotect", [_op(_RETURN, _ALLOW)]
    else:
        yield "mmap", _unless(_bits(2, _PROT_EXEC))
        yield "mprotect", _unless(_bits(2, _PROT_EXEC))


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)


def _bits(argument: int, mask: int) -> tuple[bytes, int, int]:
    """Whether any bit of `mask` is set in the lower half of an argument."""
    return _op(_LOAD, _ARGS + 8 * argument), _JSET, mask


def _equals(argument: int, value: int, *, upper: bool = False) -> tuple[bytes, int, int]:
    return _op(_LOAD, _ARGS + 8 * argument + 4 * upper), _JEQ, value


def _at_least(argument: int, value: int) -> tuple[bytes, int, int]:
    return _op(_LOAD, _ARGS + 8 * argument), _JGE, value


def _only(test: tuple[bytes, int, int], *, last: bool = True) -> list[bytes]:
    """Allow where the test holds, refuse otherwise; with `last` False go on where it holds."""
    load, jump, value = test
    if not last:
        return [load, _op(jump, value, 1, 0), _op(_RETURN, _ERRNO | errno.EPERM)]
    return [load, _op(jump, value, 0, 1), _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | errno.EPERM)]


def _unless(test: tuple[bytes, int, int]) -> list[bytes]:
    """Refuse where the test holds, allow otherwise."""
    load, jump, value = test
    return [load, _op(jump, value, 0, 1), _op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)]
