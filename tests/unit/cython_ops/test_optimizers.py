from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cython_ops
from cython_ops import reference

STEPS: dict[str, tuple[int, dict[str, Any]]] = {
    "sgd_step": (0, {"lr": 0.1, "weight_decay": 0.01}),
    "sgd_step momentum": (1, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "adam_step": (2, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw_step": (2, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop_step": (1, {"lr": 0.01, "weight_decay": 0.1}),
}


@given(name=st.sampled_from(sorted(STEPS)), size=st.integers(0, 70), seed=st.integers(0, 999))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_ten_steps_equal_the_twins(tier: str, name: str, size: int, seed: int) -> None:
    states, arguments = STEPS[name]
    function = name.split(maxsplit=1)[0]
    rng = np.random.default_rng(seed)
    ours = [rng.standard_normal((size, 3), np.float32)] + [np.zeros((size, 3), np.float32)] * states
    ours, twins = [a.copy() for a in ours], [a.copy() for a in ours]
    for step in range(1, 11):
        grad = rng.standard_normal((size, 3), np.float32)
        grad.flags.writeable = False
        counted = {"step": step} if "adam" in function else {}
        getattr(cython_ops, function)(ours[0], grad, *ours[1:], **arguments, **counted)
        getattr(reference, function)(twins[0], grad, *twins[1:], **arguments, **counted)
    for a, b in zip(ours, twins, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_states_do_not_decay_into_denormals(tier: str) -> None:
    p, g = np.ones(20, np.float32), np.zeros(20, np.float32)
    mean, square = np.full(20, 1.5e-38, np.float32), np.full(20, 1.176e-38, np.float32)
    cython_ops.adam_step(p, g, mean, square, step=5)
    cython_ops.adam_step(p, g, mean, square, step=6)
    cython_ops.adam_step(p, g, mean, square, step=7)
    assert not mean.any()
    assert not square.any()


def test_a_nan_gradient_stays_in_its_element(tier: str) -> None:
    p, g, s = np.ones(33, np.float32), np.ones(33, np.float32), np.zeros(33, np.float32)
    g[30] = np.nan
    cython_ops.rmsprop_step(p, g, s)
    assert np.flatnonzero(np.isnan(p)).tolist() == [30]


def test_wrong_arguments_are_named() -> None:
    p, g, s = (np.zeros(4, np.float32) for _ in range(3))
    with pytest.raises(ValueError, match="velocity must be an array when momentum is not 0"):
        cython_ops.sgd_step(p, g, lr=1, momentum=0.9)
    with pytest.raises(ValueError, match=r"grad must have shape \(4,\), not \(3,\)"):
        cython_ops.sgd_step(p, g[:3], lr=1)
    with pytest.raises(ValueError, match="square and mean overlap"):
        cython_ops.adam_step(p, g, s, s, step=1)
    with pytest.raises(ValueError, match="step counts from 1, but is 0"):
        cython_ops.adam_step(p, g, s, s.copy(), step=0)
    with pytest.raises(ValueError, match=r"beta1 and beta2 must be in \[0, 1\)"):
        cython_ops.adamw_step(p, g, s, s.copy(), step=1, beta1=1.0)
    p.flags.writeable = False
    with pytest.raises(ValueError, match="param is read-only"):
        cython_ops.sgd_step(p, g, lr=1)
