"""Twins of the search kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _cosines(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    r, q = rows.astype(np.float64), query.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        both = np.sqrt((r * r).sum(axis=1) * (q @ q))
        cosines = np.divide(r @ q, both, out=np.zeros(len(r)), where=both != 0)
    return np.where(np.isfinite(cosines), cosines, -np.inf)


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:k]


def cosine_topk(
    rows: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    *,
    threads: int = 1,  # noqa: ARG001
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """See `cython_ops.cosine_topk`."""
    cosines = _cosines(rows, query)
    best = _best(cosines, k)
    return cosines[best].astype(np.float32), best


def quantize_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """See `cython_ops.quantize_rows`."""
    r = rows.astype(np.float64)
    top = np.abs(r).max(axis=1, initial=0)
    norm = np.sqrt((r * r).sum(axis=1))
    usable = np.isfinite(norm) & (norm > 0)
    scale = np.divide(127, top, out=np.zeros(len(r)), where=usable)
    codes = np.rint(np.where(usable[:, None], r, 0) * scale[:, None]).astype(np.int8)
    gains = np.divide(top / 127, norm, out=np.zeros(len(r)), where=usable)
    return codes, np.where(np.isfinite(norm), gains, np.nan).astype(np.float32)


def cosine_topk_codes(
    codes: NDArray[np.int8],
    gains: NDArray[np.float32],
    rows: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    *,
    candidates: int | None = None,
    threads: int = 1,  # noqa: ARG001
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """See `cython_ops.cosine_topk_codes`."""
    k = min(k, len(rows))
    sought = quantize_rows(query[None])[0][0].astype(np.int64)
    rough = (codes.astype(np.int64) @ sought) * gains.astype(np.float64)
    few = np.sort(
        _best(np.where(np.isnan(rough), -np.inf, rough), 8 * k + 64 if candidates is None else candidates)
    )
    cosines = _cosines(rows[few], query)
    best = _best(cosines, k)
    return cosines[best].astype(np.float32), few[best]
