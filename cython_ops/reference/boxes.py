"""Twins of the box kernels: float32 throughout, in the kernels' order, so both decide equally."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _overlap(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Intersection and union of each box of `a` with each of `b`, [n, m]."""
    a, b = a[:, None], b[None]
    with np.errstate(invalid="ignore", over="ignore"):
        w = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
        h = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
        inter = np.maximum(w, np.float32(0)) * np.maximum(h, np.float32(0))
        sides = [np.maximum(box[..., 2:] - box[..., :2], np.float32(0)) for box in (a, b)]
        areas = [side[..., 0] * side[..., 1] for side in sides]
        return inter, (areas[0] + areas[1]) - inter


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """See `cython_ops.iou`."""
    inter, union = _overlap(a, b)
    result = np.zeros_like(union)
    with np.errstate(invalid="ignore"):
        np.divide(inter, union, out=result, where=union != 0)
    return result


def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    iou_threshold: float,
    score_threshold: float = float("-inf"),
    classes: NDArray[np.int64] | None = None,
    max_output: int | None = None,
) -> NDArray[np.int64]:
    """See `cython_ops.nms`."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= np.float32(score_threshold)]
    group = np.zeros(len(scores), np.int64) if classes is None else classes
    stay: list[int] = []
    for index in order:
        rivals = [kept for kept in stay if group[kept] == group[index]]
        inter, union = _overlap(boxes[index : index + 1], boxes[rivals])
        with np.errstate(invalid="ignore"):
            if not (inter > np.float32(iou_threshold) * union).any():
                stay.append(int(index))
    return np.array(stay[:max_output], np.int64)
