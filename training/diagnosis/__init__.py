"""From statistics to a verdict: is this network healthy, and if not, where, how badly, and what to do.

    verdict = diagnose(stats)      # healthy, warning or ill, with findings

Each rule is a function of `TrainingStats` in a module by subject; `RULES` lists them. A rule that lacks its
numbers (no validation rows, too few steps) says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from training.diagnosis import activations, data, fit, gradients, rate
from training.diagnosis.finding import Finding, Severity, Verdict, worst
from training.stats import TrainingStats

Rule = Callable[[TrainingStats], Iterator[Finding]]
RULES: Final[tuple[Rule, ...]] = (
    gradients.not_finite,
    gradients.exploding,
    gradients.vanishing,
    activations.dying_relu,
    activations.saturated,
    rate.too_high,
    rate.too_low,
    fit.underfitting,
    fit.overfitting,
    data.not_scaled,
    data.imbalance,
    data.leakage,
)

__all__ = ["RULES", "Finding", "Severity", "Verdict", "diagnose"]


def diagnose(stats: TrainingStats) -> Verdict:
    """Apply every rule; the worst finding names the verdict. Findings come ill ones first."""
    found = [finding for rule in RULES for finding in rule(stats)]
    found.sort(key=lambda finding: finding.severity != "ill")  # stable: rules keep their order
    return Verdict(worst(found), tuple(found))
