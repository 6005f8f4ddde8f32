"""Numbers with names and units, scaled back to what they measure.

Enters: one output [n, T] or [n]. Leaves: JSON `[{"name", "value", "unit"}, ...]`, one entry a target;
`unit` only where the manifest gives one. Values are given to nine significant digits, which is float32's
own precision.
"""

from __future__ import annotations

from collections.abc import Mapping

from postprocessors.base import Answer, Array, OutputInvalid, pick
from postprocessors.specs import RegressionOutput
from postprocessors.texts import TargetTexts, targets


class RegressionPostprocessor:
    """Serves `RegressionOutput`. `top_k` and `threshold` do not apply."""

    def __init__(self, spec: RegressionOutput, *, labels: list[str] | None) -> None:
        self._name = spec.name
        self._texts = TargetTexts(targets(spec.targets, labels))

    def __call__(self, outputs: Mapping[str, Array], *, top_k: int | None, threshold: float | None) -> Answer:
        """Write every target of every row. See `Postprocessor`."""
        del top_k, threshold
        values, count = pick(outputs, self._name), len(self._texts)
        if values.ndim == 0 or values.size != len(values) * count:
            raise OutputInvalid(
                f"a regression of {count} targets needs an output of shape [rows, {count}], the "
                f"model gave {list(values.shape)}"
            )
        rows = [self._row(row) for row in values.reshape(len(values), count).tolist()]
        return Answer((rows[0] if len(rows) == 1 else f"[{','.join(rows)}]").encode())

    def _row(self, values: list[float]) -> str:
        text = self._texts.row(values)
        if text is None:
            raise OutputInvalid("the model answered with NaN or an infinite number for this input")
        return text
