"""Threads of a call: however many there are, all have done their part when it returns, and none stays."""

from __future__ import annotations

import os
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
