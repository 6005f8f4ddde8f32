"""Activation, top-k and entropy in NumPy."""

from __future__ import annotations

import numpy as np

from postprocessors.base import Array


def softmax_topk(logits: Array, k: int, *, activation: str) -> tuple[Array, Array, Array]:
    x = logits.astype(np.float64)
    if activation == "softmax":
        x = np.exp(x - x.max(axis=1, keepdims=True))
        x /= x.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        x = 1 / (1 + np.exp(-x))
    ids = np.argsort(-x, axis=1, kind="stable")[:, :k]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(x > 0, x * np.log(x), 0).sum(axis=1)
    return np.take_along_axis(x, ids, 1), ids, entropy
