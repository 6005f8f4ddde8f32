"""What a report shows: a training's statistics, its verdict, and how it answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.diagnosis import Verdict
from training.ops import Array
from training.report.plots import Confusion, Lines, Plot, Residuals, Series, Spans
from training.stats import TrainingStats


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that the network was judged by: truth and answers, class numbers or numbers [n]."""

    truth: Array
    answers: Array
    what: str

    def confusion(self, classes: int) -> Array:
        """Counts [true class, answer]."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.truth, self.answers), 1)
        return counts


@dataclass(frozen=True, slots=True)
class Summary:
    """All that a report is made from."""

    title: str
    stats: TrainingStats
    verdict: Verdict
    judged: Judged
    classes: Sequence[str]
    facts: Sequence[tuple[str, str]]

    def plots(self) -> list[Plot]:
        """The panels, in their order."""
        return [*_curves(self.stats), *_health(self.stats), self._answers()]

    def _answers(self) -> Plot:
        if self.classes:
            counts = self.judged.confusion(len(self.classes))
            return Confusion(f"Confusion, {self.judged.what}", self.classes, counts)
        return Residuals(f"Residuals, {self.judged.what}", self.judged.truth, self.judged.answers)


def _curves(stats: TrainingStats) -> list[Plot]:
    epochs = [float(epoch.epoch) for epoch in stats.epochs]
    judged = [epoch for epoch in stats.epochs if epoch.validation_loss is not None]
    numbers = [float(epoch.epoch) for epoch in judged]
    losses = [epoch.validation_loss for epoch in judged if epoch.validation_loss is not None]
    scores = [epoch.validation_score for epoch in judged if epoch.validation_score is not None]
    name = "R squared" if stats.task == "regression" else "accuracy"
    return [
        Lines(
            "Loss",
            "epoch",
            [
                Series("training", epochs, [epoch.loss for epoch in stats.epochs]),
                Series("validation", numbers, losses),
            ],
        ),
        Lines(f"Validation {name}", "epoch", [Series(name, numbers, scores)]),
    ]


def _health(stats: TrainingStats) -> list[Plot]:
    steps = [float(step) for step in stats.steps]
    fired = [float(step) for step in stats.alive_steps]
    deep = [float(step) for step in stats.deep_steps]
    layers = [(f"layer {layer.index}", layer) for layer in stats.layers]
    learning = [(name, layer) for name, layer in layers if layer.grad_norm]
    firing = [(name, layer) for name, layer in layers if layer.alive]
    return [
        Lines("Gradient norm", "step", [Series(n, steps, each.grad_norm) for n, each in learning], log=True),
        Lines(
            "Change a step, of the weights' size",
            "step",
            [Series(n, deep, each.deep_update_ratio) for n, each in learning],
            log=True,
            guide=(1e-3, "1e-3: usual"),
        ),
        Lines(
            "ReLU units alive on a batch",
            "step",
            [Series(n, fired, each.alive) for n, each in firing],
            span=(0, 1),
        ),
        Spans(
            "Outputs at the end: 5, 50, 95 %",
            [(n, each.deep_percentiles[-1]) for n, each in layers if each.deep_percentiles],
        ),
    ]
