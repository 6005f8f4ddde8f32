"""A network that learned the rows by heart, or hardly anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from training.diagnosis.finding import Finding
from training.stats import FinalStats, TrainingStats

GAP_WARNING: Final = 0.10
GAP_ILL: Final = 0.20
GAP_ALONE: Final = 0.25
RISE: Final = 1.2
FIT_SOURCE: Final = (
    "Prechelt 1998, Early Stopping - But When? (loss above its best); Goodfellow et al. 2016, sec. 5.2"
)
SKILL_WARNING: Final = 0.15
SKILL_ILL: Final = 0.05
SKILL_SOURCE: Final = "the best constant answer, as scikit-learn's Dummy estimators; limits measured here"


def overfitting(stats: TrainingStats) -> Iterator[Finding]:
    """Much better on the rows that it learned from, and the loss on the others past its best."""
    final = stats.final
    if final is None or final.validation_score is None or final.validation_loss is None:
        return
    losses = [epoch.validation_loss for epoch in stats.epochs if epoch.validation_loss is not None]
    if not losses or final.loss >= final.validation_loss or _skill(final) < SKILL_WARNING:
        return
    gap, best = final.score - final.validation_score, min(losses)
    rise = final.validation_loss / best if best > 0 else 1.0
    if gap < GAP_WARNING or (rise < RISE and gap < GAP_ALONE):
        return
    yield Finding(
        rule="overfitting",
        severity="ill" if gap >= GAP_ILL and rise >= RISE else "warning",
        where="network",
        evidence=f"score {final.score:.3f} on training rows, {final.validation_score:.3f} on validation "
        "rows; validation "
        f"loss {final.validation_loss:.4g}, {best:.4g} at best (epoch {losses.index(best) + 1} of "
        f"{len(losses)})",
        threshold=f"a gap of {GAP_WARNING:g} with a loss {RISE:g} times its best ({GAP_ILL:g} is ill), "
        f"or of {GAP_ALONE:g}",
        source=FIT_SOURCE,
        advice="stop early (patience = 10), add dropout or weight decay (adamw), take a smaller network, "
        "or bring more rows",
    )


def underfitting(stats: TrainingStats) -> Iterator[Finding]:
    """Hardly better, on its own training rows, than answering the same for every row."""
    final = stats.final
    if final is None:
        return
    skill = _skill(final)
    if skill >= SKILL_WARNING:
        return
    yield Finding(
        rule="underfitting",
        severity="ill" if skill < SKILL_ILL else "warning",
        where="network",
        evidence=f"loss {final.loss:.4g} on its own training rows, {final.baseline_loss:.4g} for the "
        "best constant answer: "
        f"{max(skill, 0):.0%} of it explained",
        threshold=f"{SKILL_WARNING:.0%} explained; below {SKILL_ILL:.0%} is ill",
        source=SKILL_SOURCE,
        advice="see the other findings first; then wider or more layers, more epochs, less dropout and "
        "weight decay; "
        "or the columns do not tell the target",
    )


def _skill(final: FinalStats) -> float:
    """Share of the best constant answer's loss that the network explains on its training rows."""
    return 1 - final.loss / final.baseline_loss if final.baseline_loss > 0 else 1.0
