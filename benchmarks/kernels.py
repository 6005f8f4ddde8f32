"""The kernels beside NumPy, ONNX Runtime, OpenVINO, torch and OpenCV (where installed), called from Python.

`python -m benchmarks.kernels` prints three tables, each measured in a process of its own: every tier beside
the peers, one pinned thread; the same with all held to AVX2, as far as each can be told (ONNX Runtime cannot,
so it is no peer there); and what a second thread brings to the large rows. All in a row take turns.
Microseconds a call, median (minimum); "x best peer" is the fastest peer's median over ours on the best tier;
"machine" is what a bare reading loop reached in the same turns: GB/s from the first-level cache, and of
24 MB. "reading alone" is what such a loop gains from a second thread over the bytes that the row reads,
"from the first level" over 16 KB.
`--table peers|avx2|threads` for one of them, `--only NAME` for some rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

import cython_ops
from benchmarks import machine
from benchmarks.kernel_rows import Work, works
from benchmarks.peers import borrow
from benchmarks.peers.compute import SINGLE, Call, avx2, library
from cython_ops import _kernels

TABLES = {
    "peers": "One thread, every tier",
    "avx2": "One thread, AVX2 only",
    "threads": "Two threads",
}
PEERS = {"numpy": "numpy", "ort": "onnxruntime", "openvino": "openvino", "torch": "torch", "opencv": "cv2"}
LAST = ("machine", "x best peer")
UNHELD = "ort"
"""The peer that uses AVX-512 whatever it is told."""
PREPARED = "LONJA_BENCHMARK_TABLE"
TURNS, TURN_SECONDS = 8, 0.06
TURNS_OF_TWO = 40
"""For two threads: that both processors are left alone for half a second is rare."""

READ = {"near": machine.NEAR, "far": [np.ones(6_000_000, np.float32)]}
"""To be read by a bare loop; the second is as much as the large network."""

Contender = tuple[Callable[[], None], Call]
"""What sets the stage, and the call."""
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds a call over all rounds."""

    median: float
    least: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)})"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def round_of(call: Call, number: int) -> float:
    """Microseconds a call, over `number` calls."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number * 1e6


def in_turns(contenders: Mapping[Name, Contender], turns: int = TURNS) -> dict[Name, Sample]:
    """Time all in turns, so that what else the machine does meets all alike.

    A turn has rounds of about two milliseconds (one call, if that is longer); the first does not count.
    """
    rounds: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, (prepare, call) in contenders.items():
            prepare()
            call()
            number = max(1, int(2e3 / max(round_of(call, 1), 0.1)))
            round_of(call, number)
            stop, least = time.perf_counter() + TURN_SECONDS, len(rounds[name]) + 3
            while time.perf_counter() < stop or len(rounds[name]) < least:
                rounds[name].append(round_of(call, number))
    return {name: Sample(statistics.median(of), min(of)) for name, of in rounds.items()}


def ours(tier: str, work: Work, *, threads: int = 1) -> Contender:
    """Our call on a tier."""
    return partial(_kernels.use_tier, tier), work.ours(threads)


def beside_peers(work: Work, *, held: bool) -> dict[str, str]:
    """Our tiers (`held`: AVX2 alone), the peers, and the best peer's median over that of the first tier."""
    tiers = ["avx2"] if held else list(_kernels.available_tiers())
    peers: dict[str, Contender] = {name: (lambda: None, call) for name, call in work.peers.items()}
    loops: dict[str, Contender] = {
        name: ((lambda: None), machine.reading(arrays, 1)) for name, arrays in READ.items()
    }
    samples = in_turns({tier: ours(tier, work) for tier in tiers} | peers | loops)
    rivals = [samples[name].median for name in peers if not (held and name == UNHELD)]
    row = {"target": _short(work.target)} if not held else {}
    row |= {name: str(sample) for name, sample in samples.items() if name not in loops}
    row["machine"] = ", ".join(
        f"{sum(a.nbytes for a in arrays) / samples[name].median / 1e3:.0f}" for name, arrays in READ.items()
    )
    return row | {"x best peer": f"{min(rivals) / samples[tiers[0]].median:.2f}"}


def in_two_threads(work: Work) -> dict[str, str]:
    """The best tier with one thread and with two; and what bare loops gain from two, in the same turns."""
    tier = _kernels.active_tier()
    calls: dict[tuple[str, int], Contender] = {}
    for threads in (1, 2):
        calls["work", threads] = ours(tier, work, threads=threads)
        calls["reading", threads] = (lambda: None), machine.reading(work.reads, threads)
        calls["near", threads] = (lambda: None), machine.reading(machine.NEAR, threads)
    samples = in_turns(calls, TURNS_OF_TWO)
    one, two = samples["work", 1], samples["work", 2]
    row = {
        "1 thread": str(one),
        "2 threads": str(two),
        "gain, medians": f"{one.median / two.median:.2f}x",
        "minima": f"{one.least / two.least:.2f}x",
    }
    for name, loop in (("reading alone", "reading"), ("from the first level", "near")):
        row[name] = f"{samples[loop, 1].median / samples[loop, 2].median:.2f}x"
    return row


def rows(table: str, *, only: str = "") -> Iterator[dict[str, str]]:
    """One dict a row of the table."""
    for work in works():
        if only not in work.name or (table == "threads" and not work.reads):
            continue
        before = _kernels.active_tier()
        made = in_two_threads(work) if table == "threads" else beside_peers(work, held=table == "avx2")
        _kernels.use_tier(before)
        yield {"work": work.name} | made


def print_table(table: str, *, only: str) -> None:
    """Measure in this process, whose environment is set."""
    if table != "threads":
        borrow()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-2 if table == "threads" else -1 :])
    built = cython_ops.build_info()
    there = [f"{name} {module.__version__}" for name, of in PEERS.items() if (module := library(of))]
    peers = f" Peers: {', '.join(there)}." if table != "threads" else ""
    print(f"### {TABLES[table]}\n\nBest tier: {built['tier']}; bfloat16: {built['bfloat16']}.{peers}")
    header: list[str] = []
    for row in rows(table, only=only):
        if not header:
            found = [name for name, of in PEERS.items() if library(of)] if table != "threads" else []
            header = [name for name in row if name not in PEERS and name not in LAST] + found
            header += [name for name in row if name in LAST]
            print("\n| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        print("| " + " | ".join(row.get(name, "") for name in header) + " |", flush=True)
    print()


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, each from a process whose environment the peers' libraries read as they load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels")
    parser.add_argument("--table", choices=TABLES, action="append")
    parser.add_argument("--only", default="", metavar="NAME")
    given = parser.parse_args(arguments)
    if os.environ.get(PREPARED):
        print_table(given.table[0], only=given.only)
        return 0
    failed = 0
    for table in given.table or TABLES:
        environment = os.environ | SINGLE | {PREPARED: table} | (avx2() if table == "avx2" else {})
        command = [sys.executable, "-m", "benchmarks.kernels", "--table", table, "--only", given.only]
        failed |= subprocess.run(command, env=environment, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
