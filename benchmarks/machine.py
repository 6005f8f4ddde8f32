"""What the machine gives at the moment: bare loops that only multiply, or only read.

Neighbours on a shared machine take from the cores' pace, and from the third-level cache and memory, without a
trace in the system's counters. These loops, in threads like the kernels' own and in turns with them, show it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TEAM = HERE.parent / "cython_ops" / "csrc"
ROUNDS = 100_000
"""Of eight vectors each."""
_SUMS = np.zeros((65, 32), np.float32)


@functools.cache
def _loops() -> ctypes.CDLL:
    """machine.c and the kernels' threads, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/machine.so"
        sources = [str(HERE / "machine.c"), str(TEAM / "team.c")]
        flags = ["-O3", "-march=native", "-shared", "-fPIC", "-pthread", f"-I{TEAM}"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, *sources, "-o", built], check=True)
        return ctypes.CDLL(built)


def multiplying(threads: int) -> Callable[[], object]:
    """A call that multiplies and adds 8 * `ROUNDS` vectors of 64 bytes, in registers alone."""
    return partial(_loops().machine_multiply, ctypes.c_int64(ROUNDS), _sums(), threads)


def reading(arrays: Sequence[np.ndarray], threads: int) -> Callable[[], object]:
    """A call that only reads the arrays, once."""
    starts = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    sizes = (ctypes.c_int64 * len(arrays))(*(array.nbytes for array in arrays))
    return partial(_loops().machine_read, starts, sizes, ctypes.c_int64(len(arrays)), _sums(), threads)


def _sums() -> ctypes.c_void_p:
    """Room for each thread's sums, at a multiple of 64 bytes."""
    return ctypes.c_void_p(_SUMS.ctypes.data + -_SUMS.ctypes.data % 64)
