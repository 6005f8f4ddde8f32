"""How to train: what is set before a training begins, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import PlanInvalid
from training.optimizers import Adam, Optimizer
from training.schedules import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train.

    Parameters
    ----------
    clip_norm : gradients longer than this, over all parameters, are shortened to it (Pascanu et al. 2013).
    patience : epochs without a better validation loss before training stops; the best network is kept then.
        None trains to the end and keeps the last.
    min_delta : how much better counts as better.
    stats_every : steps between samples of the statistics.
    seed : of the order of the rows.
    checkpoint : file that is replaced after every `checkpoint_every` epochs and at the end; left out, after
        epochs that are so far apart that writing takes a twentieth of the time.
    """

    epochs: int = 50
    batch: int = 64
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Schedule)
    clip_norm: float | None = None
    patience: int | None = None
    min_delta: float = 0.0
    stats_every: int = 10
    seed: int = 0
    checkpoint: Path | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "stats_every", "checkpoint_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise PlanInvalid(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.optimizer.rate) and self.optimizer.rate > 0):
            raise PlanInvalid(f"the learning rate must be above 0, not {self.optimizer.rate}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise PlanInvalid(f"clip_norm must be above 0, not {self.clip_norm}")
        if self.patience is not None and self.patience < 1:
            raise PlanInvalid(f"patience must be at least 1 epoch, not {self.patience}")
