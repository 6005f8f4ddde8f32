"""The dense layer's arithmetic in float64 NumPy, with the signatures of the kernels.

For finite numbers and at least one row. The optimizers' twins in `cython_ops.reference` compute in float64
already and are used as they are.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _put(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def softmax(logits: Array, *, out: Array | None = None) -> Array:
    """See `cython_ops.softmax`."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return _put(raised / raised.sum(axis=1, keepdims=True), out)


def cross_entropy(logits: Array, labels: Array, *, weights: Array | None = None) -> float:
    """See `cython_ops.cross_entropy`."""
    lowered = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(lowered).sum(axis=1)) - lowered[np.arange(len(labels)), labels]
    return float((losses if weights is None else weights[labels] * losses).mean())


def cross_entropy_backward(
    logits: Array, labels: Array, *, weights: Array | None = None, out: Array | None = None
) -> Array:
    """See `cython_ops.cross_entropy_backward`."""
    grad = softmax(logits)
    grad[np.arange(len(labels)), labels] -= 1
    share = 1 / len(labels) if weights is None else weights[labels][:, None] / len(labels)
    return _put(grad * share, out)


def activate(values: Array, *, activation: str, alpha: float = 0.01, out: Array | None = None) -> Array:
    """See `cython_ops.activate`."""
    if activation == "softmax":
        return softmax(values, out=out)
    return _put(_activated(values, activation, alpha), out)


def _activated(x: Array, activation: str, alpha: float) -> Array:
    match activation:
        case "relu":
            result = np.maximum(x, 0)
        case "leaky_relu":
            result = np.where(x < 0, x * alpha, x)
        case "gelu":
            result = 0.5 * x * (1 + _erf(x / math.sqrt(2)))
        case "tanh":
            result = np.tanh(x)
        case "sigmoid":
            e = np.exp(-np.abs(x))
            result = np.where(x < 0, e / (1 + e), 1 / (1 + e))
        case _:
            result = x
    return np.asarray(result)


def activate_backward(
    grad: Array, values: Array, *, activation: str, alpha: float = 0.01, out: Array | None = None
) -> Array:
    """See `cython_ops.activate_backward`."""
    if activation == "softmax":
        return _put(values * (grad - (grad * values).sum(axis=1, keepdims=True)), out)
    return _put(grad * _slope(values, activation, alpha), out)


def _slope(v: Array, activation: str, alpha: float) -> Array:
    match activation:
        case "relu":
            result = np.where(v > 0, 1.0, 0.0)
        case "leaky_relu":
            result = np.where(v > 0, 1.0, alpha)
        case "gelu":
            density = np.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
            result = 0.5 * (1 + _erf(v / math.sqrt(2))) + v * density
        case "tanh":
            result = 1 - v * v
        case "sigmoid":
            result = v * (1 - v)
        case _:
            result = np.ones_like(v)
    return np.asarray(result)


def dense(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    activation: str = "identity",
    alpha: float = 0.01,
    out: Array | None = None,
) -> Array:
    """See `cython_ops.dense`."""
    return activate(x @ weight.T + bias, activation=activation, alpha=alpha, out=out)


def dense_backward_weights(
    grad: Array, x: Array, *, grad_weight: Array, grad_bias: Array
) -> tuple[Array, Array]:
    """See `cython_ops.dense_backward_weights`."""
    return _put(grad.T @ x, grad_weight), _put(grad.sum(axis=0), grad_bias)


def dense_backward_input(grad: Array, weight: Array, *, out: Array | None = None) -> Array:
    """See `cython_ops.dense_backward_input`."""
    return _put(grad @ weight, out)
