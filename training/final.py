"""Full passes over the rows with the network that is kept: loss, score, dead and sparse units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from training.batches import Rows
from training.losses import BinaryCrossEntropy, CrossEntropy, Loss
from training.network import INFER_ROWS, Network
from training.ops import Array, ops_for
from training.stats import FinalStats, LayerStats, Task

SPARSE: Final = 0.01
_TINY: Final = 1e-12


def evaluate(network: Network, loss: Loss, rows: Rows, *, task: Task) -> tuple[float, float]:
    """Loss and score over all rows, in use. The score is accuracy, or R² for regression."""
    return _judged(network.predict(rows.x), network, loss, rows, task=task)


def _judged(outputs: Array, network: Network, loss: Loss, rows: Rows, *, task: Task) -> tuple[float, float]:
    value = loss.value(outputs, rows.targets, ops=ops_for(network.dtype))
    return value, score(outputs, rows.targets, task=task)


def score(outputs: Array, targets: Array, *, task: Task) -> float:
    """Share of right answers; for regression R², over all outputs."""
    if task != "regression":
        return float((said(outputs, task=task) == truth(targets, task=task)).mean())
    off = float(np.square(outputs - targets, dtype=np.float64).sum())
    spread = float(np.square(targets - targets.mean(axis=0), dtype=np.float64).sum())
    return 1 - off / spread if spread else 0.0


def said(outputs: Array, *, task: Task) -> Array:
    """The classes that outputs [n, outputs] name: by the largest, or of two classes by an output's sign."""
    return (outputs > 0).astype(np.intp) if task == "binary" else outputs.argmax(axis=1)


def truth(targets: Array, *, task: Task) -> Array:
    """The classes of prepared targets, in the shape of `said`."""
    return (targets > 0.5).astype(np.intp) if task == "binary" else targets


def final_stats(
    network: Network,
    loss: Loss,
    train: Rows,
    validation: Rows | None,
    *,
    task: Task,
    layers: Sequence[LayerStats] = (),
) -> FinalStats | None:
    """Evaluate the network that is kept; None where its answers are not finite.

    Parameters
    ----------
    layers : whose `dead` and `sparse` are filled in, of ReLU layers, in the same pass over the training rows.
    """
    outputs, firing = _outputs_and_firing(network, layers, train.x)
    value, train_score = _judged(outputs, network, loss, train, task=task)
    if not math.isfinite(value):
        return None
    for layer, fired in firing:
        layer.dead = int((fired == 0).sum())
        layer.sparse = int(((fired > 0) & (fired < SPARSE * len(train.x))).sum())
    judged, validated = train, None
    if validation is not None:
        judged, outputs = validation, network.predict(validation.x)
        validated = _judged(outputs, network, loss, validation, task=task)
    recalls = None
    if task != "regression" and (task != "binary" or network.outputs == 1):
        answers = said(outputs, task=task).reshape(-1)
        recalls = _recalls(answers, truth(judged.targets, task=task).reshape(-1), max(network.outputs, 2))
    return FinalStats(
        loss=value,
        score=train_score,
        baseline_loss=_baseline(loss, train.targets, network),
        rows=len(train.x),
        validation_loss=validated[0] if validated else None,
        validation_score=validated[1] if validated else None,
        validation_rows=len(validation.x) if validation is not None else 0,
        recalls=recalls,
    )


def _outputs_and_firing(
    network: Network, layers: Sequence[LayerStats], x: Array
) -> tuple[Array, list[tuple[LayerStats, Array]]]:
    """What the network answers, in use, and for how many rows each unit of the ReLU layers fired."""
    firing = [(layer, np.zeros(layer.units, np.int64)) for layer in layers if layer.activation == "relu"]
    outputs = np.empty((len(x), network.outputs), network.dtype)
    for start in range(0, len(x), INFER_ROWS):
        part = x[start : start + INFER_ROWS]
        bound = network.bound(len(part))
        outputs[start : start + len(part)] = bound.infer(part)
        ones = np.ones(len(part), network.dtype)
        for layer, fired in firing:
            # a sum over rows by BLAS is the quickest, and exact: a part has fewer than 2^24 rows
            output = bound.bound[layer.index].output  # not needed any more
            np.add(fired, (ones @ np.greater(output, 0, out=output)).astype(np.int64), out=fired)
    return outputs, firing


def _baseline(loss: Loss, targets: Array, network: Network) -> float:
    """Loss of the best constant answer: the (weighted) mean target, as the logits that say it."""
    if isinstance(loss, CrossEntropy):
        counts = np.bincount(targets, minlength=network.outputs) * np.asarray(loss.weights or 1.0)
        constant = np.log(np.maximum(counts / counts.sum(), _TINY))
    elif isinstance(loss, BinaryCrossEntropy):
        zero, one = loss.weights or (1.0, 1.0)
        mean = targets.mean(axis=0, dtype=np.float64)
        constant = np.log(np.maximum(one * mean, _TINY) / np.maximum(zero * (1 - mean), _TINY))
    else:
        constant = targets.mean(axis=0, dtype=np.float64)
    answers = np.tile(constant.astype(network.dtype), (len(targets), 1))
    return loss.value(answers, targets, ops=ops_for(network.dtype))


def _recalls(answers: Array, classes: Array, count: int) -> list[float | None]:
    right = np.bincount(classes[answers == classes], minlength=count)
    rows = np.bincount(classes, minlength=count)
    return [float(r) / int(n) if n else None for r, n in zip(right, rows, strict=True)]
