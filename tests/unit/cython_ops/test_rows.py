from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cython_ops import (
    activate,
    activate_backward,
    cross_entropy,
    cross_entropy_backward,
    entropy,
    log_softmax,
    reference,
    softmax,
    softmax_topk,
)

ANY_TIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120
)
SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 70))
TAME = hnp.arrays(np.float32, SHAPES, elements=st.floats(-60, 60, width=32))
WILD = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 40)),
    elements=st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -3.0, 3e38, -3e38, 1e-40]),
)
ACTIVATIONS = ("identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax")


@given(logits=TAME | WILD)
@example(logits=np.array([[-52.964058, 11.231205, 11.231205, *[0] * 45]], np.float32))
@example(logits=np.array([[*[11.231205] * 16, -52.778793, *[-5.404795] * 1007]], np.float32))
@ANY_TIER
def test_softmax_and_log_softmax_equal_their_twins(tier: str, logits: np.ndarray) -> None:
    np.testing.assert_allclose(softmax(logits), reference.softmax(logits), rtol=8e-6, atol=1e-37)
    got, want = log_softmax(logits), reference.log_softmax(logits)
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=3e-5)


@pytest.mark.parametrize("c", [1, 15, 16, 17, 64, 1000, 50_000])
def test_wide_rows_sum_to_one(tier: str, c: int) -> None:
    logits = np.random.default_rng(c).standard_normal((2, c), np.float32)
    assert np.abs(softmax(logits).sum(axis=1, dtype=np.float64) - 1).max() < 1e-6
    np.testing.assert_allclose(log_softmax(logits), reference.log_softmax(logits), rtol=1e-6)


@given(
    logits=(TAME | WILD).filter(lambda z: z.shape[1] > 0),
    seed=st.integers(0, 2**32),
    weighted=st.booleans(),
)
@ANY_TIER
def test_cross_entropy_and_its_gradient_equal_their_twins(
    tier: str, logits: np.ndarray, seed: int, weighted: bool
) -> None:
    n, c = logits.shape
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, n)
    weights = rng.uniform(0, 3, c).astype(np.float32) if weighted else None
    got = cross_entropy(logits, labels, weights=weights)
    want = reference.cross_entropy(logits, labels, weights=weights)
    heaviest = 1.0 if weights is None else float(weights.max())
    assert got == pytest.approx(want, rel=1e-7, abs=8e-6 * heaviest, nan_ok=True)
    np.testing.assert_allclose(
        cross_entropy_backward(logits, labels, weights=weights),
        reference.cross_entropy_backward(logits, labels, weights=weights),
        atol=8e-6 * heaviest / max(1, n),
        rtol=8e-6,
    )


@pytest.mark.parametrize("c", [3, 16, 17, 1000])
def test_the_gradient_may_take_the_place_of_the_logits(tier: str, c: int) -> None:
    rng = np.random.default_rng(c)
    logits, labels = rng.standard_normal((6, c), np.float32), rng.integers(0, c, 6)
    want = cross_entropy_backward(logits, labels)
    assert np.abs(want.sum(axis=1)).max() < 1e-6
    assert cross_entropy_backward(logits, labels, out=logits) is logits
    np.testing.assert_array_equal(logits, want)


def test_labels_that_another_thread_changes_meanwhile_lead_nowhere_else() -> None:
    n, c = 20_000, 4
    room = np.zeros(n * c + 16, np.float32)
    out, logits, labels = room[: n * c].reshape(n, c), np.zeros((n, c), np.float32), np.zeros(n, np.int64)
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            labels[-1] = c + 5
            labels[-1] = 0

    other = threading.Thread(target=change)
    other.start()
    for _ in range(100):
        try:
            cross_entropy_backward(logits, labels, out=out)
        except ValueError:  # it had been changed before it was looked at
            continue
    over.set()
    other.join()
    assert not room[n * c :].any()


def test_unaligned_labels_and_weights_are_read_from_copies(tier: str) -> None:
    logits = np.random.default_rng(2).standard_normal((40, 5), np.float32)
    labels = np.arange(40) % 5
    weights = np.linspace(1, 2, 5, dtype=np.float32)
    shifted = np.frombuffer(b"\0" + labels.tobytes(), np.int64, offset=1)
    heavy = np.frombuffer(b"\0" + weights.tobytes(), np.float32, offset=1)
    assert cross_entropy(logits, shifted, weights=heavy) == cross_entropy(logits, labels, weights=weights)


