"""What a worker gives up before it opens anything of a stranger's.

In this order, because each step needs what a later one takes away: limits, no new privileges, files
(`landlock.py`), system calls (`seccomp.py`). After the model is loaded the filter gets tighter. A
step that the kernel refuses is reported, and the node logs it: an old kernel must not keep a node
from running, but its operator has to know.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.runtime import landlock, linux, seccomp
from node.runtime.plan import LoadPlan

MAX_OPEN_FILES: Final = 64
OOM_SCORE: Final = 500
"""When the machine runs out of memory a worker goes first: it can be replaced, the node cannot."""
_SYSTEM: Final = ("/etc/ld.so.cache", "/usr/lib", "/lib", "/lib64", "/proc/cpuinfo", "/proc/meminfo",
                  "/sys/devices/system/cpu")  # fmt: skip


def enter(plan: LoadPlan) -> list[str]:
    """Confine this process to loading `plan`; returns which measures this kernel refused."""
    weights = Path(plan.weights_path).resolve()
    missing: list[str] = []
    _attempt("oom_score_adj", missing, _volunteer_for_oom)
    _attempt("rlimits", missing, functools.partial(_limit, plan.memory_bytes))
    _attempt("no_new_privs", missing, functools.partial(linux.prctl, linux.PR_SET_NO_NEW_PRIVS, 1))
    readable = [*code_paths(), *map(Path, _SYSTEM), Path(f"/proc/{os.getpid()}"), weights]
    _attempt("landlock", missing, functools.partial(landlock.restrict, readable))
    _attempt("seccomp", missing, functools.partial(seccomp.install, seccomp.Stage.LOADING, pid=os.getpid()))
    return missing


def tighten(*, threads: bool) -> list[str]:
    """Give up what only loading needs: executable memory, changing the filter, threads unless `threads`."""
    missing: list[str] = []
    stage = seccomp.Stage.COMPUTING if threads else seccomp.Stage.SERVING
    install = functools.partial(seccomp.install, stage, pid=os.getpid())
    _attempt("seccomp while serving", missing, install)
    return missing


@functools.cache
def code_paths() -> tuple[Path, ...]:
    """Where the interpreter and the loaded packages are; the forkserver computes it for all workers."""
    found = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name:
            path = Path(file)
            found.add(path.parent if path.name.startswith("__init__.") else path)
    found = {path.resolve() for path in found}
    return tuple(sorted(path for path in found if not any(parent in found for parent in path.parents)))


def _limit(memory_bytes: int) -> None:
    # RLIMIT_DATA and not RLIMIT_AS: it counts private writable memory, which is what a model costs. The
    # address space also holds mapped weights, libraries and the 64 MB that malloc reserves for every
    # thread, so a limit on it would have to be a guess. A refused allocation is an error of the run.
    limit = _data_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # 1 and not 0: the kernel lets 0 through where core dumps are piped to a program (core(5)).
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _volunteer_for_oom() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _attempt(name: str, missing: list[str], step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        missing.append(f"{name} ({error.strerror})")
