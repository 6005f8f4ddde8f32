"""Units that have stopped to tell anything: ReLUs that never fire, tanh and sigmoid that are always full."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Final

from training.diagnosis.finding import Finding
from training.stats import LayerStats, TrainingStats

DEAD_WARNING: Final = 0.40
DEAD_ILL: Final = 0.60
DEAD_SOURCE: Final = (
    "CS231n notes, Neural Networks Part 1 (as much as 40 % dead at too high a rate); most of a layer is ill"
)
DEAD_AT_FIRST: Final = 0.20
"""From here on what is dead at the end is taken to have been so from the start."""
SATURATED_WARNING: Final = 0.50
SATURATED_ILL: Final = 0.80
SATURATED_SOURCE: Final = (
    "Glorot and Bengio 2010, sec. 3 (saturated units pass no gradient); limits measured here"
)
_SAMPLES: Final = 3


def dying_relu(stats: TrainingStats) -> Iterator[Finding]:
    """Units that fired for no row at all of a full pass: their gradient is zero, so they stay as they are."""
    for layer in stats.layers:
        if layer.dead is None or layer.units == 0:
            continue
        share = layer.dead / layer.units
        if share < DEAD_WARNING:
            continue
        alive = (
            f"; alive on a batch {layer.alive[0]:.0%} at first, {layer.alive[-1]:.0%} at last"
            if layer.alive
            else ""
        )
        yield Finding(
            rule="dying-relu",
            severity="ill" if share >= DEAD_ILL else "warning",
            where=layer.name,
            evidence=f"{layer.dead} of {layer.units} units ({share:.0%}) fired for no row{alive}",
            threshold=f"{DEAD_WARNING:.0%} of a layer's units; {DEAD_ILL:.0%} is ill",
            source=DEAD_SOURCE,
            advice=_cure(layer),
        )


def _cure(layer: LayerStats) -> str:
    if layer.alive and layer.alive[0] < 1 - DEAD_AT_FIRST:
        return (
            "they were dead from the start: scale the inputs to mean 0 and deviation 1, begin with He "
            "weights "
            "and biases of 0; or use leaky_relu"
        )
    return (
        "they died while training: lower the learning rate (by 3 to 10 times) or warm it up, clip gradients, "
        "or use leaky_relu or gelu"
    )


def saturated(stats: TrainingStats) -> Iterator[Finding]:
    """tanh and sigmoid units at their ends, where the slope is next to nothing. Output layers may be full."""
    last = max((layer.index for layer in stats.layers), default=0)
    for layer in stats.layers:
        if not layer.deep_saturated or layer.index == last:
            continue
        share = fmean(layer.deep_saturated[-_SAMPLES:])
        if share < SATURATED_WARNING:
            continue
        at_first = layer.deep_saturated[0]
        cure = (
            "they were so from the start: scale the inputs to mean 0 and deviation 1, begin with "
            "Glorot weights"
            if at_first >= SATURATED_WARNING
            else "they became so: lower the learning rate, add weight decay or batch-norm"
        )
        yield Finding(
            rule="saturated-units",
            severity="ill" if share >= SATURATED_ILL else "warning",
            where=layer.name,
            evidence=f"{share:.0%} of the outputs are at the ends of {layer.activation} ({at_first:.0%} "
            "at first)",
            threshold=f"{SATURATED_WARNING:.0%} of the outputs; {SATURATED_ILL:.0%} is ill",
            source=SATURATED_SOURCE,
            advice=cure + "; or use relu",
        )
