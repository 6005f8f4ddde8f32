"""Twins of the optimizer steps; arrays are changed in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_NORMAL = float(np.finfo(np.float32).tiny)


def _settled(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without values that float32 could only keep as denormals."""
    return np.where(np.abs(state) < LEAST_NORMAL, 0, state)


def sgd_step(
    param: NDArray[np.float32],
    grad: NDArray[np.float32],
    velocity: NDArray[np.float32] | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """See `cython_ops.sgd_step`."""
    p = param.astype(np.float64)
    g = grad.astype(np.float64) + weight_decay * p
    v = _settled(g if velocity is None else momentum * velocity.astype(np.float64) + g)
    param[...] = p - lr * v
    if velocity is not None:
        velocity[...] = v


def _adam(
    p: NDArray[np.float64],
    g: NDArray[np.float64],
    state: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    step: int,
    rates: tuple[float, float, float, float],
) -> NDArray[np.float64]:
    lr, beta1, beta2, epsilon = rates
    m = _settled(beta1 * state[0].astype(np.float64) + (1 - beta1) * g)
    v = _settled(beta2 * state[1].astype(np.float64) + (1 - beta2) * g * g)
    state[0][...], state[1][...] = m, v
    unbiased = np.sqrt(v / (1 - beta2**step))
    result: NDArray[np.float64] = p - lr / (1 - beta1**step) * m / (unbiased + epsilon)
    return result


def adam_step(
    param: NDArray[np.float32],
    grad: NDArray[np.float32],
    mean: NDArray[np.float32],
    square: NDArray[np.float32],
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """See `cython_ops.adam_step`."""
    p = param.astype(np.float64)
    g = grad.astype(np.float64) + weight_decay * p
    param[...] = _adam(p, g, (mean, square), step=step, rates=(lr, beta1, beta2, epsilon))


def adamw_step(
    param: NDArray[np.float32],
    grad: NDArray[np.float32],
    mean: NDArray[np.float32],
    square: NDArray[np.float32],
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
) -> None:
    """See `cython_ops.adamw_step`."""
    p = param.astype(np.float64) * (1 - lr * weight_decay)
    g = grad.astype(np.float64)
    param[...] = _adam(p, g, (mean, square), step=step, rates=(lr, beta1, beta2, epsilon))


def rmsprop_step(
    param: NDArray[np.float32],
    grad: NDArray[np.float32],
    square: NDArray[np.float32],
    *,
    lr: float = 1e-2,
    smoothing: float = 0.99,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """See `cython_ops.rmsprop_step`."""
    p = param.astype(np.float64)
    g = grad.astype(np.float64) + weight_decay * p
    s = _settled(smoothing * square.astype(np.float64) + (1 - smoothing) * g * g)
    square[...] = s
    param[...] = p - lr * g / (np.sqrt(s) + epsilon)
