from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cython_ops import reference, softmax_topk

ANY_TIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150
)
ACTIVATIONS = ("softmax", "sigmoid", "none")
LOGITS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 150)),
    elements=st.floats(-120, 120, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e-40, -1e-40]),
)
WILD = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 80)),
    elements=st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, -3.0, 3e38, -3e38]),
)


def same(logits: np.ndarray, k: int, activation: str) -> None:
    values, indices, entropy = softmax_topk(logits, k, activation=activation)
    want_values, want_indices, want_entropy = reference.softmax_topk(logits, k, activation=activation)
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_allclose(values, want_values, rtol=8e-6, atol=1e-37)
    np.testing.assert_allclose(entropy, want_entropy, rtol=2e-5, atol=2e-5)
    assert (values.dtype, indices.dtype, entropy.dtype) == (np.float32, np.int64, np.float64)


@given(logits=LOGITS, k=st.integers(0, 160), activation=st.sampled_from(ACTIVATIONS))
@example(logits=np.zeros((2, 100), np.float32), k=7, activation="softmax")
@example(logits=np.arange(-80, 70, dtype=np.float32)[None], k=70, activation="softmax")
@ANY_TIER
def test_scores_equal_the_twin(tier: str, logits: np.ndarray, k: int, activation: str) -> None:
    same(logits, k, activation)


@given(logits=WILD, k=st.integers(0, 90), activation=st.sampled_from(ACTIVATIONS))
@ANY_TIER
def test_nan_and_infinities_equal_the_twin(tier: str, logits: np.ndarray, k: int, activation: str) -> None:
    same(logits, k, activation)


@pytest.mark.parametrize("c", [1, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 127, 1000, 1023, 4097, 50_000])
@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
def test_every_remainder_and_order_equals_the_twin(tier: str, c: int, order: str) -> None:
    row = np.random.default_rng(c).standard_normal(c).astype(np.float32) * 3
    row = {"random": row, "rising": np.sort(row), "falling": np.sort(row)[::-1], "equal": row * 0}[order]
    same(np.ascontiguousarray(row[None]), 5, "softmax")
    same(np.ascontiguousarray(row[None]), 100, "sigmoid")


def test_equal_logits_come_in_index_order(tier: str) -> None:
    row = np.array([[1, 5, 5, 2, 5, 1]], np.float32)
    assert softmax_topk(row, 4)[1].tolist() == [[1, 2, 4, 3]]


def test_infinite_logits_share_the_mass(tier: str) -> None:
    values, indices, entropy = softmax_topk(np.array([[0, math.inf, 3, math.inf]], np.float32), 3)
    assert values.tolist() == [[0.5, 0.5, 0.0]]
    assert indices.tolist() == [[1, 3, 2]]
    assert entropy[0] == pytest.approx(math.log(2))


def test_a_row_of_minus_infinity_is_uniform(tier: str) -> None:
    values, indices, entropy = softmax_topk(np.full((1, 4), -math.inf, np.float32), 2)
    assert values.tolist() == [[0.25, 0.25]]
    assert indices.tolist() == [[0, 1]]
    assert entropy[0] == pytest.approx(math.log(4))


def test_a_nan_spoils_its_row_only(tier: str) -> None:
    values, indices, entropy = softmax_topk(np.array([[1, math.nan, 2], [1, 2, 3]], np.float32), 2)
    assert np.isnan(values[0]).all()
    assert indices.tolist() == [[0, 1], [2, 1]]
    assert np.isnan(entropy).tolist() == [True, False]


def test_no_classes_and_no_rows(tier: str) -> None:
    assert [a.shape for a in softmax_topk(np.empty((3, 0), np.float32), 5)] == [(3, 0), (3, 0), (3,)]
    assert softmax_topk(np.empty((3, 0), np.float32), 5)[2].tolist() == [0, 0, 0]
    assert [a.shape for a in softmax_topk(np.empty((0, 9), np.float32), 5)] == [(0, 5), (0, 5), (0,)]


def test_read_only_and_misaligned_logits_are_fine(tier: str) -> None:
    raw = np.random.default_rng(1).standard_normal((3, 37)).astype(np.float32)
    want = softmax_topk(raw, 5)
    raw.flags.writeable = False
    shifted = np.frombuffer(b"x" + raw.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 37)
    assert not shifted.flags.aligned
    for given_ in (raw, shifted):
        for got, expected in zip(softmax_topk(given_, 5), want, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("logits", "kind", "text"),
    [
        ([[1.0]], TypeError, "logits must be a NumPy array, not list"),
        (np.zeros((1, 2)), TypeError, "logits must be float32 in native byte order, not <f8"),
        (np.zeros((1, 2), ">f4"), TypeError, "logits must be float32 in native byte order, not >f4"),
        (np.zeros(2, np.float32), ValueError, r"logits must have 2 dimensions, not shape \(2,\)"),
        (np.zeros((2, 4), np.float32)[:, ::2], ValueError, "logits must be C-contiguous"),
    ],
)
def test_wrong_logits_are_named(logits: object, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        softmax_topk(logits, 1)  # type: ignore[arg-type]


def test_a_negative_k_and_an_unknown_activation_are_refused() -> None:
    with pytest.raises(ValueError, match="k must not be negative, but is -1"):
        softmax_topk(np.zeros((1, 2), np.float32), -1)
    with pytest.raises(ValueError, match="activation must be 'softmax', 'sigmoid' or 'none', not 'relu'"):
        softmax_topk(np.zeros((1, 2), np.float32), 1, activation="relu")  # type: ignore[arg-type]
