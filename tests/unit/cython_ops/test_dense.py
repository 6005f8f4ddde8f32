from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cython_ops import DenseNetwork, dense, dense_backward_input, dense_backward_weights, reference

ANY_TIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120
)
SIDE = st.integers(0, 40) | st.sampled_from([63, 64, 65, 127, 128, 129, 300])
ACTIVATIONS = ("identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax")


def arrays(n: int, inputs: int, outputs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((n, inputs), np.float32),
        rng.standard_normal((outputs, inputs), np.float32),
        rng.standard_normal(outputs, np.float32),
    )


def bound(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> float:
    """The stated tolerance: 2e-6 of the greatest sum of magnitudes."""
    total = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64).T
    return 2e-6 * float(total.max(initial=0) + (0 if b is None else np.abs(b).max(initial=0)) + 1e-30)


@given(
    n=SIDE,
    inputs=SIDE,
    outputs=SIDE,
    seed=st.integers(0, 99),
    biased=st.booleans(),
    threads=st.integers(1, 3),
)
@ANY_TIER
def test_a_layer_equals_the_twin(
    tier: str, n: int, inputs: int, outputs: int, seed: int, biased: bool, threads: int
) -> None:
    x, w, b = arrays(n, inputs, outputs, seed)
    bias = b if biased else None
    got = dense(x, w, bias, threads=threads)
    assert got.shape == (n, outputs)
    np.testing.assert_allclose(got, reference.dense(x, w, bias), rtol=0, atol=bound(x, w, bias))


@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 33, 48, 64, 65, 100, 255, 257, 600]
)
@pytest.mark.parametrize("inputs", [1, 16, 784, 1025, 2048])
@pytest.mark.parametrize("outputs", [20, 37, 70])
def test_every_batch_size_equals_the_twin(tier: str, n: int, inputs: int, outputs: int) -> None:
    x, w, b = arrays(n, inputs, outputs, n)
    np.testing.assert_allclose(dense(x, w, b), reference.dense(x, w, b), rtol=0, atol=bound(x, w, b))


@pytest.mark.parametrize("n", [*range(1, 18), 23, 27, 32])
@pytest.mark.parametrize(("inputs", "outputs"), [(300, 901), (784, 349), (1025, 263), (2100, 130)])
def test_weights_larger_than_a_cache_equal_the_twin(tier: str, n: int, inputs: int, outputs: int) -> None:
    x, w, b = arrays(n, inputs, outputs, n)
    got = dense(x, w, b, threads=1 + n % 2)
    np.testing.assert_allclose(got, reference.dense(x, w, b), rtol=0, atol=bound(x, w, b))


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_the_twin(tier: str, n: int, activation: str) -> None:
    x, w, b = arrays(n, 50, 23, 1)
    got = dense(x, w / 7, b, activation=activation, alpha=0.3)
    want = reference.dense(x, w / 7, b, activation=activation, alpha=0.3)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 8, 30, 64, 128, 192, 300])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_network_equals_its_layers(tier: str, n: int, threads: int) -> None:
    rng = np.random.default_rng(n)
    sizes, layers = [70, 130, 33, 10], []
    for inputs, outputs in itertools.pairwise(sizes):
        w = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        layers.append(
            (w, rng.standard_normal(outputs).astype(np.float32), "softmax" if outputs == 10 else "gelu")
        )
    x = rng.standard_normal((n, 70), np.float32)
    network, out = DenseNetwork(layers), np.empty((n, 10), np.float32)
    assert (network.inputs, network.outputs) == (70, 10)
    np.testing.assert_allclose(
        network(x, threads=threads), reference.DenseNetwork(layers)(x), rtol=2e-5, atol=1e-6
    )
    assert network(x, out=out, threads=threads) is out
    np.testing.assert_array_equal(out, network(x, threads=threads))


