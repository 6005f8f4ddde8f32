"""Losses: means over the rows of a batch, with their gradients by the network's outputs.

Classification losses take logits: softmax and sigmoid are theirs, which is exact where a separate step would
overflow. `prepare` turns targets into an array that a batch is a view of; class numbers stay one a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from training.errors import PlanInvalid
from training.ops import Array, Ops


class Loss(Protocol):
    """A loss over batches of rows."""

    def prepare(self, targets: Array, outputs: int, *, dtype: np.dtype[np.generic]) -> Array:
        """Targets, an entry or a row for each row. Raises `PlanInvalid` where they do not fit."""

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:
        """The mean over rows; `targets` as `prepare` gave them."""

    def gradient(self, outputs: Array, targets: Array, *, ops: Ops, out: Array) -> Array:
        """Gradient of the mean by `outputs`, written into `out`."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """-w log softmax(z) at the row's class, in nats. Targets are class numbers.

    Parameters
    ----------
    weights : w of each class, for unbalanced data; the loss stays a mean over rows.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(map(float, self.weights)))
            if not all(map(math.isfinite, self.weights)):
                raise PlanInvalid(f"cross-entropy weights {self.weights} must be finite numbers")

    def prepare(self, targets: Array, outputs: int, *, dtype: np.dtype[np.generic]) -> Array:  # noqa: ARG002
        labels = np.asarray(targets)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise PlanInvalid(f"cross-entropy takes class numbers [n], not {labels.dtype} {labels.shape}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < outputs:
            raise PlanInvalid(
                f"classes are {labels.min()} to {labels.max()}, but the network has {outputs} outputs: "
                "number the classes from 0 and give the last layer one output a class"
            )
        if self.weights is not None and len(self.weights) != outputs:
            raise PlanInvalid(
                f"cross-entropy has {len(self.weights)} weights, but the network has {outputs} outputs: "
                "give each class one"
            )
        return np.ascontiguousarray(labels, dtype=np.int64)

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:
        return ops.cross_entropy(outputs, targets, weights=_weights(self.weights, outputs.dtype))

    def gradient(self, outputs: Array, targets: Array, *, ops: Ops, out: Array) -> Array:
        weights = _weights(self.weights, outputs.dtype)
        return ops.cross_entropy_backward(outputs, targets, weights=weights, out=out)


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """-(w1 t log s + w0 (1 - t) log(1 - s)), s = sigmoid(z), meaned over rows and outputs. Targets 0 to 1.

    Parameters
    ----------
    weights : (w0, w1) of the classes 0 and 1, for unbalanced data.
    """

    weights: tuple[float, float] | None = None

    def prepare(self, targets: Array, outputs: int, *, dtype: np.dtype[np.generic]) -> Array:
        rows = _numbers(targets, outputs, dtype, "binary cross-entropy")
        if len(rows) and not (rows.min() >= 0 and rows.max() <= 1):
            raise PlanInvalid(
                f"binary cross-entropy takes targets from 0 to 1, not {rows.min():g} to {rows.max():g}"
            )
        return rows

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:  # noqa: ARG002 - the interface
        # log(1 + e^z) - t z, written so that nothing overflows
        soft = np.log1p(np.exp(-np.abs(outputs)))
        if self.weights is None:
            return float((soft + np.maximum(outputs, 0) - targets * outputs).mean())
        zero, one = self.weights
        no, yes = soft + np.maximum(outputs, 0), soft + np.maximum(-outputs, 0)
        return float((one * targets * yes + zero * (1 - targets) * no).mean())

    def gradient(self, outputs: Array, targets: Array, *, ops: Ops, out: Array) -> Array:
        ops.activate(outputs, activation="sigmoid", out=out)
        if self.weights is None:
            np.subtract(out, targets, out=out)
        else:
            zero, one = (out.dtype.type(weight) for weight in self.weights)
            out[...] = zero * (1 - targets) * out - one * targets * (1 - out)
        np.multiply(out, out.dtype.type(1 / out.size), out=out)
        return out


@dataclass(frozen=True, slots=True)
class MeanSquaredError:
    """(y - t)^2, meaned over rows and outputs."""

    def prepare(self, targets: Array, outputs: int, *, dtype: np.dtype[np.generic]) -> Array:
        return _numbers(targets, outputs, dtype, "mean squared error")

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:  # noqa: ARG002 - the interface
        off = outputs - targets
        return float(np.vdot(off, off)) / off.size

    def gradient(self, outputs: Array, targets: Array, *, ops: Ops, out: Array) -> Array:  # noqa: ARG002
        np.subtract(outputs, targets, out=out)
        np.multiply(out, out.dtype.type(2 / out.size), out=out)
        return out


@dataclass(frozen=True, slots=True)
class Huber:
    """(y - t)^2 / 2 within `delta`, delta (|y - t| - delta / 2) beyond (Huber 1964); meaned likewise."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise PlanInvalid(f"huber delta {self.delta} must be above 0")

    def prepare(self, targets: Array, outputs: int, *, dtype: np.dtype[np.generic]) -> Array:
        return _numbers(targets, outputs, dtype, "the Huber loss")

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:  # noqa: ARG002 - the interface
        off = np.abs(outputs - targets)
        near = np.minimum(off, self.delta)
        return float((near * (off - 0.5 * near)).mean())

    def gradient(self, outputs: Array, targets: Array, *, ops: Ops, out: Array) -> Array:  # noqa: ARG002
        np.subtract(outputs, targets, out=out)
        np.clip(out, -self.delta, self.delta, out=out)
        np.multiply(out, out.dtype.type(1 / out.size), out=out)
        return out


def _numbers(targets: Array, outputs: int, dtype: np.dtype[np.generic], name: str) -> Array:
    rows = np.asarray(targets)
    if rows.ndim == 1:
        rows = rows[:, None]
    if rows.ndim != 2 or rows.shape[1] != outputs or rows.dtype.kind not in "fiub":
        raise PlanInvalid(
            f"{name} takes numbers [n, {outputs}], one column an output, not {rows.dtype} {targets.shape}"
        )
    return np.ascontiguousarray(rows, dtype=dtype)


@lru_cache(maxsize=4)
def _weights(weights: tuple[float, ...] | None, dtype: np.dtype[np.generic]) -> Array | None:
    return None if weights is None else np.asarray(weights, dtype)