@given(logits=TAME)
@ANY_TIER
def test_entropy_is_that_of_softmax_topk(tier: str, logits: np.ndarray) -> None:
    for activation in ("softmax", "sigmoid", "none"):
        np.testing.assert_array_equal(
            entropy(logits, activation=activation), softmax_topk(logits, 2, activation=activation)[2]
        )


@given(values=TAME | WILD, activation=st.sampled_from(ACTIVATIONS))
@ANY_TIER
def test_activations_equal_their_twins(tier: str, values: np.ndarray, activation: str) -> None:
    with np.errstate(over="ignore"):
        got = activate(values, activation=activation, alpha=0.2)
        want = reference.activate(values, activation=activation, alpha=0.2)
    rtol = {"gelu": 6e-6, "softmax": 8e-6}.get(activation, 4e-6)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-37 if activation != "gelu" else 1e-30)
    assert got.dtype == np.float32


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_may_work_in_place(tier: str, activation: str) -> None:
    values = np.random.default_rng(3).standard_normal((5, 37), np.float32)
    want = activate(values, activation=activation)
    assert activate(values, activation=activation, out=values) is values
    np.testing.assert_array_equal(values, want)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "sigmoid"])
def test_limits_of_the_activations(tier: str, activation: str) -> None:
    ends = activate(np.array([[-math.inf, math.inf, math.nan]], np.float32), activation=activation)[0]
    low, high = {"relu": (0, math.inf), "gelu": (0, math.inf), "tanh": (-1, 1), "sigmoid": (0, 1)}[activation]
    assert abs(ends[0] - low) < 1e-30
    assert ends[1] == high
    assert math.isnan(ends[2])


@given(seed=st.integers(0, 2**32), shape=SHAPES, activation=st.sampled_from(ACTIVATIONS))
@ANY_TIER
def test_gradients_of_activations_equal_their_twins(
    tier: str, seed: int, shape: tuple[int, int], activation: str
) -> None:
    rng = np.random.default_rng(seed)
    grad, x = rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32) * 3
    values = x if activation == "gelu" else activate(x, activation=activation, alpha=0.2)
    got = activate_backward(grad, values, activation=activation, alpha=0.2)
    want = reference.activate_backward(grad, values, activation=activation, alpha=0.2)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_twins_gradients_are_those_of_finite_differences(activation: str) -> None:
    rng = np.random.default_rng(7)
    x, grad = (
        rng.standard_normal((3, 5)).astype(np.float32) + 0.05,
        rng.standard_normal((3, 5)).astype(np.float32),
    )
    values = x if activation == "gelu" else reference.activate(x, activation=activation)
    slope = reference.activate_backward(grad, values, activation=activation)
    for at in np.ndindex(3, 5):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * 1e-2
            y = reference.activate(moved, activation=activation).astype(np.float64)
            ends.append((y * grad).sum())
        assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-3)


def test_wrong_arguments_are_named() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"activation must be one of identity, relu, .*, not 'swish'"):
        activate(x, activation="swish")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"values must have shape \(2, 3\), not \(2, 2\)"):
        activate_backward(x, np.zeros((2, 2), np.float32), activation="relu")
    with pytest.raises(ValueError, match=r"out must have shape \(2, 3\)"):
        softmax(x, out=np.zeros((3, 2), np.float32))
    both = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="out and the input overlap in memory"):
        log_softmax(both[:2], out=both[1:3])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), but labels\[1\] is 3"):
        cross_entropy(x, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), but labels\[0\] is -1"):
        cross_entropy_backward(x, np.array([-1, 0]))
    with pytest.raises(ValueError, match=r"labels must have one entry a row of logits \(2\), not 3"):
        cross_entropy(x, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\), not \(2,\)"):
        cross_entropy(x, np.array([0, 1]), weights=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="out and weights overlap"):
        cross_entropy_backward(both[:2], np.array([0, 1]), weights=both[2], out=both[2:])
    with pytest.raises(ValueError, match="out and values overlap"):
        activate_backward(x.copy(), x, activation="relu", out=x)
