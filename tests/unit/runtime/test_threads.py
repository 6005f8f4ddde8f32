from __future__ import annotations

from pathlib import Path

import pytest

from node.runtime.threads import available_cpus


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_affinity_counts_without_a_cgroup(tmp_path: Path) -> None:
    assert available_cpus(root=tmp_path, affinity=6) == 6


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("200000 100000\n", 2), ("150000 100000\n", 1), ("20000 100000\n", 1), ("max 100000\n", 8), ("junk", 8)],
)
def test_cgroup_v2_quota_is_rounded_down_and_at_least_one(tmp_path: Path, text: str, cpus: int) -> None:
    root = lay(tmp_path, {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": text})
    assert available_cpus(root=root, affinity=8) == cpus


def test_affinity_wins_where_it_is_smaller_than_the_quota(tmp_path: Path) -> None:
    root = lay(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"})
    assert available_cpus(root=root, affinity=3) == 3


def test_quota_of_a_parent_binds(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/slice/app\n",
        "sys/fs/cgroup/slice/cpu.max": "200000 100000",
        "sys/fs/cgroup/slice/app/cpu.max": "800000 100000",
    }
    assert available_cpus(root=lay(tmp_path, files), affinity=16) == 2


def test_path_that_a_container_does_not_see_falls_back_to_the_mount(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "300000 100000"}
    assert available_cpus(root=lay(tmp_path, files), affinity=16) == 3


def test_cgroup_v1_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/app\n2:memory:/app\n",
        "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "250000\n",
        "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
    }
    assert available_cpus(root=lay(tmp_path, files), affinity=16) == 2


def test_cgroup_v1_without_a_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "1:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert available_cpus(root=lay(tmp_path, files), affinity=4) == 4
