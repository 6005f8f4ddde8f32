"""Rows for training and rows to judge by, scaled by what the training rows alone tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.errors import PlanInvalid
from training.ops import Array
from training.tables import Table

SMALLEST: Final = 1e-30
"""A deviation that a manifest can say."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """(x - mean) / deviation, by column. The identity where nothing was scaled."""

    mean: Array
    deviation: Array

    def apply(self, x: Array) -> Array:
        """Scaled rows, float32."""
        return np.ascontiguousarray((x - self.mean) / self.deviation, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Split:
    """A table's rows in two, scaled; `rows` are their numbers in the table."""

    train: tuple[Array, Array]
    validation: tuple[Array, Array] | None
    inputs: Scaling
    outputs: Scaling | None
    validation_rows: Array


def split(table: Table, *, validation: float, scale: bool, seed: int) -> Split:
    """Split at random, each class in the same proportion; at least one row of each class is learned from.

    Parameters
    ----------
    validation : share of the rows that is judged by; 0 for none.
    scale : whether inputs (and a regression's target) get mean 0 and deviation 1.
    """
    if not 0 <= validation <= 0.9:
        raise PlanInvalid(f"validation {validation} must be a share of the rows from 0 to 0.9")
    judged = _chosen(table, validation, np.random.default_rng(seed))
    learned = np.setdiff1d(np.arange(len(table.x)), judged)
    inputs = _scaling(table.x[learned]) if scale else _identity(table.x.shape[1])
    outputs = None
    y = table.y
    if table.task == "regression":
        outputs = _scaling(table.y[learned, None]) if scale else _identity(1)
        y = outputs.apply(table.y[:, None])
    x = inputs.apply(table.x)
    held = (x[judged], y[judged]) if len(judged) else None
    return Split((x[learned], y[learned]), held, inputs, outputs, judged)


def _chosen(table: Table, share: float, rng: np.random.Generator) -> Array:
    if table.task == "regression":
        return np.sort(rng.permutation(len(table.x))[: round(share * len(table.x))])
    taken = []
    for label in range(len(table.classes)):
        rows = rng.permutation(np.flatnonzero(table.y == label))
        taken.append(rows[: min(round(share * len(rows)), len(rows) - 1)])
    return np.sort(np.concatenate(taken)).astype(np.int64)


def _scaling(rows: Array) -> Scaling:
    deviation = rows.std(axis=0)
    # a column that never changes has nothing to scale, and rounding must not make it large
    steady = deviation <= np.maximum(1e-9 * np.abs(rows).max(axis=0), SMALLEST)
    return Scaling(rows.mean(axis=0), np.where(steady, 1.0, deviation))


def _identity(width: int) -> Scaling:
    return Scaling(np.zeros(width), np.ones(width))
