"""Layers as they are and layers folded and fused give the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bare_models.folding import rounded
from bare_models.layers import (
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    Layer,
    check,
)
from bare_models.network import Network
from tests.fakes.bare_networks import EVERYTHING, MLP, answer, numbers

D = DenseLayer(inputs=6, outputs=6)


def rows(count: int = 5) -> Any:
    return np.random.default_rng(1).standard_normal((count, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param(MLP, id="mlp"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param([D, BatchNormLayer(size=6)], id="norm after"),
        pytest.param([BatchNormLayer(size=6), D], id="norm before"),
        pytest.param([DenseLayer(inputs=6, outputs=6, bias=False), BatchNormLayer(size=6)], id="no bias"),
        pytest.param(
            [DenseLayer(inputs=6, outputs=6, activation="relu"), BatchNormLayer(size=6)], id="norm last"
        ),
        pytest.param([BatchNormLayer(size=6), BatchNormLayer(size=6), D], id="two norms"),
        pytest.param([ActivationLayer(activation="tanh"), D, ActivationLayer(activation="relu")], id="first"),
        pytest.param(
            [D, ActivationLayer(activation="softmax"), D, ActivationLayer(activation="softmax")],
            id="softmaxes",
        ),
        pytest.param([DenseLayer(inputs=6, outputs=6, activation="softmax"), D], id="softmax inside"),
        pytest.param(
            [D, BatchNormLayer(size=6), BatchNormLayer(size=6), ActivationLayer(activation="gelu"), D],
            id="chain",
        ),
    ],
)
@pytest.mark.parametrize("count", [1, 5, 70])
def test_folding_and_fusing_change_nothing(layers: list[Layer], count: int) -> None:
    given = numbers(layers)
    got = Network(layers, given)(rows(count))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, answer(layers, given, rows(count)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (64, 128)])
def test_folded_numbers_are_aligned_as_those_of_a_file(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).standard_normal(shape)
    kept = [rounded(values) for _ in range(8)]
    assert {array.ctypes.data % 64 for array in kept} == {0}
    np.testing.assert_array_equal(kept[-1], values.astype(np.float32))


def test_norms_beside_dense_layers_cost_nothing() -> None:
    layers = [BatchNormLayer(size=6), D, BatchNormLayer(size=6), ActivationLayer(activation="relu"), D]
    assert len(Network(layers, numbers(layers))._steps) == 1


def test_threads_give_the_same() -> None:
    given = numbers(MLP)
    one, two = (Network(MLP, given, threads=n)(rows(200)) for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_unless_they_are_allowed(value: float) -> None:
    given = numbers(MLP)
    given["2.bias"][1] = value
    with pytest.raises(BareInvalid, match=r"'2.bias' holds -?(nan|inf) at place 1"):
        Network(MLP, given)
    assert Network(MLP, given, allow_nan=True)(rows()).shape == (5, 4)


def test_a_negative_variance_is_refused() -> None:
    layers: list[Layer] = [BatchNormLayer(size=6), D]
    given = numbers(layers)
    given["0.running_var"][3] = -1
    with pytest.raises(BareInvalid, match=r"'0.running_var' has negative values"):
        Network(layers, given)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([ActivationLayer(activation="relu")], "at least one of kind 'dense'"),
        (
            [D, DenseLayer(inputs=5, outputs=1)],
            r"layers\[1\] takes 5 values, but what stands before it gives 6",
        ),
        ([D, BatchNormLayer(size=7)], r"layers\[1\] takes 7 values"),
        ([BatchNormLayer(size=7), D], r"layers\[1\] takes 6 values, but what stands before it gives 7"),
        (
            [DenseLayer(inputs=6, outputs=6, name="1"), D],
            r"layers\[0\] and layers\[1\] both have the name '1'",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_place(layers: list[Layer], says: str) -> None:
    with pytest.raises(BareInvalid, match=says):
        check(layers)


@pytest.mark.parametrize(
    "layers",
    [
        [D, BatchNormLayer(size=6)],
        [BatchNormLayer(size=6), D],
        [D, ActivationLayer(activation="relu"), BatchNormLayer(size=6)],
    ],
)
def test_a_batch_norm_that_folds_beyond_float32_is_refused_unless_it_is_allowed(layers: list[Layer]) -> None:
    given = numbers(layers)
    norm = next(name for name in given if name.endswith("running_var"))[:2]
    given[f"{norm}running_var"][...] = 0
    given[f"{norm}weight"][...] = 3e38
    with pytest.raises(BareInvalid, match="folds to numbers beyond float32"):
        Network(layers, given)
    Network(layers, given, allow_nan=True)
