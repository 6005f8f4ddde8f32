"""Threads of a call: however many there are, all have done their part when it returns, and none stays on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cython_ops import DenseNetwork, cosine_topk, reference

TASKS = Path("/proc/self/task")
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((2000, 32), np.float32)
LAYERS = [
    (RNG.standard_normal((outputs, inputs), np.float32), None, "relu")
    for inputs, outputs in ((40, 200), (200, 100), (100, 64))
]


@pytest.mark.parametrize("threads", [2, 3, 9, 2**31 - 1])
def test_calls_in_quick_succession_give_the_same(tier: str, threads: int) -> None:
    network, x = DenseNetwork(LAYERS), RNG.standard_normal((5, 40), np.float32)
    want, best = network(x), cosine_topk(ROWS, ROWS[0], 7)[1]
    for _ in range(30):
        np.testing.assert_array_equal(network(x, threads=threads), want)
        np.testing.assert_array_equal(cosine_topk(ROWS, ROWS[0], 7, threads=threads)[1], best)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("n", [1, 8, 20, 40, 64, 127, 128, 200, 321])
def test_what_threads_draw_from_wide_layers_is_whole(tier: str, n: int, threads: int) -> None:
    layers = [
        (RNG.standard_normal((outputs, inputs), np.float32) / inputs**0.5, None, "relu")
        for inputs, outputs in ((24, 1301), (1301, 1190), (1190, 1200))
    ]
    network, x = DenseNetwork(layers), RNG.standard_normal((n, 24), np.float32)
    want = reference.DenseNetwork(layers)(x)
    for _ in range(5):
        got = network(x, threads=threads, out=np.full((n, 1200), np.nan, np.float32))
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


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


MOVED = """
#define _GNU_SOURCE
#include "team.h"
#include <sched.h>
#include <stdatomic.h>
static atomic_int wrong;
static cpu_set_t allowed;
static unsigned modes(void)
{
#ifdef __x86_64__
    return __builtin_ia32_stmxcsr() & ~0x3fu;
#else
    return 0;
#endif
}
static void task(void *context, lonja_team *team, int rank, int size)
{
    (void)team, (void)rank, (void)size;
    wrong += modes() != *(unsigned *)context || !CPU_ISSET(sched_getcpu(), &allowed);
}
static void call_thrice(void)
{
    unsigned now = modes();
    for (int i = 0; i < 3; i++) lonja_team_run(2, task, &now);
}
int main(void)
{
    sched_getaffinity(0, sizeof allowed, &allowed);
    call_thrice();
#ifdef __x86_64__
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); /* denormals count as zero */
#endif
    call_thrice();
    const int here = sched_getcpu();
    CPU_ZERO(&allowed);
    CPU_SET(here, &allowed);
    sched_setaffinity(0, sizeof allowed, &allowed);
    call_thrice();
    return wrong;
}
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
@pytest.mark.parametrize("program", [FORKED, MOVED], ids=["forked", "moved"])
def test_threads_that_linger_serve_only_a_caller_like_the_one_that_started_them(
    tmp_path: Path, program: str
) -> None:
    source = Path(__file__).parents[3] / "cython_ops" / "csrc"
    (tmp_path / "program.c").write_text(program)
    long = ["-DPATIENCE=3000000000", "-DCLOSE=3000000000", "-pthread", f"-I{source}"]
    files = [str(tmp_path / "program.c"), str(source / "team.c")]
    subprocess.run(["cc", *long, *files, "-o", str(tmp_path / "program")], check=True)
    subprocess.run([str(tmp_path / "program")], check=True, timeout=60)
