"""Twins of the kernels that turn logits into scores."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["softmax", "sigmoid", "none"]


def _softmax(row: NDArray[np.float64]) -> NDArray[np.float64]:
    top = row.max()
    # +Inf, or all -Inf: the limit of logits growing together, so the infinite ones share the mass
    raised = (row == top).astype(np.float64) if np.isinf(top) else np.exp(row - top)
    result: NDArray[np.float64] = raised / raised.sum()
    return result


def _entropy(p: NDArray[np.float64]) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def _bernoulli_entropy(row: NDArray[np.float64]) -> float:
    a = np.minimum(np.abs(row), 700.0)
    e = np.exp(-a)
    return float((np.log1p(e) + a * e / (1 + e)).sum())


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e / (1 + e), 1 / (1 + e))


def _scores(row: NDArray[np.float64], activation: Activation) -> tuple[NDArray[np.float64], float]:
    if activation == "softmax":
        p = _softmax(row)
        return p, _entropy(p)
    if activation == "sigmoid":
        return _sigmoid(row), _bernoulli_entropy(row)
    if activation == "none":
        usable = row.min() >= 0 and row.max() <= 1e30 and row.sum() >= 1e-30
        return row, _entropy(row / row.sum()) if usable else float("nan")
    raise ValueError(f"activation must be 'softmax', 'sigmoid' or 'none', not {activation!r}")


def _rows(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of each row; a row with a NaN is NaN."""
    result = np.full(logits.shape, np.nan)
    for r, row in enumerate(logits.astype(np.float64)):
        if row.size and not np.isnan(row).any():
            result[r] = _softmax(row)
    return result


def _put(result: NDArray[np.float64], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if out is None:
        with np.errstate(over="ignore"):
            return result.astype(np.float32)
    out[...] = result
    return out


def softmax(logits: NDArray[np.float32], *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """See `cython_ops.softmax`."""
    return _put(_rows(logits), out)


def _log_rows(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-softmax of each row; a row with a NaN is NaN."""
    result = np.full(logits.shape, np.nan)
    for r, row in enumerate(logits.astype(np.float64)):
        if not row.size or np.isnan(row).any():
            continue
        top = row.max()
        if np.isinf(top):
            shared = row == top
            result[r] = np.where(shared, -np.log(shared.sum()), -np.inf)
        else:
            result[r] = row - top - np.log(np.exp(row - top).sum())
    return result


def log_softmax(
    logits: NDArray[np.float32], *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """See `cython_ops.log_softmax`."""
    return _put(_log_rows(logits), out)


def cross_entropy(
    logits: NDArray[np.float32], labels: NDArray[np.int64], *, weights: NDArray[np.float32] | None = None
) -> float:
    """See `cython_ops.cross_entropy`."""
    losses = -_log_rows(logits)[np.arange(len(labels)), labels]
    if weights is not None:
        losses *= weights.astype(np.float64)[labels]
    return float(losses.mean()) if len(losses) else float("nan")


def cross_entropy_backward(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    weights: NDArray[np.float32] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.cross_entropy_backward`."""
    result = _rows(logits)
    result[np.arange(len(labels)), labels] -= 1
    if weights is not None:
        result *= weights.astype(np.float64)[labels][:, None]
    return _put(result / max(1, len(labels)), out)


def entropy(logits: NDArray[np.float32], *, activation: Activation = "softmax") -> NDArray[np.float64]:
    """See `cython_ops.entropy`."""
    return softmax_topk(logits, 0, activation=activation)[2]


def softmax_topk(
    logits: NDArray[np.float32], k: int, *, activation: Activation = "softmax"
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """See `cython_ops.softmax_topk`."""
    n, c = logits.shape
    k = min(k, c)
    values = np.full((n, k), np.nan, np.float32)
    indices = np.tile(np.arange(k, dtype=np.int64), (n, 1))
    entropy = np.full(n, np.nan if c else 0.0)
    for r, row in enumerate(logits.astype(np.float64)):
        if c and not np.isnan(row).any():
            p, entropy[r] = _scores(row, activation)
            indices[r] = np.argsort(-row, kind="stable")[:k]
            values[r] = p[indices[r]]
    return values, indices, entropy
