from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cython_ops import iou, nms, reference

ANY_TIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120
)
COORDINATE = st.integers(-4, 12).map(float) | st.floats(-5, 20, width=32)
WILD = st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38]) | COORDINATE


def boxes_of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(4)), elements=elements)


@given(boxes=boxes_of(COORDINATE) | boxes_of(WILD), data=st.data())
@ANY_TIER
def test_suppression_equals_the_twin(tier: str, boxes: np.ndarray, data: st.DataObject) -> None:
    n = len(boxes)
    score = st.sampled_from([0.1, 0.5, 0.9, 0.0, -0.0, -2.0, math.nan, math.inf])
    scores = data.draw(hnp.arrays(np.float32, n, elements=score))
    classes = data.draw(st.none() | hnp.arrays(np.int64, n, elements=st.integers(-2, 2)))
    arguments = {
        "iou_threshold": data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        "score_threshold": data.draw(st.sampled_from([-math.inf, 0.0, 0.3])),
        "classes": classes,
        "max_output": data.draw(st.none() | st.integers(0, 5)),
    }
    got = nms(boxes, scores, **arguments)
    np.testing.assert_array_equal(got, reference.nms(boxes, scores, **arguments))
    assert got.dtype == np.int64


@given(a=boxes_of(WILD), b=boxes_of(WILD))
@ANY_TIER
def test_iou_equals_the_twin(tier: str, a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(iou(a, b), reference.iou(a, b))


def test_many_boxes_equal_the_twin(tier: str) -> None:
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 600, (3000, 2)), rng.uniform(10, 90, (3000, 2))
    boxes = np.hstack([corner, corner + size]).astype(np.float32)
    scores, classes = rng.random(3000, np.float32), rng.integers(0, 5, 3000)
    for given_ in (None, classes):
        got = nms(boxes, scores, iou_threshold=0.45, classes=given_)
        np.testing.assert_array_equal(got, reference.nms(boxes, scores, iou_threshold=0.45, classes=given_))


def test_a_known_pair_has_its_known_overlap(tier: str) -> None:
    pair = np.array([[0, 0, 2, 2], [1, 0, 3, 2]], np.float32)
    assert iou(pair, pair).tolist() == [[1, pytest.approx(1 / 3)], [pytest.approx(1 / 3), 1]]
    assert nms(pair, np.array([0.5, 0.9], np.float32), iou_threshold=0.3).tolist() == [1]
    assert nms(pair, np.array([0.5, 0.9], np.float32), iou_threshold=0.34).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"boxes": np.zeros((3, 5), np.float32)}, r"boxes must have shape \(n, 4\)"),
        ({"scores": np.zeros(2, np.float32)}, r"scores must have one entry a box \(3\), not 2"),
        ({"classes": np.zeros(2, np.int64)}, r"classes must have one entry a box \(3\), not 2"),
        ({"classes": np.full(3, 2**31)}, r"classes must lie in \[-2\*\*31, 2\*\*31\)"),
        ({"iou_threshold": 1.5}, "iou_threshold must be between 0 and 1, but is 1.5"),
        ({"score_threshold": math.nan}, "score_threshold must not be NaN"),
        ({"max_output": -1}, "max_output must not be negative"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], text: str) -> None:
    usual = {"boxes": np.zeros((3, 4), np.float32), "scores": np.zeros(3, np.float32), "iou_threshold": 0.5}
    with pytest.raises(ValueError, match=text):
        nms(**(usual | change))  # type: ignore[arg-type]