def test_overlapping_calls_do_not_share_working_memory(tier: str) -> None:
    rng = np.random.default_rng(2)
    w = rng.standard_normal((300, 300), np.float32)
    network = DenseNetwork([(w, None, "tanh"), (w, None, "tanh"), (w, None, "identity")])
    inputs = [rng.standard_normal((n, 300), np.float32) for n in (1, 3, 70, 130)]
    wanted = [network(x) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(number for _ in range(40) if not np.array_equal(network(inputs[number]), wanted[number]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("n", [1, 4, 64])
def test_nan_and_infinity_stay_in_their_row(tier: str, n: int) -> None:
    x, w, b = arrays(n + 1, 40, 20, 3)
    clean = dense(x, w, b)
    x[n // 2, 7] = np.nan
    got = dense(x, w, b)
    assert np.isnan(got[n // 2]).all()
    rest = np.arange(n + 1) != n // 2
    np.testing.assert_array_equal(got[rest], clean[rest])
    x[n // 2, 7] = np.inf
    assert np.isinf(dense(x, w, b)[n // 2]).all()


def test_denormals_are_exact_or_zero(tier: str) -> None:
    x = np.full((1, 32), 1e-39, np.float32)
    w = np.ones((3, 32), np.float32)
    np.testing.assert_allclose(dense(x, w), np.full((1, 3), 3.2e-38, np.float32), rtol=1e-5)


def test_read_only_and_misaligned_arrays_are_fine(tier: str) -> None:
    x, w, b = arrays(5, 33, 18, 4)
    want = dense(x, w, b)

    def shifted(a: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape)

    np.testing.assert_array_equal(dense(shifted(x), shifted(w), shifted(b)), want)
    np.testing.assert_array_equal(DenseNetwork([(shifted(w), shifted(b), "identity")])(x), want)


@given(n=SIDE, inputs=SIDE, outputs=SIDE, seed=st.integers(0, 99), threads=st.integers(1, 3))
@ANY_TIER
def test_gradients_equal_the_twins(
    tier: str, n: int, inputs: int, outputs: int, seed: int, threads: int
) -> None:
    x, w, _ = arrays(n, inputs, outputs, seed)
    grad = np.random.default_rng(seed + 1).standard_normal((n, outputs), np.float32)
    dw, db = dense_backward_weights(grad, x, threads=threads)
    want_dw, want_db = reference.dense_backward_weights(grad, x)
    np.testing.assert_allclose(dw, want_dw, rtol=0, atol=bound(grad.T.copy(), x.T.copy(), None))
    np.testing.assert_allclose(db, want_db, rtol=0, atol=2e-6 * np.abs(grad).sum(axis=0).max(initial=1e-20))
    dx = dense_backward_input(grad, w, threads=threads)
    np.testing.assert_allclose(
        dx, reference.dense_backward_input(grad, w), rtol=0, atol=bound(grad, w.T.copy(), None)
    )


def test_gradients_are_written_where_wanted(tier: str) -> None:
    x, w, _ = arrays(9, 20, 30, 5)
    grad = np.random.default_rng(6).standard_normal((9, 30), np.float32)
    dw, db, dx = np.full((30, 20), 7, np.float32), np.full(30, 7, np.float32), np.full((9, 20), 7, np.float32)
    assert dense_backward_weights(grad, x, grad_weight=dw, grad_bias=db)[0] is dw
    assert dense_backward_input(grad, w, out=dx) is dx
    np.testing.assert_array_equal(dw, dense_backward_weights(grad, x)[0])
    np.testing.assert_array_equal(dx, dense_backward_input(grad, w))


F = np.float32


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, w, b: dense(x, w[:, :3].copy(), b), r"x must have shape \(n, 3\)"),
        (
            lambda x, w, b: dense(x, w, b[:2].copy()),
            r"bias must have shape \(5,\), one a row of weight, not \(2,\)",
        ),
        (lambda x, w, b: dense(x, w, b, threads=0), "threads must be at least 1, but is 0"),
        (lambda x, w, b: dense(x, w, b, out=np.zeros((2, 4), F)), r"out must have shape \(2, 5\)"),
        (
            lambda x, w, b: dense(x, w, b, out=w.ravel()[:10].reshape(2, 5)),
            "out and weight overlap in memory",
        ),
        (lambda x, w, b: dense(x, w.T, b), "weight must be C-contiguous"),
        (lambda x, w, b: DenseNetwork([]), "layers must hold at least one layer"),
        (lambda x, w, b: DenseNetwork([(w, b)]), r"layers\[0\] must be \(weight, bias, activation\)"),
        (
            lambda x, w, b: DenseNetwork([(w, b, "softmax"), (w, b, "relu")]),
            r"layers\[0\] has activation softmax, which only the last",
        ),
        (
            lambda x, w, b: DenseNetwork([(w, b, "relu"), (w, b, "relu")]),
            r"layers\[1\] weight has 4 columns, but",
        ),
        (lambda x, w, b: dense_backward_weights(np.zeros((3, 5), F), x), "x must have as many rows as grad"),
        (lambda x, w, b: dense_backward_input(x, w), "weight must have as many rows as grad has columns"),
    ],
)
def test_wrong_arguments_are_named(call: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(np.zeros((2, 4), F), np.zeros((5, 4), F), np.zeros(5, F))  # type: ignore[operator]
