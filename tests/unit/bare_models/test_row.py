"""One row without NumPy, beside the kernels that take arrays."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import cython_ops
from bare_models._row import RowNetwork
from cython_ops import DenseNetwork, softmax_topk

ACTIVATIONS = ("identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid")


def chain(*widths: int, activation: Any = "relu", last: Any = "identity", seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = rng.standard_normal((outputs, inputs)).astype(np.float32) / math.sqrt(inputs)
        bias = rng.standard_normal(outputs).astype(np.float32) if i % 2 == 0 else None
        layers.append((weight, bias, last if i == len(widths) - 2 else activation, 0.2))
    return layers


def row_network(layers: list[Any]) -> RowNetwork:
    flat = [
        (memoryview(w.reshape(-1)), None if b is None else memoryview(b), a, alpha)
        for w, b, a, alpha in layers
    ]
    return RowNetwork(flat, inputs=layers[0][0].shape[1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(1, 1), (3, 17, 5), (16, 64, 10), (33, 31, 47, 2), (784, 256, 128, 10)])
def test_it_gives_what_the_array_kernels_give(widths: tuple[int, ...], activation: str) -> None:
    layers = chain(*widths, activation=activation)
    row = np.random.default_rng(1).standard_normal(widths[0]).astype(np.float32)
    made, want = row_network(layers), DenseNetwork(layers)(row[None])
    assert (made.inputs, made.outputs) == (widths[0], widths[-1])
    np.testing.assert_array_equal(np.float32(made(row.tolist())), want[0])
    values, classes, entropy = softmax_topk(want, 3)
    best = made.best(row.tolist(), 3, "softmax")
    assert best is not None
    np.testing.assert_array_equal(np.float32(best[0]), values[0])
    assert (best[1], best[2]) == (classes[0].tolist(), entropy[0])


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("k", [0, 1, 4, 100])
def test_the_best_classes_by_every_score(score: Any, k: int) -> None:
    layers = chain(4, 4, last="sigmoid")
    row = [0.5, -1, 2, 0.25]
    values, classes, entropy = softmax_topk(DenseNetwork(layers)(np.float32([row])), k, activation=score)
    best = row_network(layers).best(row, k, score)
    assert best == (values[0].tolist(), classes[0].tolist(), entropy[0])


def test_a_softmax_at_the_end_and_whole_numbers_as_input() -> None:
    output = row_network(chain(2, 3, last="softmax"))([1, 0])  # type: ignore[list-item]
    assert output is not None
    assert sum(output) == pytest.approx(1)


@pytest.mark.parametrize("row", [[], [1.0], [1.0, 2.0, 3.0], [1.0, math.nan], [math.inf, 0.0], [1e39, 0.0]])
def test_a_row_that_does_not_fit_is_not_answered(row: list[float]) -> None:
    made = row_network(chain(2, 3))
    assert made(row) is None
    assert made.best(row, 1, "softmax") is None
    assert made([1.0, 2.0]) is not None


def test_what_is_not_a_number_is_an_error() -> None:
    made = row_network(chain(2, 3))
    for row in (["1", 2.0], None, (1.0, 2.0)):
        with pytest.raises(TypeError):
            made(row)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="hardmax"):
        made.best([1.0, 2.0], 1, "hardmax")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "inputs", "message"),
    [
        ([], 2, "at least one layer"),
        (chain(2, 3), 0, "at least 1"),
        (chain(2, 3), 4, r"layers\[0\] takes 4 values, which its 6 weights do not fit"),
        ([*chain(2, 3), *chain(5, 2)], 2, r"layers\[1\] takes 3 values"),
        ([(np.ones(6, "f"), np.ones(2, "f"), "relu", 0)], 2, r"layers\[0\] gives 3 values, its bias has 2"),
        (chain(2, 3, last="swish"), 2, r"layers\[0\] cannot have the activation 'swish'"),
        (chain(2, 3, 2, activation="softmax"), 2, r"layers\[0\] cannot have the activation 'softmax'"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: list[Any], inputs: int, message: str) -> None:
    flat = [(w.reshape(-1), *rest) for w, *rest in layers]
    with pytest.raises(ValueError, match=message):
        RowNetwork(flat, inputs=inputs)


def test_weights_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="mismatch"):
        RowNetwork([(memoryview(np.ones(6)), None, "relu", 0.0)], inputs=2)


@pytest.mark.parametrize("tier", [*cython_ops.build_info()["tiers"], "none"])
def test_it_takes_the_tier_that_is_asked_for(tier: str) -> None:
    code = (
        "import sys; from bare_models._row import RowNetwork; from array import array; "
        "net = RowNetwork([(memoryview(array('f', [0.5, 2])), None, 'relu', 0)], inputs=2); "
        "print(net([1.0, 3.0]), 'numpy' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=os.environ | {"LONJA_CPU_TIER": tier},
        capture_output=True,
        text=True,
    )
    if tier == "none":
        assert "no tier for the kernels called 'none'" in run.stderr
    else:
        assert run.stdout.split() == ["[6.5]", "False"], run.stderr
