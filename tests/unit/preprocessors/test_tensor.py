from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from preprocessors.base import InputInvalid, InputTooBig, Limits
from preprocessors.registry import INPUTS
from preprocessors.specs import TensorInput
from preprocessors.tensor import TensorPreprocessor


def read(content: Any, shape: list[int | None], dtype: Any = "float32", limits: Limits | None = None) -> Any:
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    spec = TensorInput(shape=shape, dtype=dtype)
    return TensorPreprocessor(spec, limits=limits or Limits())("tensor", raw, "json")


@pytest.mark.parametrize(
    ("content", "shape", "expected"),
    [
        ([1, 2, 3], [3], [[1, 2, 3]]),
        ([[1, 2, 3]], [3], [[1, 2, 3]]),
        ([[1, 2], [3, 4]], [2], [[1, 2], [3, 4]]),
        ([1, 2, 3, 4], [2], [[1, 2], [3, 4]]),
        ([[1, 2], [3, 4]], [2, 2], [[[1, 2], [3, 4]]]),
        ([[[1, 2], [3, 4]]], [2, 2], [[[1, 2], [3, 4]]]),
        ([1, 2, 3, 4], [2, 2], [[[1, 2], [3, 4]]]),
        ({"shape": [2, 2], "data": [1, 2, 3, 4]}, [2], [[1, 2], [3, 4]]),
        ({"shape": [2], "data": [1, 2]}, [2], [[1, 2]]),
        ({"data": [1, 2], "shape": [1, 1, 2]}, [1, 2], [[[1, 2]]]),
        ([[1, 2, 3], [4, 5, 6]], [None], [[1, 2, 3], [4, 5, 6]]),
        ([1, 2, 3], [None], [[1, 2, 3]]),
        ([[[1, 2]]], [None, 2], [[[1, 2]]]),
        ([7, 8], [], [7, 8]),
        (b"  [ [1.5, 2e0],\n[-3, 4] ] ", [2], [[1.5, 2], [-3, 4]]),
    ],
)
def test_rows_are_found_in_every_way_of_writing(content: Any, shape: Any, expected: Any) -> None:
    rows = read(content, shape)
    assert (rows.dtype, rows.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(rows, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("dtype", "content", "expected"),
    [
        ("float64", [0.1], 0.1),
        ("float16", [0.5], 0.5),
        ("int64", [9007199254740993], 9007199254740993),
        ("int8", [-128], -128),
        ("uint8", [255], 255),
        ("bool", [True], True),
    ],
)
def test_values_take_the_dtype_of_the_spec(dtype: str, content: Any, expected: Any) -> None:
    rows = read(content, [1], dtype)
    assert (rows.dtype, rows[0, 0]) == (np.dtype(dtype), expected)


@pytest.mark.parametrize(
    ("content", "dtype", "says"),
    [
        (b"7", "float32", "`content` of a tensor is a list of numbers, e.g. [[0.1, 0.2]]"),
        (b'"1,2"', "float32", "is a list of numbers"),
        (b"", "float32", "is a list of numbers"),
        (b"[]", "float32", "this model takes one row [2]"),
        (b"[[], []]", "float32", "this model takes one row [2] or several [rows, 2]"),
        (b"[1, 2", "float32", "not a tensor of float32: Input data was truncated"),
        (b"[NaN, 1]", "float32", "it has no NaN or Infinity either"),
        (b"[1e999, 1]", "float32", "no value may be infinite"),
        (b"[1e39, 1]", "float32", "a number is too large for float32"),
        (b"[70000, 1]", "float16", "a number is too large for float16"),
        (b"[null, 1]", "float32", "every value must be a number"),
        (b"[true, 1]", "float32", "Expected `float`, got `bool` - at `$[0]`"),
        (b'[1, "2"]', "float32", "Expected `float`, got `str` - at `$[1]`"),
        (b"[[1, 2], [3]]", "float32", "the lists are ragged"),
        (b"[[1, 2], 3]", "float32", "Expected `array`, got `int` - at `$[1]`"),
        (b"[[[1, 2]]]", "float32", "the lists are 3 deep; this model takes one row [2]"),
        (b"[1, 2, 3]", "float32", "the tensor has shape [3]; this model takes one row [2] or several"),
        (b"[[1, 2, 3]]", "float32", "the tensor has shape [1, 3]"),
        (b"[256, 0]", "uint8", "uint8 takes numbers from 0 to 255"),
        (b"[0.5, 0]", "int32", "not a tensor of int32: Expected `int`, got `float` - at `$[0]`"),
        (b"[2, 0]", "bool", "Expected `bool`, got `int`"),
        (b"[9223372036854775808, 0]", "int64", "int64 takes numbers from"),
        (b"[100000000000000000000000, 0]", "int64", "int64 takes numbers from"),
        (b'{"shape": [2]}', "float32", "not a tensor: Object missing required field `data`, e.g."),
        (b'{"shape": [2], "data": [1, 2], "dtype": "f4"}', "float32", "unknown field `dtype`"),
        (b'{"shape": [3], "data": [1, 2]}', "float32", "`shape` [3] takes 3 numbers, `data` has 2"),
        (b'{"shape": [-1, 2], "data": [1, 2]}', "float32", "is not a list of at most 16 positive sizes"),
        (b'{"shape": [2], "data": [[1, 2]]}', "float32", "Expected `float`, got `array`"),
        (b'{"shape": [1, 1, 2], "data": [1, 2]}', "float32", "the tensor has shape [1, 1, 2]"),
        (b'{"shape": [], "data": []}', "float32", "the tensor has shape []|takes 1 numbers"),
        (b"[" * 100_000, "float32", "deep"),
        (b'{"shape": [2], "data": ' + b"[" * 100_000, "float32", "not a tensor"),
        (b'{"sh\xffpe": [2], "data": [1, 2]}', "float32", "not a tensor: the JSON is not UTF-8"),
    ],
)
def test_what_is_no_tensor_is_explained(content: bytes, dtype: str, says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(content, [2], dtype)
    assert any(part in str(caught.value) for part in says.split("|"))


def test_a_flat_list_needs_a_fixed_row() -> None:
    with pytest.raises(
        InputInvalid, match=r"this model takes one row \[any, 2\] or several \[rows, any, 2\]$"
    ):
        read([1, 2, 3, 4], [None, 2])


def test_costs_are_bounded_before_decoding() -> None:
    with pytest.raises(InputTooBig, match="over 4 numbers"):
        read([1, 2, 3, 4, 5, 6], [2], limits=Limits(max_values=4))
    with pytest.raises(InputTooBig, match="10 are taken"):
        read([1, 2, 3, 4, 5, 6], [2], limits=Limits(max_bytes=10))


@pytest.mark.parametrize(("name", "encoding"), [("base64_png", "json"), ("tensor", "binary")])
def test_other_formats_are_refused(name: str, encoding: Any) -> None:
    preprocess = INPUTS.create(TensorInput(shape=[2]), limits=Limits())
    with pytest.raises(InputInvalid):
        preprocess(name, b"[1, 2]", encoding)
