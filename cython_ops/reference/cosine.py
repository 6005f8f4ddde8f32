"""Twins of the search kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cython_ops.row_codes import RowCodes


def _cosines(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    r, q = rows.astype(np.float64), query.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (r * r).sum(axis=1) * (q @ q)
        squares[np.square(rows).sum(axis=1) * np.square(query).sum() == np.inf] = np.nan
        both = np.sqrt(squares)
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


def _fit(x: NDArray[np.float64], codes: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gains and margins of codes for rows of norm 1 (or of zeros, with codes of zeros)."""
    dot = (x * codes).sum(axis=1)
    gains = np.divide(1, dot, out=np.zeros(len(x)), where=dot != 0)
    rest = np.abs(x - gains[:, None] * codes)
    squares, lost = (rest * rest).sum(axis=1), (rest * rest * (codes == 0)).sum(axis=1)
    length = np.sqrt(squares)
    margins = np.where(2 * lost > squares, length, np.minimum(length, 5 * rest.max(axis=1, initial=0)))
    return gains.astype(np.float32), margins.astype(np.float32)


def quantize_rows(rows: NDArray[np.float32]) -> RowCodes:
    """See `cython_ops.quantize_rows`."""
    n, d = rows.shape
    x = np.zeros((n, (d + 31) // 32 * 32))
    x[:, :d] = rows
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        square = np.square(rows).sum(axis=1, dtype=np.float64)
    usable = (square >= 1e-30) & (square < np.finfo(np.float32).max)
    x = np.where(usable[:, None], x, 0)
    x = np.divide(x, np.sqrt(square)[:, None], out=np.zeros_like(x), where=usable[:, None])
    top = np.abs(x).max(axis=1, initial=0)
    scale = np.divide(119, top, out=np.zeros(n), where=usable)
    codes = np.rint(x * scale[:, None]).astype(np.int64)
    upper = (codes + 8) // 16
    upper_fit, fit = _fit(x, upper), _fit(x, codes)
    for _, margins in (upper_fit, fit):
        margins[~usable & (square != 0)] = np.inf
    return RowCodes(_plane(upper), _plane(codes - 16 * upper), *upper_fit, *fit)


def _plane(halves: NDArray[np.int64]) -> NDArray[np.uint8]:
    low, high = np.split(halves + 8, 2, axis=1)
    return (low | high << 4).astype(np.uint8)


def cosine_topk_codes(
    codes: RowCodes,
    rows: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    *,
    threads: int = 1,  # noqa: ARG001
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """See `cython_ops.cosine_topk_codes`."""
    k = min(k, len(rows))
    sought = quantize_rows(query[None])
    rough = codes.halves() @ sought.numbers()[0] * codes.upper_gains.astype(np.float64) * sought.gains[0]
    margins = codes.upper_margins + sought.margins[0] + 4e-6 + 6e-8 * rows.shape[1]
    surest = _best(rough - margins, k)
    least = _cosines(rows[surest], query).min(initial=np.inf)
    few = np.union1d(surest, np.flatnonzero(rough + margins >= least))
    cosines = _cosines(rows[few], query)
    best = _best(cosines, k)
    return cosines[best].astype(np.float32), few[best]
