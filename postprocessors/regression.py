"""Numbers with names and units, scaled back to what they measure.

Enters: one output [n, T] or [n]. Leaves: JSON `[{"name", "value", "unit"}, ...]`, one entry a target;
`unit` only where the manifest gives one. Values are given to nine significant digits, which is float32's
own precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import msgspec

from postprocessors.base import Answer, Array, OutputInvalid, pick
from postprocessors.specs import RegressionOutput, Target


class RegressionPostprocessor:
    """Serves `RegressionOutput`. `top_k` and `threshold` do not apply."""

    def __init__(self, spec: RegressionOutput, *, labels: list[str] | None) -> None:
        self._name = spec.name
        targets = spec.targets or [Target(name) for name in labels or ["value"]]
        self._count = len(targets)
        self._parts = [(*_frame(target), target.mean, target.std) for target in targets]

    def __call__(self, outputs: Mapping[str, Array], *, top_k: int | None, threshold: float | None) -> Answer:
        """Write every target of every row. See `Postprocessor`."""
        del top_k, threshold
        values = pick(outputs, self._name)
        if values.ndim == 0 or values.size != len(values) * self._count:
            raise OutputInvalid(
                f"a regression of {self._count} targets needs an output of shape [rows, {self._count}], the "
                f"model gave {list(values.shape)}"
            )
        rows = [self._row(row) for row in values.reshape(len(values), self._count).tolist()]
        return Answer((rows[0] if len(rows) == 1 else f"[{','.join(rows)}]").encode())

    def _row(self, values: list[float]) -> str:
        parts = []
        for (head, tail, mean, std), value in zip(self._parts, values, strict=True):
            scaled = value * std + mean
            if not isfinite(scaled):
                raise OutputInvalid("the model answered with NaN or an infinite number for this input")
            parts.append(f"{head}{scaled:.9g}{tail}")
        return f"[{','.join(parts)}]"


def _frame(target: Target) -> tuple[str, str]:
    """The JSON before and after a target's value."""
    tail = f',"unit":{msgspec.json.encode(target.unit).decode()}}}' if target.unit else "}"
    return f'{{"name":{msgspec.json.encode(target.name).decode()},"value":', tail
