"""The kernels beside NumPy, ONNX Runtime, OpenVINO, torch and OpenCV (where installed), called from Python.

`python -m benchmarks.kernels` prints three tables, each measured in a process of its own: every tier beside
the peers, one pinned thread; the same with all held to AVX2, as far as each can be told (ONNX Runtime cannot,
so it is no peer there); and what a second thread brings to the large rows. All of a table take turns.
Microseconds a call, median (minimum); "x best peer" is the fastest peer's median over ours on the best tier;
"machine" is what a bare reading loop reached in the same turns: GB/s from the first-level cache, and of
24 MB. "from the first level" is what such a loop gains from a second thread over 16 KB, which nothing but
neighbours can keep from doubling its pace; "both cores free" is the row's gain in those turns alone (so many
of all) in which the loop gained 1.8x; "reading alone" is the loop's over the bytes that the row reads.
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
from itertools import chain
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
TURNS, TURNS_OF_TWO = (24, 0.02), (120, 0.02)
"""How many, and seconds for each call: many short ones, in which the neighbours hardly change."""

FREE = 1.8
"""What the bare loop must gain in a turn for both processors to count as free in it."""

READ = {"near": machine.NEAR, "far": [np.ones(6_000_000, np.float32)]}
"""To be read by a bare loop; the second is as much as the large network."""

Contender = tuple[Callable[[], None], Call]
"""What sets the stage, and the call."""
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds a call: over all rounds, and each turn's median."""

    median: float
    least: float
    turns: tuple[float, ...]

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


def in_turns(contenders: Mapping[Name, Contender], turns: int, seconds: float) -> dict[Name, Sample]:
    """Time all in turns, so that what else the machine does meets all alike.

    A turn has rounds of about two milliseconds (one call, if that is longer); the first does not count.
    """
    rounds: dict[Name, list[list[float]]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, (prepare, call) in contenders.items():
            prepare()
            call()
            number = max(1, int(2e3 / max(round_of(call, 1), 0.1)))
            round_of(call, number)
            stop, turn = time.perf_counter() + seconds, []
            while time.perf_counter() < stop or len(turn) < 3:
                turn.append(round_of(call, number))
            rounds[name].append(turn)
    return {
        name: Sample(statistics.median(every), min(every), tuple(statistics.median(turn) for turn in of))
        for name, of in rounds.items()
        for every in [list(chain.from_iterable(of))]
    }


def ours(tier: str, work: Work, *, threads: int = 1) -> Contender:
    """Our call on a tier."""
    return partial(_kernels.use_tier, tier), work.ours(threads)


def beside_peers(work: Work, *, held: bool) -> dict[str, Contender]:
    """Our tiers (`held`: AVX2 alone), the peers, and bare loops."""
    tiers = ["avx2"] if held else list(_kernels.available_tiers())
    calls: dict[str, Contender] = {tier: ours(tier, work) for tier in tiers}
    calls |= {name: ((lambda: None), call) for name, call in work.peers.items()}
    return calls | {name: ((lambda: None), machine.reading(arrays, 1)) for name, arrays in READ.items()}


def peers_row(work: Work, samples: Mapping[str, Sample], *, held: bool) -> dict[str, str]:
    """The contenders' figures, and the best peer's median over that of the best tier."""
    tier = "avx2" if held else _kernels.available_tiers()[0]
    rivals = [samples[name].median for name in work.peers if not (held and name == UNHELD)]
    row = {"target": _short(work.target)} if not held else {}
    row |= {name: str(sample) for name, sample in samples.items() if name not in READ}
    row["machine"] = ", ".join(
        f"{sum(a.nbytes for a in arrays) / samples[name].median / 1e3:.0f}" for name, arrays in READ.items()
    )
    return row | {"x best peer": f"{min(rivals) / samples[tier].median:.2f}"}


def in_two_threads(work: Work) -> dict[str, Contender]:
    """The best tier with one thread and with two; and bare loops."""
    calls: dict[str, Contender] = {}
    for threads in (1, 2):
        calls[f"work {threads}"] = ours(_kernels.active_tier(), work, threads=threads)
        calls[f"near {threads}"] = (lambda: None), machine.reading(machine.NEAR, threads)
        calls[f"reading {threads}"] = (lambda: None), machine.reading(work.reads, threads)
    return calls


def threads_row(samples: Mapping[str, Sample]) -> dict[str, str]:
    """What the second thread brings; and what bare loops gain from two."""
    one, two = samples["work 1"], samples["work 2"]
    row = {
        "1 thread": str(one),
        "2 threads": str(two),
        "gain, medians": f"{one.median / two.median:.2f}x",
        "minima": f"{one.least / two.least:.2f}x",
    }
    near = zip(samples["near 1"].turns, samples["near 2"].turns, strict=True)
    free = [turn for turn, (alone, both) in enumerate(near) if alone >= FREE * both]
    row["both cores free"] = f"(0 of {len(one.turns)})"
    if free:
        gain = statistics.median(one.turns[i] for i in free) / statistics.median(two.turns[i] for i in free)
        row["both cores free"] = f"{gain:.2f}x ({len(free)} of {len(one.turns)})"
    for name, loop in (("reading alone", "reading"), ("from the first level", "near")):
        row[name] = f"{samples[f'{loop} 1'].median / samples[f'{loop} 2'].median:.2f}x"
    return row


def rows(table: str, *, only: str = "") -> Iterator[dict[str, str]]:
    """One dict a row of the table, all measured in turns."""
    two, held = table == "threads", table == "avx2"
    chosen = [work for work in works() if only in work.name and (work.reads or not two)]
    before = _kernels.active_tier()
    contenders = {
        (work.name, name): contender
        for work in chosen
        for name, contender in (in_two_threads(work) if two else beside_peers(work, held=held)).items()
    }
    samples = in_turns(contenders, *(TURNS_OF_TWO if two else TURNS))
    _kernels.use_tier(before)
    for work in chosen:
        of = {name: sample for (row, name), sample in samples.items() if row == work.name}
        yield {"work": work.name} | (threads_row(of) if two else peers_row(work, of, held=held))


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
