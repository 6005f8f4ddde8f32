"""Numbers with names and units."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from postprocessors.base import OutputInvalid
from postprocessors.regression import RegressionPostprocessor
from postprocessors.specs import RegressionOutput


def answer(values: Any, *, labels: list[str] | None = None, **spec: Any) -> Any:
    made = RegressionPostprocessor(
        msgspec.convert({"task": "regression"} | spec, RegressionOutput), labels=labels
    )
    outputs = {"first": np.asarray(values, np.float32), "other": np.zeros((1, 1), np.float32)}
    return json.loads(made(outputs, top_k=None, threshold=None).predictions_json)


def test_one_row_is_a_list_and_several_are_a_list_of_lists() -> None:
    assert answer([[0.5]]) == [{"name": "value", "value": 0.5}]
    assert answer([[0.5], [2]]) == [[{"name": "value", "value": 0.5}], [{"name": "value", "value": 2}]]
    assert answer([0.5, 2]) == answer([[0.5], [2]])


def test_targets_are_scaled_back_and_have_units() -> None:
    targets = [{"name": "low", "unit": "°C", "mean": 10, "std": 2}, {"name": 'a "high"'}]
    assert answer([[1, 3]], targets=targets) == [
        {"name": "low", "value": 12, "unit": "°C"},
        {"name": 'a "high"', "value": 3},
    ]


def test_labels_name_the_targets_where_the_manifest_gives_none() -> None:
    assert [each["name"] for each in answer([[1, 2]], labels=["x", "y"])] == ["x", "y"]


def test_a_value_comes_back_as_the_float32_it_was() -> None:
    value = np.float32(1) / np.float32(3)
    assert np.float32(answer([[value]])[0]["value"]) == value


@pytest.mark.parametrize("values", [[[1, 2]], [[[1], [2]]], 1.0])
def test_another_shape_is_the_models_error(values: Any) -> None:
    with pytest.raises(OutputInvalid, match="1 targets needs an output of shape"):
        answer(values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_the_models_error(value: float) -> None:
    with pytest.raises(OutputInvalid, match="NaN or an infinite"):
        answer([[value]])


def test_another_output_can_be_named() -> None:
    assert answer([[1, 2]], name="other") == [{"name": "value", "value": 0}]
