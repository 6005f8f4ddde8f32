"""Layers and numbers to as few steps as there can be: batch norms and activations join the dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bare_models.layers import (
    Activation,
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    Layer,
    prefix,
)

Floats: TypeAlias = npt.NDArray[np.float32]
Numbers: TypeAlias = "Mapping[str, memoryview[float] | Floats]"


@dataclass(slots=True)
class DensePart:
    """activation(weight @ x + bias)."""

    weight: Floats
    bias: Floats | None
    activation: Activation = "identity"
    alpha: float = 0.01


@dataclass(slots=True)
class AffinePart:
    """x * scale + shift."""

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


@dataclass(slots=True)
class ActivatePart:
    """activation(x)."""

    activation: Activation
    alpha: float


Part: TypeAlias = DensePart | AffinePart | ActivatePart


def parts(layers: Sequence[Layer], numbers: Numbers) -> list[Part]:
    """The layers with their numbers; dropout is nothing."""
    made: list[Part] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, DenseLayer):
            start = prefix(index, layer)
            weight = np.asarray(numbers[f"{start}.weight"], np.float32).reshape(layer.outputs, layer.inputs)
            bias = np.asarray(numbers[f"{start}.bias"], np.float32) if layer.bias else None
            made.append(DensePart(weight, bias, layer.activation, layer.alpha))
        elif isinstance(layer, ActivationLayer):
            made.append(ActivatePart(layer.activation, layer.alpha))
        elif isinstance(layer, BatchNormLayer):
            made.append(_affine(index, layer, numbers))
    return made


def _affine(index: int, layer: BatchNormLayer, numbers: Numbers) -> AffinePart:
    start = prefix(index, layer)
    weight, bias, mean, variance = (
        np.asarray(numbers[f"{start}.{part}"], np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    if (variance < 0).any():
        raise BareInvalid(f"the tensor '{start}.running_var' has negative values")
    scale = weight / np.sqrt(variance + layer.epsilon)
    return AffinePart(scale, bias - mean * scale)


def folded(given: Sequence[Part]) -> list[Part]:
    """Batch norms taken up by dense layers beside them, activations by those before them."""
    done: list[Part] = []
    for part in given:
        last = done[-1] if done else None
        if isinstance(part, AffinePart) and isinstance(last, DensePart) and last.activation == "identity":
            done[-1] = _scaled_outputs(last, part)
        elif isinstance(part, DensePart) and isinstance(last, AffinePart):
            done[-1] = _scaled_inputs(last, part)
        elif (
            isinstance(part, ActivatePart)
            and part.activation != "softmax"  # fused only where it is last: see `_steps`
            and isinstance(last, DensePart)
            and last.activation == "identity"
        ):
            done[-1] = DensePart(last.weight, last.bias, part.activation, part.alpha)
        else:
            done.append(part)
    return done


def _scaled_outputs(dense: DensePart, affine: AffinePart) -> DensePart:
    bias = 0.0 if dense.bias is None else dense.bias
    return DensePart(
        rounded(dense.weight * affine.scale[:, None]), rounded(bias * affine.scale + affine.shift)
    )


def _scaled_inputs(affine: AffinePart, dense: DensePart) -> DensePart:
    bias = 0.0 if dense.bias is None else dense.bias
    return DensePart(
        rounded(dense.weight * affine.scale),
        rounded(dense.weight.astype(np.float64) @ affine.shift + bias),
        dense.activation,
        dense.alpha,
    )


def rounded(values: npt.NDArray[np.float64]) -> Floats:
    """As float32, aligned to cache lines like what `reader` gives; what is beyond it becomes infinite."""
    room = np.empty(values.size + 15, np.float32)
    first = -room.ctypes.data % 64 // room.itemsize
    result = room[first : first + values.size].reshape(values.shape)
    with np.errstate(over="ignore"):
        result[...] = values
    return result
