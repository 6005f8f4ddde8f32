"""What a confined process can still do: each attempt runs in a forked child that is confined first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.runtime import linux, sandbox, seccomp
from node.runtime.seccomp import Stage
from tests.conftest import ROOT

CONFINED = """
import ctypes, json, mmap, os, resource, signal, socket, subprocess, sys, threading
from node.runtime import linux, sandbox
from node.runtime.plan import LoadPlan
weights, outside, stage = sys.argv[1:4]
PTRACE = 101 if os.uname().machine == "x86_64" else 117
sandbox.code_paths()
missing = sandbox.enter(LoadPlan(model=b"{}", weights_path=weights))
if stage == "serving":
    missing += sandbox.tighten(threads=False)

def attempt(work):
    try:
        work()
    except (OSError, RuntimeError, ValueError):
        return "refused"
    return "allowed"

print(json.dumps({
    "missing": missing,
    "read weights": attempt(lambda: open(weights).read()),
    "read outside": attempt(lambda: open(outside).read()),
    "list outside": attempt(lambda: os.listdir(os.path.dirname(outside))),
    "read another process": attempt(lambda: open(f"/proc/{os.getppid()}/environ", "rb").read()),
    "write weights": attempt(lambda: open(weights, "r+")),
    "create": attempt(lambda: open(outside + ".new", "w")),
    "create with flags only": attempt(lambda: os.open(outside + ".new", os.O_RDONLY | os.O_CREAT)),
    "delete": attempt(lambda: os.unlink(outside)),
    "rename": attempt(lambda: os.rename(outside, outside + ".new")),
    "socket": attempt(socket.socket),
    "unix socket": attempt(lambda: socket.socket(socket.AF_UNIX)),
    "fork": attempt(os.fork),
    "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
    "spawn": attempt(lambda: subprocess.run(["/bin/true"])),
    "kill": attempt(lambda: os.kill(os.getppid(), 0)),
    "raise a limit": attempt(lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, resource.RLIM_INFINITY))),
    "read a limit": attempt(lambda: resource.getrlimit(resource.RLIMIT_CPU)),
    "memfd": attempt(lambda: os.memfd_create("x")),
    "ptrace": attempt(lambda: linux.syscall(PTRACE, 0, 0, 0, 0)),
    "io_uring": attempt(lambda: linux.syscall(425, 1, 0)),
    "thread": attempt(lambda: threading.Thread(target=int).start()),
    "executable memory": attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)),
    "much memory": attempt(lambda: bytearray(2**26)),
    "compute": attempt(lambda: sorted(range(1000))),
}))
"""


@pytest.fixture(params=["loading", "serving"])
def attempts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    (tmp_path / "weights").write_text("weights")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    arguments = [str(tmp_path / "weights"), str(tmp_path / "secret" / "key"), request.param]
    command = [sys.executable, "-c", CONFINED, *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["key", "secret", "weights"]
    return request.param, json.loads(ran.stdout)


def test_confined_process_can_compute_and_read_its_weights_and_nothing_else(
    attempts: tuple[str, dict[str, str]],
) -> None:
    stage, found = attempts
    if found["missing"]:
        pytest.skip(f"this kernel refuses {found['missing']}")
    serving = stage == "serving"
    assert found == {
        "missing": [],
        "read weights": "allowed",
        "read outside": "refused",
        "list outside": "refused",
        "read another process": "refused",
        "write weights": "refused",
        "create": "refused",
        "create with flags only": "refused",
        "delete": "refused",
        "rename": "refused",
        "socket": "refused",
        "unix socket": "refused",
        "fork": "refused",
        "exec": "refused",
        "spawn": "refused",
        "kill": "refused",
        "raise a limit": "refused",
        "read a limit": "allowed",
        "memfd": "refused",
        "ptrace": "refused",
        "io_uring": "refused",
        "thread": "refused" if serving else "allowed",
        "executable memory": "refused" if serving else "allowed",
        "much memory": "allowed",
        "compute": "allowed",
    }


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("stage", list(Stage))
def test_filter_is_well_formed_on_every_machine(machine: str, stage: Stage) -> None:
    code = seccomp.program(stage, machine=machine, pid=1)
    assert len(code) % 8 == 0
    assert len(code) // 8 < 4096, "the kernel's limit (BPF_MAXINSNS)"


def test_tables_agree_on_what_a_worker_may_do() -> None:
    older_than_arm = {"poll", "select", "stat", "lstat", "access", "readlink", "open"}
    tables = {machine: set(names) for machine, names in seccomp._NUMBERS.items()}
    assert tables["x86_64"] - tables["aarch64"] == older_than_arm
    assert tables["aarch64"] <= tables["x86_64"]
    for numbers in seccomp._NUMBERS.values():
        assert len(set(numbers.values())) == len(numbers)


def test_machine_without_a_table_is_reported() -> None:
    with pytest.raises(OSError, match="no system-call filter for sparc"):
        seccomp.program(Stage.LOADING, machine="sparc", pid=1)


class Machine:
    """Runs a filter as the kernel does (the instructions that `seccomp.py` uses)."""

    def __init__(self, code: bytes, machine: str) -> None:
        self.code = [code[at : at + 8] for at in range(0, len(code), 8)]
        self.arch = seccomp._AUDIT_ARCH[machine]

    def __call__(self, number: int, *arguments: int, arch: int | None = None) -> int:
        import struct

        filled = [*arguments, 0, 0, 0, 0, 0, 0][:6]
        data = struct.pack("=IIQ6Q", number, arch or self.arch, 0, *filled)
        at = accumulator = 0
        while True:
            code, if_true, if_false, k = struct.unpack("=HBBI", self.code[at])
            at += 1
            if code == 0x06:
                return k
            if code == 0x20:
                [accumulator] = struct.unpack_from("=I", data, k)
            else:
                holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
                at += if_true if holds else if_false


ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_decides_by_arguments(machine: str) -> None:
    numbers = seccomp._NUMBERS[machine]
    loading = Machine(seccomp.program(Stage.LOADING, machine=machine, pid=42), machine)
    serving = Machine(seccomp.program(Stage.SERVING, machine=machine, pid=42), machine)
    computing = Machine(seccomp.program(Stage.COMPUTING, machine=machine, pid=42), machine)
    for run in (loading, serving, computing):
        assert run(numbers["read"]) == ALLOW
        assert run(numbers["openat"], 0, 0, 0o2000000) == ALLOW
        assert {run(numbers["openat"], 0, 0, flags) for flags in (1, 2, 0o100, 0o1000, 0o20000001)} == {EPERM}
        assert run(numbers["tgkill"], 42, 43, 6) == ALLOW
        assert run(numbers["tgkill"], 1, 1, 9) == EPERM
        assert run(numbers["prlimit64"], 0, 7, 0, 1) == ALLOW
        assert run(numbers["prlimit64"], 0, 7, 1 << 32, 1) == EPERM
        assert run(numbers["prlimit64"], 0, 7, 1, 0) == EPERM
        assert run(198 if machine == "aarch64" else 41) == ENOSYS, "socket"
        assert run(numbers["read"], arch=0x40000003) == 0x80000000, "another architecture's calls"
    assert loading(numbers["clone"], 0x00010000 | 0x100) == ALLOW
    assert loading(numbers["clone"], 17) == EPERM
    assert serving(numbers["clone"], 0x00010000) == ENOSYS
    assert computing(numbers["clone"], 0x00010000 | 0x100) == ALLOW
    assert computing(numbers["clone"], 17) == EPERM
    assert computing(numbers["mmap"], 0, 4096, 5) == EPERM
    assert computing(numbers["seccomp"]) == ENOSYS
    assert computing(numbers["sched_setaffinity"], 43) == ALLOW
    assert computing(numbers["sched_setaffinity"], 41) == EPERM
    assert computing(numbers["sched_setaffinity"], 0) == EPERM
    assert loading(numbers["sched_setaffinity"], 43) == ENOSYS
    assert serving(numbers["sched_setaffinity"], 43) == ENOSYS
    assert loading(numbers["mmap"], 0, 4096, 5) == ALLOW
    assert serving(numbers["mmap"], 0, 4096, 3) == ALLOW
    assert serving(numbers["mmap"], 0, 4096, 5) == EPERM
    assert serving(numbers["mprotect"], 0, 4096, 4) == EPERM
    assert serving(numbers["prctl"]) == ENOSYS
    assert serving(numbers["seccomp"]) == ENOSYS


def test_x32_calls_do_not_pass_as_others() -> None:
    run = Machine(seccomp.program(Stage.LOADING, machine="x86_64", pid=1), "x86_64")
    assert run(0x40000000) == ENOSYS


def test_cpu_limit_counts_from_now() -> None:
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        linux.limit_cpu(child.pid, seconds=0.2)
        assert child.wait(60) == -24, "SIGXCPU"
    finally:
        child.kill()
        child.wait()


def test_step_that_the_kernel_refuses_is_reported_and_does_not_stop_the_rest() -> None:
    missing: list[str] = []
    done: list[str] = []

    def refuse() -> None:
        raise OSError(38, "Function not implemented")

    sandbox._attempt("landlock", missing, refuse)
    sandbox._attempt("seccomp", missing, lambda: done.append("seccomp"))
    assert missing == ["landlock (Function not implemented)"]
    assert done == ["seccomp"]


def test_code_paths_hold_packages_and_not_the_folder_of_the_checkout() -> None:
    paths = sandbox.code_paths()
    assert any(path == ROOT / "node" for path in paths)
    assert ROOT not in paths
    assert not any(parent in paths for parent in ROOT.parents)


THREADED = """
import os, sys, time
import numpy as np
from cython_ops import DenseNetwork
from node.runtime import linux, sandbox, seccomp
from node.runtime.plan import LoadPlan
if sys.argv[2] == "anywhere":
    del seccomp._NUMBERS[linux.MACHINE]["sched_setaffinity"]
sandbox.code_paths()
missing = sandbox.enter(LoadPlan(model=b"{}", weights_path=sys.argv[1])) + sandbox.tighten(threads=True)
network = DenseNetwork([(np.ones((1024, 1024), np.float32), None, "relu", 0.0)])
rows = np.ones((256, 1024), np.float32)
began = time.process_time(), time.thread_time()
for _ in range(20):
    network(rows, threads=2)
share = (time.thread_time() - began[1]) / (time.process_time() - began[0])
print(missing, share)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
@pytest.mark.parametrize("start", ["on other processors", "anywhere"])
def test_a_confined_backend_computes_in_its_threads(tmp_path: Path, start: str) -> None:
    (tmp_path / "weights").write_text("weights")
    command = [sys.executable, "-c", THREADED, str(tmp_path / "weights"), start]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads would be counted
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    missing, share = ran.stdout.rsplit(maxsplit=1)
    if missing != "[]":
        pytest.skip(f"this kernel refuses {missing}")
    assert float(share) < 0.8, "the calling thread did it all"
