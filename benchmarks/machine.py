"""What the machine gives at the moment: a bare loop that only reads.

Neighbours on a shared machine take from a core's pace, where they have its other thread, and from the
third-level cache and memory, without a trace in the system's counters. Reading, from the first-level cache
and from beyond the second, in threads like the kernels' own and in turns with them, shows both.
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

from benchmarks.kernel_rows import aligned

HERE = Path(__file__).parent
TEAM = HERE.parent / "cython_ops" / "csrc"
NEAR = [np.ones(4096, np.float32)] * 2000
"""To be read from the first-level cache."""
_SUMS = aligned(np.zeros((64, 32), np.float32))
"""Room for each thread's sum."""


@functools.cache
def _loops() -> ctypes.CDLL:
    """machine.c and the kernels' threads, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/machine.so"
        sources = [str(HERE / "machine.c"), str(TEAM / "team.c")]
        flags = ["-O3", "-march=native", "-shared", "-fPIC", "-pthread", f"-I{TEAM}"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, *sources, "-o", built], check=True)
        return ctypes.CDLL(built)


def reading(arrays: Sequence[np.ndarray], threads: int) -> Callable[[], object]:
    """A call that only reads the arrays, once."""
    starts = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    sizes = (ctypes.c_int64 * len(arrays))(*(array.nbytes for array in arrays))
    sums = ctypes.c_void_p(_SUMS.ctypes.data)
    return partial(_loops().machine_read, starts, sizes, ctypes.c_int64(len(arrays)), sums, threads)
