"""What a bare model is made of: the `layers` of a manifest, as msgspec structs, and what they need.

Enters: the member `layers`. Leaves: checked layers, and for each the tensors that its numbers lie in.
No NumPy here: the main process checks manifests with this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MAX_LAYERS: Final = 256
FLOAT_BYTES: Final = 4

Size = Annotated[int, Meta(ge=1, le=2**24)]
Activation = Literal["identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax"]
Alpha = Annotated[float, Meta(ge=0, le=1e6, description="slope below zero, of `leaky_relu` only")]
Prefix = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$(?!\n)",
        description="what its tensors' names begin with; left out, its place in the list, from 0",
    ),
]


class BareInvalid(ValueError):
    """A bare model's layers or file cannot be served; the text is for its publisher."""


class DenseLayer(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag_field="kind",
    tag="dense",
):
    """activation(weight @ x + bias); tensors `weight` [outputs, inputs] and `bias` [outputs]."""

    inputs: Size
    outputs: Size
    activation: Activation = "identity"
    alpha: Alpha = 0.01
    bias: bool = True
    name: Prefix | None = None


class ActivationLayer(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag_field="kind",
    tag="activation",
):
    """A function of each value (softmax: of each row)."""

    activation: Activation
    alpha: Alpha = 0.01


class BatchNormLayer(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag_field="kind",
    tag="batch_norm",
):
    """(x - running_mean) / sqrt(running_var + epsilon) * weight + bias; four tensors [size]."""

    size: Size
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-5
    name: Prefix | None = None


class DropoutLayer(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag_field="kind",
    tag="dropout",
):
    """Nothing, when a model is served: kept so that a trained network's list can stay as it is."""

    rate: Annotated[float, Meta(ge=0, lt=1)] = 0.5


Layer = DenseLayer | ActivationLayer | BatchNormLayer | DropoutLayer
Layers = Annotated[list[Layer], Meta(min_length=1, max_length=MAX_LAYERS)]


@dataclass(frozen=True, slots=True)
class TensorNeed:
    """A float32 tensor that a model's file must have, row-major."""

    name: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class Widths:
    """Values a row that go in and come out."""

    inputs: int
    outputs: int


def check(layers: Sequence[Layer]) -> Widths:
    """Check that each layer takes what the one before gives. Raises `BareInvalid` naming the layer."""
    width = first = 0
    for index, layer in enumerate(layers):
        takes = layer.inputs if isinstance(layer, DenseLayer) else _size(layer)
        if takes and width and takes != width:
            raise BareInvalid(
                f"layers[{index}] takes {takes} values, but what stands before it gives {width}"
            )
        if takes and not width:
            first = width = takes
        if isinstance(layer, DenseLayer):
            width = layer.outputs
    if not any(isinstance(layer, DenseLayer) for layer in layers):
        raise BareInvalid("layers needs at least one of kind 'dense'")
    _check_names(layers)
    return Widths(first, width)


def needs(layers: Sequence[Layer]) -> list[TensorNeed]:
    """The tensors of all layers, in the order of a raw file."""
    return [need for index, layer in enumerate(layers) for need in _needs(index, layer)]


def prefix(index: int, layer: DenseLayer | BatchNormLayer) -> str:
    """What the names of a layer's tensors begin with."""
    return layer.name if layer.name is not None else str(index)


def _needs(index: int, layer: Layer) -> Iterator[TensorNeed]:
    if isinstance(layer, DenseLayer):
        start = prefix(index, layer)
        yield TensorNeed(f"{start}.weight", (layer.outputs, layer.inputs))
        if layer.bias:
            yield TensorNeed(f"{start}.bias", (layer.outputs,))
    elif isinstance(layer, BatchNormLayer):
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield TensorNeed(f"{prefix(index, layer)}.{part}", (layer.size,))


def _size(layer: Layer) -> int:
    return layer.size if isinstance(layer, BatchNormLayer) else 0


def _check_names(layers: Sequence[Layer]) -> None:
    seen: dict[str, int] = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, DenseLayer | BatchNormLayer):
            name = prefix(index, layer)
            if name in seen:
                raise BareInvalid(f"layers[{seen[name]}] and layers[{index}] both have the name {name!r}")
            seen[name] = index
