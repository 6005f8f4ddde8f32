"""Twins of the dense layers' kernels, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cython_ops.reference.scores import softmax

Activation = Literal["identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax"]
Layer = (
    tuple[NDArray[np.float32], NDArray[np.float32] | None, Activation]
    | tuple[NDArray[np.float32], NDArray[np.float32] | None, Activation, float]
)
Function = Callable[[NDArray[np.float64], float], NDArray[np.float64]]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _gelu(x: NDArray[np.float64], _: float) -> NDArray[np.float64]:
    kept = np.maximum(x, -40)
    result: NDArray[np.float64] = kept * 0.5 * _erfc(-kept / math.sqrt(2))
    return result


def _gelu_slope(x: NDArray[np.float64], _: float) -> NDArray[np.float64]:
    held = np.clip(x, -40, 40)
    density = np.exp(-0.5 * held * held) / math.sqrt(2 * math.pi)
    slope: NDArray[np.float64] = 0.5 * _erfc(-held / math.sqrt(2)) + held * density
    return slope


def _sigmoid(x: NDArray[np.float64], _: float) -> NDArray[np.float64]:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e / (1 + e), 1 / (1 + e))


FORWARD: dict[str, Function] = {
    "identity": lambda x, _: x,
    "relu": lambda x, _: np.maximum(x, 0),
    "leaky_relu": lambda x, alpha: np.where(x < 0, x * alpha, x),
    "gelu": _gelu,
    "tanh": lambda x, _: np.tanh(x),
    "sigmoid": _sigmoid,
}
SLOPE: dict[str, Function] = {
    "identity": lambda y, _: np.ones_like(y),
    "relu": lambda y, _: np.where(y > 0, 1.0, 0.0),
    "leaky_relu": lambda y, alpha: np.where(y > 0, 1.0, alpha),
    "gelu": _gelu_slope,
    "tanh": lambda y, _: 1 - y * y,
    "sigmoid": lambda y, _: y * (1 - y),
}


def _put(result: NDArray[Any], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if out is None:
        return result.astype(np.float32)
    out[...] = result
    return out


def activate(
    values: NDArray[np.float32],
    *,
    activation: Activation,
    alpha: float = 0.01,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.activate`."""
    if activation == "softmax":
        return softmax(values, out=out)
    return _put(FORWARD[activation](values.astype(np.float64), alpha), out)


def activate_backward(
    grad: NDArray[np.float32],
    values: NDArray[np.float32],
    *,
    activation: Activation,
    alpha: float = 0.01,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.activate_backward`."""
    g, v = grad.astype(np.float64), values.astype(np.float64)
    if activation == "softmax":
        return _put(v * (g - (g * v).sum(axis=1, keepdims=True)), out)
    return _put(g * SLOPE[activation](v, alpha), out)


def dense(
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None = None,
    *,
    activation: Activation = "identity",
    alpha: float = 0.01,
    threads: int = 1,  # noqa: ARG001
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.dense`."""
    z = x.astype(np.float64) @ weight.astype(np.float64).T
    if bias is not None:
        z = z + bias
    return activate(z.astype(np.float32), activation=activation, alpha=alpha, out=out)


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To the nearest bfloat16, ties to even; NaN stays."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), values, rounded.view(np.float32))


class DenseNetwork:
    """See `cython_ops.DenseNetwork`."""

    def __init__(
        self, layers: Sequence[Layer], *, precision: Literal["float32", "bfloat16"] = "float32"
    ) -> None:
        self._layers = list(layers)
        self._round = _bfloat16 if precision == "bfloat16" else np.asarray
        self.inputs = self._layers[0][0].shape[1]
        self.outputs = self._layers[-1][0].shape[0]

    def __call__(
        self,
        x: NDArray[np.float32],
        *,
        threads: int = 1,  # noqa: ARG002
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """See `cython_ops.DenseNetwork.__call__`."""
        for weight, bias, activation, *alpha in self._layers:
            x = dense(
                self._round(x),
                self._round(weight),
                bias,
                activation=activation,
                alpha=alpha[0] if alpha else 0.01,
            )
        return _put(x, out)


def dense_backward_weights(
    grad: NDArray[np.float32],
    x: NDArray[np.float32],
    *,
    threads: int = 1,  # noqa: ARG001
    grad_weight: NDArray[np.float32] | None = None,
    grad_bias: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """See `cython_ops.dense_backward_weights`."""
    g = grad.astype(np.float64)
    return _put(g.T @ x.astype(np.float64), grad_weight), _put(g.sum(axis=0), grad_bias)


def dense_backward_input(
    grad: NDArray[np.float32],
    weight: NDArray[np.float32],
    *,
    threads: int = 1,  # noqa: ARG001
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.dense_backward_input`."""
    return _put(grad.astype(np.float64) @ weight.astype(np.float64), out)
