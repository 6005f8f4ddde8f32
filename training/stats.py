"""What is known of a training's health: numbers, written while it runs, kept in checkpoints and reports.

Numbers are sampled every few steps (`Recorder`), once an epoch, and once at the end (`training.final`).
`training.diagnosis.diagnose` reads them. All numbers here are finite: the first that is not ends the training
and stands as `nonfinite_step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

Task: TypeAlias = Literal["classification", "binary", "regression"]
Percentiles: TypeAlias = tuple[float, float, float]
"""5, 50 and 95 %."""


class LayerStats(msgspec.Struct, kw_only=True):
    """One layer. Lists run with `TrainingStats.steps`, `alive` with `alive_steps`, `deep_...` with
    `deep_steps`.

    Attributes
    ----------
    index : place in `Network.layers`.
    activation : what its units go through; None where it has none.
    alive : share of ReLU units that fired for some row of the batch.
    grad_norm : Euclidean norm of the gradient by its parameters, before clipping.
    deep_update_ratio : norm of the step's change by norm of the parameters.
    deep_percentiles, deep_saturated : of the units' outputs; share of tanh outputs beyond 0.97 in magnitude,
        of sigmoid outputs within 0.015 of 0 or 1.
    dead, sparse : units that fired for no row in a full pass; for some, but fewer than 1 % of the rows.
    """

    index: int
    name: str
    units: int
    parameters: int
    activation: str | None
    alive: list[float] = []
    grad_norm: list[float] = []
    deep_update_ratio: list[float] = []
    deep_percentiles: list[Percentiles] = []
    deep_saturated: list[float] = []
    dead: int | None = None
    sparse: int | None = None


class EpochStats(msgspec.Struct, kw_only=True, frozen=True):
    """One pass over the training rows. `loss` is the mean of the sampled batches."""

    epoch: int
    step: int
    loss: float
    validation_loss: float | None
    validation_score: float | None
    seconds: float


class FinalStats(msgspec.Struct, kw_only=True, frozen=True):
    """Full passes with the network that is kept.

    Attributes
    ----------
    score : share of right answers, for regression R² (1 - squared error by that of the mean).
    baseline_loss : loss of the best constant answer (the classes' shares, or the mean) on the training rows.
    recalls : of each class, on the validation rows where there are any; None for a class without rows.
    """

    loss: float
    score: float
    baseline_loss: float
    rows: int
    validation_loss: float | None = None
    validation_score: float | None = None
    validation_rows: int = 0
    recalls: list[float | None] | None = None


class FeatureStats(msgspec.Struct, kw_only=True, frozen=True):
    """A column as the network is given it.

    Attributes
    ----------
    steady : share of the rows that have its median: near 1 for rare marks and the edges of pictures.
    tells : how well it tells the target by itself, 0 to 1.
    """

    name: str
    mean: float
    deviation: float
    steady: float = 0.0
    tells: float | None = None


class DataStats(msgspec.Struct, kw_only=True, frozen=True):
    """The rows that are learned from.

    Attributes
    ----------
    class_counts : rows of each class, None for regression.
    repeated : share of the validation rows that stand among the training rows, to the last bit.
    """

    rows: int
    features: list[FeatureStats]
    class_names: list[str] | None = None
    class_counts: list[int] | None = None
    repeated: float = 0.0


class TrainingStats(msgspec.Struct, kw_only=True):
    """All of it."""

    task: Task
    layers: list[LayerStats]
    optimizer: str = ""
    rate: float = 0.0
    steps_planned: int = 0
    steps: list[int] = []
    loss: list[float] = []
    rates: list[float] = []
    grad_norm: list[float] = []
    alive_steps: list[int] = []
    deep_steps: list[int] = []
    epochs: list[EpochStats] = []
    clipped_norm: float | None = None
    best_epoch: int | None = None
    restored_best: bool = False
    stopped_early: bool = False
    nonfinite_step: int | None = None
    nonfinite_what: str | None = None
    data: DataStats | None = None
    final: FinalStats | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is; `stats` grows while it runs."""

    epoch: int
    epochs: int
    step: int
    steps: int
    stats: TrainingStats
