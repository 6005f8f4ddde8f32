"""Native kernels: NumPy arrays in, NumPy arrays out.

Each function has a twin of the same name in `cython_ops.reference` that says in NumPy what it computes.
docs/kernels.md: semantics, tolerances, tiers. Imports NumPy, so the main process must not import this.
"""

from __future__ import annotations

import os
from typing import TypedDict

try:
    from cython_ops._kernels import (
        DenseNetwork,
        activate,
        activate_backward,
        active_tier,
        active_unit,
        adam_step,
        adamw_step,
        available_tiers,
        cosine_topk,
        cosine_topk_codes,
        cross_entropy,
        cross_entropy_backward,
        dense,
        dense_backward_input,
        dense_backward_weights,
        entropy,
        iou,
        log_softmax,
        nms,
        normalize_image,
        quantize_rows,
        rmsprop_step,
        sgd_step,
        softmax,
        softmax_topk,
    )
    from cython_ops.row_codes import RowCodes
except ModuleNotFoundError as missing:
    if missing.name != "cython_ops._kernels":
        raise
    raise ImportError(
        "cython_ops._kernels is not built. `make install` builds it; it needs a C compiler (gcc or clang). "
        "`cython_ops.reference` has the same functions in NumPy."
    ) from missing

__all__ = [
    "BuildInfo",
    "DenseNetwork",
    "RowCodes",
    "activate",
    "activate_backward",
    "adam_step",
    "adamw_step",
    "build_info",
    "cosine_topk",
    "cosine_topk_codes",
    "cross_entropy",
    "cross_entropy_backward",
    "dense",
    "dense_backward_input",
    "dense_backward_weights",
    "entropy",
    "iou",
    "log_softmax",
    "nms",
    "normalize_image",
    "quantize_rows",
    "rmsprop_step",
    "sgd_step",
    "softmax",
    "softmax_topk",
]


class BuildInfo(TypedDict):
    """What this build has and uses."""

    tier: str
    tiers: tuple[str, ...]
    bfloat16: str
    threads: int
    processors: int


def build_info() -> BuildInfo:
    """Say which instruction-set tier and bfloat16 unit are in use, and which tiers this processor runs.

    `threads` is what a call uses unless it is told otherwise, `processors` what this process may run on.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "tier": active_tier(),
        "tiers": available_tiers(),
        "bfloat16": active_unit(),
        "threads": 1,
        "processors": len(affinity(0)) if affinity else os.cpu_count() or 1,
    }
