"""Every gradient against central differences in float64: (f(x + h) - f(x - h)) / 2h, h = 1e-6."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from training.layers import Activate, AnyLayer, BatchNorm, Dense, Dropout
from training.losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanSquaredError
from training.network import Network
from training.ops import ACTIVATIONS, Activation, Array, ops_for

ROWS, INPUTS, OUTPUTS = 6, 5, 4
TOLERANCE = 1e-7
HIDDEN = [each for each in ACTIVATIONS if each != "softmax"]


def numeric(f: Callable[[], float], at: Array) -> Array:
    slope = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        kept = at[place]
        at[place] = kept + 1e-6
        above = f()
        at[place] = kept - 1e-6
        slope[place] = (above - f()) / 2e-6
        at[place] = kept
    return slope


def check(layers: list[AnyLayer], loss: Loss, targets: Array) -> None:
    rng = np.random.default_rng(3)
    network = Network(INPUTS, layers, dtype=np.float64, input_gradient=True)
    network.values += rng.normal(0, 0.1, network.values.shape)  # biases too, so that nothing is symmetric
    x = rng.normal(size=(ROWS, INPUTS))
    rows = loss.prepare(targets, network.outputs, dtype=network.dtype)
    ops, bound = ops_for(network.dtype), network.bound(ROWS)

    def value() -> float:
        network.rng.bit_generator.state = np.random.default_rng(9).bit_generator.state  # the same mask
        return loss.value(bound.forward(x), rows, ops=ops)

    value()
    outputs = bound.bound[-1].output
    grad = loss.gradient(outputs, rows, ops=ops, out=np.empty_like(outputs))
    by_input = bound.backprop(grad).copy()
    by_values = network.grads.copy()
    np.testing.assert_allclose(by_input, numeric(value, x), atol=TOLERANCE)
    learned = np.zeros(network.values.shape, bool)
    start = network.values.ctypes.data
    for slot in network.slots:
        for view in slot.values.values():
            first = (view.ctypes.data - start) // view.itemsize
            learned[first : first + view.size] = True
    expected = numeric(value, network.values)
    np.testing.assert_allclose(by_values[learned], expected[learned], atol=TOLERANCE)
    assert not by_values[~learned].any(), "padding has no gradient"


def classes() -> Array:
    return np.array([0, 3, 1, 2, 3, 0])


def numbers() -> Array:
    return np.random.default_rng(5).normal(0, 2, (ROWS, OUTPUTS))


@pytest.mark.parametrize("activation", HIDDEN)
def test_dense_with_each_activation(activation: Activation) -> None:
    check([Dense(7, activation), Dense(OUTPUTS)], CrossEntropy(), classes())


@pytest.mark.parametrize("activation", HIDDEN)
def test_each_activation_by_itself_after_batch_norm(activation: Activation) -> None:
    check([Dense(7), BatchNorm(), Activate(activation), Dense(OUTPUTS)], CrossEntropy(), classes())


@pytest.mark.parametrize("last", [Dense(OUTPUTS, "softmax"), Activate("softmax")])
def test_softmax_as_the_last_activation(last: AnyLayer) -> None:
    layers = [Dense(OUTPUTS, "tanh"), last] if isinstance(last, Activate) else [Dense(7, "tanh"), last]
    check(layers, MeanSquaredError(), numbers())


def test_dropout_passes_back_through_its_own_mask() -> None:
    check([Dense(7, "tanh"), Dropout(0.4), Dense(OUTPUTS)], CrossEntropy(), classes())


def test_batch_norm_first_and_last() -> None:
    check([BatchNorm(), Dense(OUTPUTS), BatchNorm()], MeanSquaredError(), numbers())


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (CrossEntropy(), classes()),
        (CrossEntropy(weights=(0.5, 2.0, 1.0, 0.1)), classes()),
        (BinaryCrossEntropy(), np.array([[0, 1, 1, 0]] * ROWS)),
        (BinaryCrossEntropy(weights=(0.3, 4.0)), np.array([[0, 1, 0.4, 0]] * ROWS)),
        (MeanSquaredError(), numbers()),
        (Huber(), numbers()),
        (Huber(delta=0.1), numbers()),
    ],
)
def test_each_loss(loss: Loss, targets: Array) -> None:
    check([Dense(6, "gelu"), Dense(OUTPUTS)], loss, targets)


@pytest.mark.parametrize("activation", HIDDEN)
def test_the_kernels_give_the_gradients_of_float64(activation: Activation) -> None:
    grads = []
    for dtype in (np.float32, np.float64):
        network = Network(20, [Dense(33, activation), BatchNorm(), Dense(OUTPUTS)], dtype=dtype, seed=4)
        rng = np.random.default_rng(1)
        x = rng.normal(size=(50, 20)).astype(dtype)
        loss = CrossEntropy()
        rows = loss.prepare(rng.integers(0, OUTPUTS, 50), OUTPUTS, dtype=network.dtype)
        bound, ops = network.bound(50), ops_for(network.dtype)
        outputs = bound.forward(x)
        bound.backprop(loss.gradient(outputs, rows, ops=ops, out=np.empty_like(outputs)))
        grads.append({name: grad for slot in network.slots for name, grad in slot.grads.items()})
    for name, grad in grads[0].items():
        np.testing.assert_allclose(grad, grads[1][name], rtol=1e-4, atol=1e-6)
