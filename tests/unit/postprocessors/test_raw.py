from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from postprocessors.base import OutputInvalid
from postprocessors.registry import OUTPUTS
from postprocessors.specs import RawOutput

OUTPUT = {
    "boxes": np.arange(8, dtype=np.float32).reshape(2, 2, 2),
    "count": np.array([3, 4], np.int64),
}


def read(outputs: Any, names: list[str] | None = None) -> Any:
    found = OUTPUTS.create(RawOutput(names=names), labels=None)(outputs, top_k=5, threshold=0.5)
    assert found.entropy is None
    return msgspec.json.decode(found.predictions_json)


def test_one_row_is_a_list_of_its_tensors() -> None:
    assert read({name: array[:1] for name, array in OUTPUT.items()}) == [
        {"name": "boxes", "dtype": "float32", "shape": [2, 2], "data": [0.0, 1.0, 2.0, 3.0]},
        {"name": "count", "dtype": "int64", "shape": [], "data": [3]},
    ]


def test_several_rows_are_a_list_each() -> None:
    first, second = read(OUTPUT)
    assert [entry["data"] for entry in first] == [[0.0, 1.0, 2.0, 3.0], [3]]
    assert [entry["data"] for entry in second] == [[4.0, 5.0, 6.0, 7.0], [4]]


def test_names_pick_and_order_the_outputs() -> None:
    assert [entry["name"] for entry in read(OUTPUT, ["count", "boxes"])[0]] == ["count", "boxes"]
    assert [entry["name"] for entry in read(OUTPUT, ["count"])[0]] == ["count"]


def test_what_json_cannot_say_is_null() -> None:
    assert read({"y": np.array([[np.nan, np.inf, 1]], np.float32)})[0]["data"] == [None, None, 1.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "bool"])
def test_every_number_type_is_written(dtype: str) -> None:
    (entry,) = read({"y": np.ones((1, 2), dtype)})
    assert (entry["dtype"], entry["data"]) == (dtype, [1, 1])


def test_a_transposed_output_is_written_in_row_major_order() -> None:
    assert read({"y": np.arange(6, dtype=np.float32).reshape(1, 2, 3).transpose(0, 2, 1)})[0]["data"] == [
        0, 3, 1, 4, 2, 5,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "names", "says"),
    [
        (OUTPUT, ["scores"], "names 'scores', but the model has 'boxes', 'count'"),
        ({"a": np.zeros((1, 2)), "b": np.zeros((2, 2))}, None, r"differ in their number of rows: a \[1, 2\]"),
        ({"a": np.array(["x"])}, None, "which is not numbers"),
        ({"a": np.zeros((1, 2), complex)}, None, "which is not numbers"),
    ],
)
def test_outputs_that_cannot_be_written_are_an_error(outputs: Any, names: Any, says: str) -> None:
    with pytest.raises(OutputInvalid, match=says):
        read(outputs, names)
