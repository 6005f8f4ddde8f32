from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cython_ops import DenseNetwork, _kernels, reference


@pytest.fixture
def units(tier: str) -> Iterator[tuple[str, ...]]:
    """Every way to multiply bfloat16 that the tier has here; the best is in use again afterwards."""
    yield _kernels.available_units()
    _kernels.use_unit(_kernels.available_units()[0])


@given(
    n=st.integers(0, 70) | st.sampled_from([127, 128, 129, 300]),
    inputs=st.integers(0, 100),
    outputs=st.integers(0, 100),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_a_layer_equals_the_twin_that_rounds_alike(
    units: tuple[str, ...], n: int, inputs: int, outputs: int, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, inputs), np.float32), rng.standard_normal((outputs, inputs), np.float32)
    layers = [(w, rng.standard_normal(outputs, np.float32), "identity")]
    want = reference.DenseNetwork(layers, precision="bfloat16")(x)
    magnitudes = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64).T
    for unit in units:
        _kernels.use_unit(unit)
        got = DenseNetwork(layers, precision="bfloat16")(x, threads=threads)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * (magnitudes.max(initial=0) + 5))


@pytest.mark.parametrize("n", [1, 17, 200])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_stays_near_the_float_one(units: tuple[str, ...], n: int, threads: int) -> None:
    rng = np.random.default_rng(n)
    layers = [
        (
            (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32),
            None,
            "softmax" if outputs == 9 else "relu",
        )
        for inputs, outputs in ((40, 90), (90, 33), (33, 9))
    ]
    x = rng.standard_normal((n, 40), np.float32)
    for unit in units:
        _kernels.use_unit(unit)
        got = DenseNetwork(layers, precision="bfloat16")(x, threads=threads)
        np.testing.assert_allclose(got, DenseNetwork(layers)(x), rtol=0, atol=2e-2)
        np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)


def test_nan_and_infinity_pass(units: tuple[str, ...]) -> None:
    x, w = np.ones((2, 5), np.float32), np.ones((3, 5), np.float32)
    x[0, 1], x[1, 1] = np.nan, np.inf
    for unit in units:
        _kernels.use_unit(unit)
        got = DenseNetwork([(w, None, "identity")], precision="bfloat16")(x)
        assert np.isnan(got[0]).all()
        assert np.isposinf(got[1]).all()


def test_weights_are_copied_when_rounded(tier: str) -> None:
    x, w = np.ones((1, 4), np.float32), np.ones((2, 4), np.float32)
    network = DenseNetwork([(w, None, "identity")], precision="bfloat16")
    w[...] = 7
    assert network(x).tolist() == [[4, 4]]


def test_wrong_choices_are_named(tier: str) -> None:
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', not 'float16'"):
        DenseNetwork([(np.ones((1, 1), np.float32), None, "relu")], precision="float16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no bfloat16 unit 'tpu' here, only .*widened"):
        _kernels.use_unit("tpu")
