"""Threads of a call: however many there are, all have done their part when it returns, and none stays on."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cython_ops import DenseNetwork, cosine_topk

TASKS = Path("/proc/self/task")
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((2000, 32), np.float32)
LAYERS = [
    (RNG.standard_normal((outputs, inputs), np.float32), None, "relu")
    for inputs, outputs in ((40, 200), (200, 100), (100, 64))
]


@pytest.mark.parametrize("threads", [2, 3, 9, 1000])
def test_calls_in_quick_succession_give_the_same(tier: str, threads: int) -> None:
    network, x = DenseNetwork(LAYERS), RNG.standard_normal((5, 40), np.float32)
    want, best = network(x), cosine_topk(ROWS, ROWS[0], 7)[1]
    for _ in range(30):
        np.testing.assert_array_equal(network(x, threads=threads), want)
        np.testing.assert_array_equal(cosine_topk(ROWS, ROWS[0], 7, threads=threads)[1], best)


def test_teams_of_several_callers_do_not_meet() -> None:
    network, x = DenseNetwork(LAYERS), RNG.standard_normal((5, 40), np.float32)
    want, wrong = network(x), []

    def work() -> None:
        wrong.extend(1 for _ in range(50) if not np.array_equal(network(x, threads=3), want))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.skipif(not TASKS.exists(), reason="counts threads in /proc")
def test_no_thread_stays() -> None:
    before = len(os.listdir(TASKS))
    for _ in range(100):
        cosine_topk(ROWS, ROWS[0], 7, threads=4)
    stop = time.monotonic() + 10
    while len(os.listdir(TASKS)) > before:  # the last ones may still be on their way out
        assert time.monotonic() < stop


@pytest.mark.skipif(
    not TASKS.exists() or len(os.sched_getaffinity(0)) < 2, reason="compares threads in /proc; two processors"
)
def test_threads_of_a_call_serve_the_next_one_if_it_comes_at_once() -> None:
    own, before, lasting = set(os.listdir(TASKS)), set[str](), 0
    stop = time.monotonic() + 10
    while lasting < 20:
        cosine_topk(ROWS, ROWS[0], 7, threads=2)
        now = set(os.listdir(TASKS)) - own
        lasting = lasting + 1 if now & before else 0
        before = now
        assert time.monotonic() < stop


FORKED = """
#include "team.h"
#include <sys/wait.h>
#include <unistd.h>
static int done;
static void task(void *context, lonja_team *team, int rank, int size)
{
    (void)context, (void)team, (void)rank, (void)size;
    __atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
}
int main(void)
{
    int status;
    for (int i = 0; i < 3; i++) lonja_team_run(2, task, 0);
    const pid_t child = fork();
    alarm(20);
    for (int i = 0; i < 3; i++) lonja_team_run(2, task, 0);
    if (child == 0) return done != 12;
    return done != 12 || waitpid(child, &status, 0) != child || status != 0;
}
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_process_forked_while_threads_linger_has_its_own(tmp_path: Path) -> None:
    source = Path(__file__).parents[3] / "cython_ops" / "csrc"
    program = tmp_path / "forked"
    (tmp_path / "forked.c").write_text(FORKED)
    long = ["-DLOOKS=100000000", "-DCLOSE=9000000000", "-pthread", f"-I{source}"]
    files = [str(tmp_path / "forked.c"), str(source / "team.c")]
    subprocess.run(["cc", *long, *files, "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True, timeout=60)
