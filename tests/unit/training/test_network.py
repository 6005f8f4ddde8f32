"""The network's arrays, its passes, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from training.errors import PlanInvalid
from training.initializers import deviation, fill, suited
from training.layers import Activate, BatchNorm, Dense, Dropout
from training.network import Network


def test_parameters_and_gradients_are_views_of_flat_arrays() -> None:
    network = Network(5, [Dense(7, "relu"), BatchNorm(), Dense(3)])
    for slot in network.slots:
        for view in slot.values.values():
            assert np.shares_memory(view, network.values)
            assert view.ctypes.data % 64 == 0
        for view in slot.grads.values():
            assert np.shares_memory(view, network.grads)
    assert network.parameter_count == 5 * 7 + 7 + 7 + 7 + 7 * 3 + 3


def test_a_pass_of_one_size_uses_the_same_arrays_again() -> None:
    network = Network(5, [Dense(7, "relu"), Dense(3)])
    x = np.zeros((4, 5), np.float32)
    assert network.bound(4).forward(x) is network.bound(4).forward(x)


def test_the_same_seed_gives_the_same_network_in_both_precisions() -> None:
    layers = [Dense(7, "relu"), Dense(3)]
    one, again, other = (Network(5, layers, seed=seed) for seed in (1, 1, 2))
    double = Network(5, layers, seed=1, dtype=np.float64)
    np.testing.assert_array_equal(one.values, again.values)
    assert (one.values != other.values).any()
    np.testing.assert_array_equal(
        one.slots[0].values["weight"], double.slots[0].values["weight"].astype(np.float32)
    )


def test_predict_takes_any_number_of_rows_and_returns_its_own_array() -> None:
    network = Network(5, [Dense(3, "tanh")], seed=3)
    x = np.random.default_rng(0).normal(size=(2500, 5)).astype(np.float32)
    whole = network.predict(x)
    assert whole.shape == (2500, 3)
    np.testing.assert_allclose(network.predict(x[2040:2060]), whole[2040:2060], rtol=1e-5, atol=1e-6)
    assert not np.shares_memory(network.predict(x[:8]), network.predict(x[:8]))
    assert network.predict(x[:0]).shape == (0, 3)


def test_dropout_drops_its_share_and_keeps_the_mean_and_does_nothing_in_use() -> None:
    network = Network(100, [Dropout(0.3), Dense(1)])
    x = np.ones((500, 100), np.float32)
    dropped = network.bound(500).bound[0].forward(x)
    assert np.mean(dropped == 0) == pytest.approx(0.3, abs=0.01)
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(network.bound(500).bound[0].infer(x), x)


def test_batch_norm_uses_the_batch_in_training_and_running_means_in_use() -> None:
    network = Network(4, [BatchNorm(), Dense(1)])
    rng = np.random.default_rng(0)
    bound = network.bound(64)
    for _ in range(200):
        y = bound.bound[0].forward(rng.normal(5, 3, (64, 4)).astype(np.float32))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-3)
    used = bound.bound[0].infer(np.full((64, 4), 5, np.float32))
    np.testing.assert_allclose(used, 0, atol=0.2)
    np.testing.assert_allclose(network.slots[0].state["variance"], 9, rtol=0.2)


@pytest.mark.parametrize(("name", "expected"), [("he", 0.1), ("glorot", 0.0816), ("lecun", 0.0707)])
def test_weights_begin_with_the_deviation_of_their_initializer(name: str, expected: float) -> None:
    weight = np.empty((100, 200))
    fill(weight, name, rng=np.random.default_rng(0))  # type: ignore[arg-type]
    assert deviation(name, inputs=200, outputs=100) == pytest.approx(expected, abs=1e-4)  # type: ignore[arg-type]
    assert weight.std() == pytest.approx(expected, rel=0.03)
    assert weight.mean() == pytest.approx(0, abs=0.005)


def test_the_initializer_follows_the_activation() -> None:
    assert [suited(each) for each in ("relu", "gelu", "tanh", "identity")] == ["he", "he", "glorot", "glorot"]


@pytest.mark.parametrize(
    ("inputs", "layers", "words"),
    [
        (0, [Dense(1)], "at least one input"),
        (3, [Dropout(0.1)], "at least one dense layer"),
        (3, [Dense(0)], "layer 0: a dense layer needs at least one output"),
        (3, [Dense(4, "softmax"), Dense(2)], "layer 0: softmax may only be the last"),
        (3, [Dense(4), Activate("softmax"), Dense(2)], "layer 1: softmax may only be the last"),
    ],
)
def test_networks_that_cannot_be_are_refused(inputs: int, layers: list[Dense], words: str) -> None:
    with pytest.raises(PlanInvalid, match=words):
        Network(inputs, layers)


def test_half_precision_and_a_full_dropout_are_refused() -> None:
    with pytest.raises(ValueError, match="float32, or float64"):
        Network(3, [Dense(1)], dtype=np.float16)
    with pytest.raises(PlanInvalid, match="below 1"):
        Dropout(1.0)
