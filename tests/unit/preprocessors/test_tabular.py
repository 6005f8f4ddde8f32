"""Named features to columns."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from preprocessors.base import InputInvalid, InputTooBig, Limits
from preprocessors.specs import TabularInput
from preprocessors.tabular import TabularPreprocessor

FEATURES = [
    {"name": "age", "mean": 40, "std": 10},
    {"name": "sex", "values": ["f", "m"]},
    {"name": "height cm", "mean": 170, "std": 5, "missing": 175},
    {"name": "rank", "values": [1, 2, 3], "missing": 0},
]


def spec(features: Any = FEATURES) -> TabularInput:
    return msgspec.convert({"kind": "tabular", "features": features}, TabularInput)


def read(
    content: Any, *, features: Any = FEATURES, name: str = "tabular", limits: Limits | None = None
) -> Any:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return TabularPreprocessor(spec(features), limits=limits or Limits())(
        name, memoryview(raw), "json"
    ).tolist()


def test_numbers_are_scaled_and_choices_are_spread() -> None:
    assert read({"rank": 3, "age": 60, "sex": "m", "height cm": 180}) == [[2, 0, 1, 2, 0, 0, 1]]


def test_plain_numbers_go_in_as_they_are() -> None:
    assert read([{"b": 2, "a": 1.5}], features=[{"name": "a"}, {"name": "b"}]) == [[1.5, 2]]


def test_rows_keep_their_order() -> None:
    rows = [{"age": age, "sex": "f", "height cm": 170, "rank": 1} for age in (10, 50)]
    assert [row[0] for row in read(rows)] == [-3, 1]


@pytest.mark.parametrize("given", [{}, {"height cm": None, "rank": None}])
def test_what_may_be_missing_has_its_stand_in(given: dict[str, Any]) -> None:
    assert read({"age": 40, "sex": "f"} | given) == [[0, 1, 0, 1, 0, 0, 0]]


def test_ready_tensors_are_taken_unscaled() -> None:
    assert read([1, 2, 3, 4, 5, 6, 7], name="tensor") == [[1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"sex": "f"}, "missing feature `age`"),
        ({"age": 1, "sex": "f", "hight": 3}, "unknown feature `hight`"),
        ({"age": "1", "sex": "f"}, "Expected `float`, got `str` - at `$.age`"),
        ({"age": None, "sex": "f"}, "Expected `float`, got `null`"),
        ({"age": True, "sex": "f"}, "Expected `float`, got `bool`"),
        ([{"age": 1, "sex": "f"}, {"age": 1, "sex": "x"}], "row 1: 'sex' is 'x', not one of 'f', 'm'"),
        ({"age": 1, "sex": "f", "rank": 4}, "row 0: 'rank' is '4', not one of 1, 2, 3"),
        ({"age": 1e300, "sex": "f"}, "row 0: a value is too large"),
        (b'{"age": NaN, "sex": "f"}', "malformed"),
        (b'{"age": 1e999, "sex": "f"}', "out of range"),
        (b'{"age": 1, "sex": "\xff"}', "not UTF-8"),
        ([], "the list has no rows"),
        (3, "send one object, or a list of them, with the features age, sex, height cm, rank"),
        (b"[" * 100_000, "not rows of features"),
    ],
)
def test_a_bad_row_is_named(content: Any, says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(content)
    assert says in str(caught.value)


def test_only_its_formats_are_taken() -> None:
    with pytest.raises(InputInvalid, match="'tabular' and 'tensor', not 'image'"):
        read({}, name="image")


@pytest.mark.parametrize("limits", [Limits(max_bytes=10), Limits(max_values=13)])
def test_limits_hold(limits: Limits) -> None:
    with pytest.raises(InputTooBig):
        read([{"age": 1, "sex": "f"}] * 2, limits=limits)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ([], "length >= 1"),
        ([{"name": "a"}, {"name": "a"}], "two `features` have the name 'a'"),
        ([{"name": "a", "std": 0}], "Expected `float` >= "),
        ([{"name": "a", "values": ["x"]}], "length >= 2"),
        ([{"name": "a", "values": ["x", "x"]}], "must differ"),
        ([{"name": "a", "values": ["x", "y"], "mean": 1}], "no `mean` and `std`"),
    ],
)
def test_a_bad_spec_is_refused(features: Any, says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        spec(features)
