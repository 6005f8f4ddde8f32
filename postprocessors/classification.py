"""Scores to named classes: activation, top-k, threshold, labels, entropy.

Enters: one output [n, C]. Leaves: JSON `[{"class", "confidence", "class_id"}, ...]`, best first; ties
go to the smaller class_id. Confidences are given to six significant digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from cython_ops import softmax_topk
from postprocessors.base import Answer, Array, OutputInvalid, pick
from postprocessors.specs import ClassificationOutput
from postprocessors.texts import ClassTexts


class ClassificationPostprocessor:
    """Serves `ClassificationOutput`."""

    def __init__(self, spec: ClassificationOutput, *, labels: list[str] | None) -> None:
        self._spec = spec
        self._texts = ClassTexts(labels)

    def __call__(self, outputs: Mapping[str, Array], *, top_k: int | None, threshold: float | None) -> Answer:
        """Name the best classes of every row. See `Postprocessor`."""
        scores = _scores(pick(outputs, self._spec.name))
        count = min(top_k or self._spec.top_k, scores.shape[1])
        floor = self._spec.threshold if threshold is None else threshold
        values, ids, entropy = softmax_topk(scores, count, activation=self._spec.activation)
        rows = [self._row(v, i, floor) for v, i in zip(values.tolist(), ids.tolist(), strict=True)]
        # NaN where the scores are no distribution (`none` with values below zero)
        spread = [value for value in entropy.tolist() if isfinite(value)]
        if len(rows) == 1:
            return Answer(rows[0].encode(), spread[0] if spread else None)
        return Answer(f"[{','.join(rows)}]".encode(), spread if len(spread) == len(rows) else None)

    def _row(self, values: list[float], ids: list[int], floor: float | None) -> str:
        text = self._texts.row(values, ids, floor)
        if text is None:
            raise OutputInvalid("the model answered with NaN or infinite scores for this input")
        return text


def _scores(output: Array) -> Array:
    """Check for [n, C]; further dimensions of size 1, as of a pooled map, are dropped."""
    if output.ndim > 2 and set(output.shape[2:]) == {1}:
        output = output.reshape(output.shape[:2])
    if output.ndim != 2 or output.shape[1] == 0:
        raise OutputInvalid(
            f"a classification needs an output of shape [rows, classes], the model gave {list(output.shape)}"
        )
    return np.ascontiguousarray(output, dtype=np.float32)
