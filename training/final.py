"""Full passes over the rows with the network that is kept: loss, score, dead and sparse units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.losses import BinaryCrossEntropy, CrossEntropy, Loss
from training.network import INFER_ROWS, Network
from training.ops import Array, ops_for
from training.stats import FinalStats, LayerStats, Task

SPARSE: Final = 0.01
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that a network is given and what it shall answer, both as the loss prepared them."""

    x: Array
    targets: Array


def evaluate(network: Network, loss: Loss, rows: Rows, *, task: Task) -> tuple[float, float]:
    """Loss and score over all rows, in use. The score is accuracy, or R² for regression."""
    outputs = network.predict(rows.x)
    value = loss.value(outputs, rows.targets, ops=ops_for(network.dtype))
    return value, score(outputs, rows.targets, task=task)


def score(outputs: Array, targets: Array, *, task: Task) -> float:
    """Share of right answers; for regression R², over all outputs."""
    if task == "classification":
        return float((outputs.argmax(axis=1) == targets.argmax(axis=1)).mean())
    if task == "binary":
        return float(((outputs > 0) == (targets > 0.5)).mean())
    off = float(np.square(outputs - targets, dtype=np.float64).sum())
    spread = float(np.square(targets - targets.mean(axis=0), dtype=np.float64).sum())
    return 1 - off / spread if spread else 0.0


def final_stats(
    network: Network, loss: Loss, train: Rows, validation: Rows | None, *, task: Task
) -> FinalStats | None:
    """Evaluate the network that is kept; None where its answers are not finite."""
    value, train_score = evaluate(network, loss, train, task=task)
    if not math.isfinite(value):
        return None
    baseline = _baseline(loss, train.targets, network)
    judged = validation or train
    recalls = _recalls(network.predict(judged.x), judged.targets) if task == "classification" else None
    if validation is None:
        return FinalStats(
            loss=value, score=train_score, baseline_loss=baseline, rows=len(train.x), recalls=recalls
        )
    validation_loss, validation_score = evaluate(network, loss, validation, task=task)
    return FinalStats(
        loss=value,
        score=train_score,
        baseline_loss=baseline,
        rows=len(train.x),
        validation_loss=validation_loss,
        validation_score=validation_score,
        validation_rows=len(validation.x),
        recalls=recalls,
    )


def count_dead(network: Network, layers: list[LayerStats], x: Array) -> None:
    """Fill in `dead` and `sparse` of each ReLU layer, from a pass over all rows."""
    firing = {layer.index: np.zeros(layer.units, np.int64) for layer in layers if layer.activation == "relu"}
    if not firing:
        return
    for start in range(0, len(x), INFER_ROWS):
        part = np.ascontiguousarray(x[start : start + INFER_ROWS], dtype=network.dtype)
        bound = network.bound(len(part))
        bound.infer(part)
        for index, counts in firing.items():
            np.add(counts, np.count_nonzero(bound.bound[index].output > 0, axis=0), out=counts)
    for layer in layers:
        if (counted := firing.get(layer.index)) is not None:
            layer.dead = int((counted == 0).sum())
            layer.sparse = int(((counted > 0) & (counted < SPARSE * len(x))).sum())


def _baseline(loss: Loss, targets: Array, network: Network) -> float:
    """Loss of the best constant answer: the mean target, as the logits that say it."""
    mean = targets.mean(axis=0, dtype=np.float64)
    if isinstance(loss, CrossEntropy):
        constant = np.log(np.maximum(mean / mean.sum(), _TINY))
    elif isinstance(loss, BinaryCrossEntropy):
        share = np.clip(mean, _TINY, 1 - _TINY)
        constant = np.log(share / (1 - share))
    else:
        constant = mean
    answers = np.tile(constant.astype(network.dtype), (len(targets), 1))
    return loss.value(answers, targets, ops=ops_for(network.dtype))


def _recalls(outputs: Array, targets: Array) -> list[float | None]:
    said, truth = outputs.argmax(axis=1), targets.argmax(axis=1)
    return [
        float((said[rows] == label).mean()) if (rows := truth == label).any() else None
        for label in range(targets.shape[1])
    ]
