"""How many threads one run may use: what the scheduler grants this process, not what the host has.

Sources: sched_setaffinity(2); cgroup v2 `cpu.max` (kernel docs, cgroup-v2 "CPU Interface Files"),
cgroup v1 `cpu.cfs_quota_us` / `cpu.cfs_period_us`. A quota of a parent binds its children.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def available_cpus(*, root: Path = Path("/"), affinity: int | None = None) -> int:
    """Whole CPUs that this process can keep busy, at least 1.

    Parameters
    ----------
    root : where `proc` and `sys` are looked up.
    affinity : CPUs that the scheduler may use; None asks the kernel.
    """
    cpus = len(os.sched_getaffinity(0)) if affinity is None else affinity
    quota = _quota(root)
    # Rounded down: a thread more than the quota pays for is throttled, and takes the others with it.
    return max(1, cpus if quota is None else min(cpus, int(quota)))


def _quota(root: Path) -> float | None:
    """The smallest CPU quota from this process's cgroup up to the root one, in CPUs."""
    quotas: list[float] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            mount, read = _mount_v1(root, controllers), _quota_v1
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        # In a container the path may be the host's, which is not visible here: then only the mount counts.
        for folder in (relative, *relative.parents):
            found = read(mount / folder)
            if found is not None:
                quotas.append(found)
    return min(quotas, default=None)


def _mount_v1(root: Path, controllers: str) -> Path:
    base = root / "sys/fs/cgroup"
    return next((base / name for name in (controllers, "cpu") if (base / name).is_dir()), base / "cpu")


def _quota_v2(folder: Path) -> float | None:
    parts = _read(folder / "cpu.max").split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or parts[1] == "0":
        return None
    return int(parts[0]) / int(parts[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or period == "0":
        return None  # -1 stands for "no quota"
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
