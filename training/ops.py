"""The arithmetic that layers, losses and optimizers stand on: kernels for float32, NumPy for float64.

Enters: a dtype. Leaves: `Ops`, functions with the signatures of `cython_ops`. This module is the only place
of the package that knows the kernels; float64 is there to check gradients, not to be quick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import cython_ops
from cython_ops import reference
from training import ops64

Array: TypeAlias = npt.NDArray[Any]
Activation: TypeAlias = Literal["identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax"]
ACTIVATIONS: Final[tuple[Activation, ...]] = (
    "identity",
    "relu",
    "leaky_relu",
    "gelu",
    "tanh",
    "sigmoid",
    "softmax",
)


class Ops(NamedTuple):
    """Functions of one dtype. Arrays given as `out` are written in place and returned.

    `activate_backward` takes the activation's output, for `gelu` its input.
    """

    dense: Callable[..., Array]
    dense_backward_weights: Callable[..., tuple[Array, Array]]
    dense_backward_input: Callable[..., Array]
    activate: Callable[..., Array]
    activate_backward: Callable[..., Array]
    cross_entropy: Callable[..., float]
    cross_entropy_backward: Callable[..., Array]
    sgd_step: Callable[..., None]
    adam_step: Callable[..., None]
    adamw_step: Callable[..., None]
    rmsprop_step: Callable[..., None]


FLOAT32: Final = Ops(*(getattr(cython_ops, name) for name in Ops._fields))
FLOAT64: Final = Ops(*(getattr(ops64, name, None) or getattr(reference, name) for name in Ops._fields))


def ops_for(dtype: npt.DTypeLike) -> Ops:
    """The functions for float32 or float64. Raises `ValueError` for another dtype."""
    kind = np.dtype(dtype)
    if kind == np.float32:
        return FLOAT32
    if kind == np.float64:
        return FLOAT64
    raise ValueError(f"networks are float32, or float64 to check gradients; not {kind}")
