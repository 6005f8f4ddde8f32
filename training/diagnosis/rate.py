"""A learning rate that throws the network about, or that does not move it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Final

from training.diagnosis.finding import Finding
from training.stats import TrainingStats

USUAL: Final = 1e-3
HIGH_RATIO: Final = 0.1
LOW_RATIO: Final = 1e-4
RATIO_SOURCE: Final = (
    "CS231n notes, Neural Networks Part 3 (updates to weights: around 1e-3); limits measured here"
)
WORSE: Final = 1.2
MOVED: Final = 0.01
LATE_SHARE: Final = 0.15
_FEWEST: Final = 9


def too_high(stats: TrainingStats) -> Iterator[Finding]:
    """The loss ends above its beginning and a constant answer's, or weights are still tossed late."""
    if len(stats.loss) < _FEWEST:
        return
    third = len(stats.loss) // 3
    begun, ended, lowest = stats.loss[0], fmean(stats.loss[-third:]), min(stats.loss)
    constant = stats.final.baseline_loss if stats.final else begun
    ratio = _ratio(stats, late=True)
    rose = ended > WORSE * max(begun, constant) and _peak(stats) > MOVED
    tossed = ratio > HIGH_RATIO
    if not (rose or tossed):
        return
    yield Finding(
        rule="rate-too-high",
        severity="ill" if rose else "warning",
        where="network",
        evidence=f"loss {begun:.4g} at first, {ended:.4g} in the last third, {lowest:.4g} at best; "
        f"a step changes the weights by {ratio:.1e} of their size; rate {stats.rate:g} ({stats.optimizer})",
        threshold=f"a loss that ends below {WORSE:g} times its beginning; changes of at most "
        f"{HIGH_RATIO:g} late in training",
        source=RATIO_SOURCE,
        advice="lower the learning rate by 3 to 10 times, or let it fall (schedule cosine) after a warm-up",
    )


def too_low(stats: TrainingStats) -> Iterator[Finding]:
    """Small steps, and a loss that was still falling when training ended."""
    if len(stats.loss) < _FEWEST or stats.stopped_early:
        return
    third = len(stats.loss) // 3
    begun, middle, ended = (fmean(part) for part in _thirds(stats.loss, third))
    ratio = _ratio(stats, late=False)
    fallen, late = begun - ended, middle - ended
    falling = fallen > 0 and late > LATE_SHARE * fallen
    stuck = abs(fallen) < 0.02 * abs(begun)
    if ratio >= LOW_RATIO or not (falling or stuck):
        return
    yield Finding(
        rule="rate-too-low",
        severity="ill" if ratio < LOW_RATIO / 10 else "warning",
        where="network",
        evidence=f"a step changes the weights by {ratio:.1e} of their size; loss by thirds {begun:.4g}, "
        f"{middle:.4g}, "
        f"{ended:.4g}: "
        + ("still falling" if falling else "hardly moving")
        + f"; rate {stats.rate:g} ({stats.optimizer})",
        threshold=f"changes of at least {LOW_RATIO:g} while the loss can still fall; a tenth of it is ill",
        source=RATIO_SOURCE,
        advice="raise the learning rate by 10 times, or train for more epochs",
    )


def _ratio(stats: TrainingStats, *, late: bool) -> float:
    """The median over layers and samples of the update ratio: of the last third, or of all."""
    values: list[float] = []
    for layer in stats.layers:
        taken = layer.deep_update_ratio
        values += taken[-max(1, len(taken) // 3) :] if late else taken
    return median(values) if values else USUAL


def _peak(stats: TrainingStats) -> float:
    """The largest update ratio: a network that was not moved was not thrown about."""
    return max((ratio for layer in stats.layers for ratio in layer.deep_update_ratio), default=0.0)


def _thirds(values: list[float], third: int) -> tuple[list[float], list[float], list[float]]:
    return values[:third], values[third:-third], values[-third:]
