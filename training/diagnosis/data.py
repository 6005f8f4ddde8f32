"""Rows that make a network ill whatever its settings, or better than it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from training.diagnosis.finding import Finding
from training.stats import FeatureStats, TrainingStats

FAR: Final = 10.0
SPREAD: Final = 100.0
STEADY: Final = 0.9
SCALE_SOURCE: Final = (
    "LeCun et al. 1998, Efficient BackProp, sec. 4.3 (inputs with mean 0 and equal variances)"
)
MILD: Final = 0.20
EXTREME: Final = 0.01
IMBALANCE_SOURCE: Final = (
    "Google, ML Crash Course, Imbalanced datasets (a class of 1 to 20 % is moderate, below 1 % extreme); "
    "scaled here by 2 / classes"
)
TELLS: Final = 0.995
REPEATED: Final = 0.20
LEAKAGE_SOURCE: Final = "Kaufman et al. 2012, Leakage in Data Mining; limits measured here"
_NAMED: Final = 3


def not_scaled(stats: TrainingStats) -> Iterator[Finding]:
    """Columns far from mean 0 and deviation 1, or far apart, as the network is given them."""
    if stats.data is None:
        return
    moving = [column for column in stats.data.features if column.deviation > 0]
    far = [column for column in moving if max(abs(column.mean), column.deviation) > FAR]
    # a column that is nearly always the same deviates little, and that is no matter of its unit
    lively = [column for column in moving if column.steady < STEADY] or moving
    spread = max((c.deviation for c in lively), default=1) / min((c.deviation for c in lively), default=1)
    if not far and spread <= SPREAD:
        return
    if far:
        shown = sorted(far, key=lambda column: -max(abs(column.mean), column.deviation))
    else:
        shown = sorted(lively, key=lambda column: column.deviation)[:: max(1, len(lively) - 1)]
    yield Finding(
        rule="not-scaled",
        severity="ill" if any(max(abs(c.mean), c.deviation) > FAR * SPREAD for c in far) else "warning",
        where=_names(shown),
        evidence=", ".join(
            f"{c.name} has mean {c.mean:.3g} and deviation {c.deviation:.3g}" for c in shown[:_NAMED]
        )
        + f"; deviations differ by up to {spread:.3g} times",
        threshold=f"means and deviations up to {FAR:g}, deviations at most {SPREAD:g} times apart",
        source=SCALE_SOURCE,
        advice="standardize the columns (scale = 'standard' in the configuration does; it is exported "
        "with the model)",
    )


def imbalance(stats: TrainingStats) -> Iterator[Finding]:
    """A class with few rows; ill where the network does not know it."""
    data = stats.data
    if data is None or not data.class_counts or len(data.class_counts) < 2:
        return
    names = data.class_names or [str(i) for i in range(len(data.class_counts))]
    least = min(range(len(names)), key=data.class_counts.__getitem__)
    share = data.class_counts[least] / sum(data.class_counts)
    even = share * len(names) / 2
    if even >= MILD:
        return
    recalls = stats.final.recalls if stats.final else None
    recall = recalls[least] if recalls and least < len(recalls) else None
    unknown = recall is not None and recall == 0
    yield Finding(
        rule="class-imbalance",
        severity="ill" if unknown or even < EXTREME else "warning",
        where=f"class {names[least]}",
        evidence=f"{data.class_counts[least]} of {sum(data.class_counts)} rows ({share:.1%})"
        + ("" if recall is None else f"; {recall:.0%} of its rows are recognised"),
        threshold=f"{MILD * 2 / len(names):.1%} of the rows with {len(names)} classes; "
        f"below {EXTREME * 2 / len(names):.2%}, or never recognised, is ill",
        source=IMBALANCE_SOURCE,
        advice="weigh the classes (class_weight = 'balanced'), bring more rows of it, "
        "and judge by recall of each class, not by accuracy",
    )


def leakage(stats: TrainingStats) -> Iterator[Finding]:
    """A column that tells the target by itself; validation rows that were learned from."""
    if stats.data is None:
        return
    telling = [c for c in stats.data.features if c.tells is not None and c.tells >= TELLS]
    if telling:
        yield Finding(
            rule="label-leakage",
            severity="warning",
            where=_names(telling),
            evidence=", ".join(f"{c.name} alone tells {c.tells:.1%} of the target" for c in telling[:_NAMED]),
            threshold=f"{TELLS:.1%} by one column (right answers, or R² for regression)",
            source=LEAKAGE_SOURCE,
            advice="ask whether this column is known when the model is used; if it is made from the "
            "target, leave it out",
        )
    if stats.data.repeated >= REPEATED:
        yield Finding(
            rule="label-leakage",
            severity="warning",
            where="validation rows",
            evidence=f"{stats.data.repeated:.0%} of them stand among the training rows too",
            threshold=f"{REPEATED:.0%} of the validation rows",
            source=LEAKAGE_SOURCE,
            advice="remove repeated rows before splitting, or split by what they have in common "
            "(person, day, device)",
        )


def _names(columns: list[FeatureStats]) -> str:
    named = ", ".join(column.name for column in columns[:_NAMED])
    more = len(columns) - _NAMED
    return f"column{'s' if len(columns) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
