"""What answers say, as JSON text: classes with confidences, and numbers with names. No NumPy here.

The worker's postprocessors write with these, and so does the main process where it answers for a small
model itself: both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import msgspec

from postprocessors.specs import Target


class ClassTexts:
    """`[{"class", "confidence", "class_id"}, ...]`; confidences have six significant digits.

    Parameters
    ----------
    labels : names of the classes by id; a class beyond them is called `class_{id}`.
    """

    def __init__(self, labels: Sequence[str] | None) -> None:
        self._heads = _Heads(enumerate(map(_class_head, labels or ())))

    def row(self, confidences: Sequence[float], ids: Sequence[int], floor: float | None) -> str | None:
        """The classes of one row at or above `floor`; None where a confidence is NaN or infinite."""
        if not all(map(isfinite, confidences)):
            return None
        heads = self._heads
        parts = [
            f'{heads[i]}{value:.6g},"class_id":{i}}}'
            for value, i in zip(confidences, ids, strict=True)
            if floor is None or value >= floor
        ]
        return f"[{','.join(parts)}]"


class TargetTexts:
    """`[{"name", "value", "unit"}, ...]`; values are scaled back and have nine significant digits."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._parts = [(*_target_frame(target), target.mean, target.std) for target in targets]

    def __len__(self) -> int:
        return len(self._parts)

    def row(self, values: Sequence[float]) -> str | None:
        """One row's targets; None where a value is NaN or infinite."""
        parts = []
        for (head, tail, mean, std), value in zip(self._parts, values, strict=True):
            scaled = value * std + mean
            if not isfinite(scaled):
                return None
            parts.append(f"{head}{scaled:.9g}{tail}")
        return f"[{','.join(parts)}]"


def targets(given: Sequence[Target] | None, labels: Sequence[str] | None) -> list[Target]:
    """A regression's targets: the manifest's, or one a label, or one called `value`."""
    return list(given) if given else [Target(name) for name in labels or ["value"]]


class _Heads(dict[int, str]):
    def __missing__(self, class_id: int) -> str:
        head = self[class_id] = _class_head(f"class_{class_id}")
        return head


def _class_head(label: str) -> str:
    return f'{{"class":{msgspec.json.encode(label).decode()},"confidence":'


def _target_frame(target: Target) -> tuple[str, str]:
    """The JSON before and after a target's value."""
    tail = f',"unit":{msgspec.json.encode(target.unit).decode()}}}' if target.unit else "}"
    return f'{{"name":{msgspec.json.encode(target.name).decode()},"value":', tail
