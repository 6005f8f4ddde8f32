"""Gradients that do not arrive, that grow beyond use, or that are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Final

from training.diagnosis.finding import Finding
from training.stats import LayerStats, TrainingStats

VANISHING_WARNING: Final = 1e-3
VANISHING_ILL: Final = 1e-5
VANISHING_SOURCE: Final = "Glorot and Bengio 2010, fig. 7; Pascanu et al. 2013; limits measured here"
EXPLODING_TIMES: Final = 100.0
EXPLODING_NORM: Final = 1e3
EXPLODING_SOURCE: Final = "Pascanu et al. 2013 (clip at 0.5 to 10 times the usual norm); limits measured here"
_EARLY: Final = 3  # the first third: at the end of a good training all gradients are small
_FEWEST: Final = 5


def not_finite(stats: TrainingStats) -> Iterator[Finding]:
    """A NaN or an infinity in loss or gradients."""
    if stats.nonfinite_step is None:
        return
    what = stats.nonfinite_what or "loss"
    yield Finding(
        rule="not-finite",
        severity="ill",
        where="network",
        evidence=f"the {what} was NaN or infinite at step {stats.nonfinite_step}, rate {stats.rate:g}"
        + (f"; the last finite loss was {stats.loss[-1]:.4g}" if stats.loss else ""),
        threshold="every loss and gradient is a finite number",
        source="IEEE 754: nothing that is computed from a NaN is a number again",
        advice="lower the learning rate by 10 times, clip gradients (clip_norm = 1), scale inputs and "
        "targets",
    )


def vanishing(stats: TrainingStats) -> Iterator[Finding]:
    """The first layer's gradient next to the last's, per parameter, early in training."""
    layers = [layer for layer in stats.layers if layer.grad_norm and layer.name.find("(dense") > 0]
    if len(layers) < 2 or len(stats.steps) < _FEWEST:
        return
    first, last = layers[0], layers[-1]
    early = max(_FEWEST, len(stats.steps) // _EARLY)
    ratios = [
        a / b for a, b in zip(_per_parameter(first, early), _per_parameter(last, early), strict=True) if b > 0
    ]
    if not ratios or (ratio := median(ratios)) >= VANISHING_WARNING:
        return
    yield Finding(
        rule="vanishing-gradients",
        severity="ill" if ratio < VANISHING_ILL else "warning",
        where=first.name,
        evidence=f"a parameter's gradient here is {ratio:.1e} times that in {last.name} (median of "
        f"{early} samples)",
        threshold=f"{VANISHING_WARNING:g} times; below {VANISHING_ILL:g} is ill",
        source=VANISHING_SOURCE,
        advice="use relu or gelu in the hidden layers with He weights, put batch-norm between them, "
        "or take fewer layers",
    )


def exploding(stats: TrainingStats) -> Iterator[Finding]:
    """A norm far above the usual one, or above any that a scaled network has."""
    if len(stats.grad_norm) < _FEWEST:
        return
    largest, usual = max(stats.grad_norm), median(stats.grad_norm)
    begun = median(stats.grad_norm[:_FEWEST])
    grew = largest > EXPLODING_TIMES * max(begun, 1.0)
    huge = usual > EXPLODING_NORM
    if not (grew or huge):
        return
    worst = max((layer for layer in stats.layers if layer.grad_norm), key=lambda layer: max(layer.grad_norm))
    step = stats.steps[stats.grad_norm.index(largest)]
    clipped = stats.clipped_norm is not None
    yield Finding(
        rule="exploding-gradients",
        severity="warning" if clipped and not huge else "ill",
        where=worst.name,
        evidence=f"norm {largest:.3g} at step {step}; {begun:.3g} at first, {usual:.3g} usually"
        + (f"; clipped to {stats.clipped_norm:g}" if clipped else ""),
        threshold=f"{EXPLODING_TIMES:g} times the first samples' norm (or of 1), or usually above "
        f"{EXPLODING_NORM:g}",
        source=EXPLODING_SOURCE,
        advice="clip gradients (clip_norm = 1), lower the learning rate, scale inputs and targets, "
        "begin with He or Glorot weights",
    )


def _per_parameter(layer: LayerStats, count: int) -> list[float]:
    return [norm / math.sqrt(layer.parameters) for norm in layer.grad_norm[:count]]
