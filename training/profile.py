"""What the rows themselves tell: scales, classes, columns that give the target away, repeated rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.ops import Array
from training.stats import DataStats, FeatureStats

SAMPLED: Final = 5000
_LOOKED_AT: Final = 1000
_BINS: Final = 64
_FEWEST: Final = 100
_EVEN: Final = 0.95


def profile(
    train: tuple[Array, Array],
    validation: tuple[Array, Array] | None = None,
    *,
    columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> DataStats:
    """Look at the rows as the network is given them.

    Parameters
    ----------
    train, validation : x float [n, inputs]; targets: class numbers [n], or numbers [n] or [n, 1].
    columns : names of the inputs.
    classes : names of the classes; given, the targets are class numbers.
    """
    x, targets = train
    labelled = targets.dtype.kind in "iu"
    tells = _tells(x, targets) if len(x) >= _FEWEST else [None] * x.shape[1]
    means, deviations = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    steady = (x == np.median(x, axis=0)).mean(axis=0)
    names = columns or [f"column {i}" for i in range(x.shape[1])]
    counts = np.bincount(targets, minlength=len(classes or ())).tolist() if labelled else None
    return DataStats(
        rows=len(x),
        features=[
            FeatureStats(
                name=name, mean=float(mean), deviation=float(deviation), steady=float(same), tells=told
            )
            for name, mean, deviation, same, told in zip(names, means, deviations, steady, tells, strict=True)
        ],
        class_names=list(classes) if classes is not None else None,
        class_counts=counts,
        repeated=_repeated(x, validation[0]) if validation is not None else 0.0,
    )


def _tells(x: Array, targets: Array) -> list[float | None]:
    """How well each column alone tells the target: learned on one half of a sample, judged on the other."""
    some = np.random.default_rng(0).permutation(len(x))[:SAMPLED]
    labelled = targets.dtype.kind in "iu"
    y = targets[some] if labelled else targets[some].reshape(len(some), -1)[:, 0].astype(np.float64)
    if labelled and np.bincount(y).max() > _EVEN * len(y):
        return [None] * x.shape[1]  # always answering the same is nearly right: no column can stand out
    told: list[float | None] = []
    for column in range(x.shape[1]):
        if column >= _LOOKED_AT:
            told.append(None)
            continue
        bins = _binned(x[some, column])
        told.append(_by_class(bins, y) if labelled else _by_line(x[some, column], y))
    return told


def _binned(values: Array) -> Array:
    """Numbers of at most 64 bins with as many rows each."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _by_class(bins: Array, y: Array) -> float:
    """Share of right answers when each bin answers its most frequent class."""
    half = len(y) // 2
    table = np.zeros((_BINS, int(y.max()) + 1), np.int64)
    np.add.at(table, (bins[:half], y[:half]), 1)
    return float((table.argmax(axis=1)[bins[half:]] == y[half:]).mean())


def _by_line(values: Array, y: Array) -> float:
    """Squared correlation."""
    v = values.astype(np.float64)
    v, t = v - v.mean(), y - y.mean()
    both = float(v @ v) * float(t @ t)
    return float(v @ t) ** 2 / both if both > 0 else 0.0


def _repeated(train: Array, validation: Array) -> float:
    known = {row.tobytes() for row in np.ascontiguousarray(train)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(validation)) / max(len(validation), 1)
