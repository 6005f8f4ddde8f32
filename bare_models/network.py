"""Layers and numbers to a function of rows, on the kernels.

Batch norms are folded into the dense layer before or after them (in float64); dropout is nothing; an
activation is fused into the dense layer before it. What cannot be folded or fused, as a batch norm
between two activations, stays a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from bare_models.layers import (
    Activation,
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    Layer,
    check,
    prefix,
)
from cython_ops import DenseNetwork, activate

Floats: TypeAlias = npt.NDArray[np.float32]
Step: TypeAlias = Callable[[Floats], Floats]
FINITE_PIECE: Final = 2**18
THREADED_PRODUCTS: Final = 2**24
"""Multiplications from which on threads are worth their start (some 50 us each): a run of 0.2 ms alone."""


@dataclass(slots=True)
class _Dense:
    weight: Floats
    bias: Floats | None
    activation: Activation = "identity"
    alpha: float = 0.01


@dataclass(slots=True)
class _Affine:
    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


@dataclass(slots=True)
class _Activate:
    activation: Activation
    alpha: float


_Part: TypeAlias = _Dense | _Affine | _Activate


class Network:
    """A loaded bare model. Calls may overlap in several threads.

    Parameters
    ----------
    numbers : by tensor name, float32 buffers as `reader.read` gives them; used as they lie.
    threads : how many may work on one call.

    Raises
    ------
    BareInvalid
        The numbers hold NaN or infinities and `allow_nan` is False, or a variance is negative.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        numbers: Mapping[str, memoryview[float] | Floats],
        *,
        threads: int = 1,
        allow_nan: bool = False,
    ) -> None:
        widths = check(layers)
        self.inputs, self.outputs = widths.inputs, widths.outputs
        self.widest = max(
            max(layer.inputs, layer.outputs) for layer in layers if isinstance(layer, DenseLayer)
        )
        if not allow_nan:
            _check_finite(numbers)
        self._steps = _steps(_folded(_parts(layers, numbers)), threads)
        self._only = self._steps[0] if len(self._steps) == 1 else None

    def __call__(self, rows: Floats) -> Floats:
        """Run the network: float32 [n, inputs], C-contiguous, to float32 [n, outputs]."""
        if self._only is not None:
            return self._only(rows)
        for step in self._steps:
            rows = step(rows)
        return rows


def _parts(layers: Sequence[Layer], numbers: Mapping[str, memoryview[float] | Floats]) -> list[_Part]:
    parts: list[_Part] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, DenseLayer):
            start = prefix(index, layer)
            weight = np.asarray(numbers[f"{start}.weight"], np.float32).reshape(layer.outputs, layer.inputs)
            bias = np.asarray(numbers[f"{start}.bias"], np.float32) if layer.bias else None
            parts.append(_Dense(weight, bias, layer.activation, layer.alpha))
        elif isinstance(layer, ActivationLayer):
            parts.append(_Activate(layer.activation, layer.alpha))
        elif isinstance(layer, BatchNormLayer):
            parts.append(_affine(index, layer, numbers))
    return parts


def _affine(index: int, layer: BatchNormLayer, numbers: Mapping[str, memoryview[float] | Floats]) -> _Affine:
    start = prefix(index, layer)
    weight, bias, mean, variance = (
        np.asarray(numbers[f"{start}.{part}"], np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    if (variance < 0).any():
        raise BareInvalid(f"the tensor '{start}.running_var' has negative values")
    scale = weight / np.sqrt(variance + layer.epsilon)
    return _Affine(scale, bias - mean * scale)


def _folded(parts: Sequence[_Part]) -> list[_Part]:
    done: list[_Part] = []
    for part in parts:
        last = done[-1] if done else None
        if isinstance(part, _Affine) and isinstance(last, _Dense) and last.activation == "identity":
            done[-1] = _scaled_outputs(last, part)
        elif isinstance(part, _Dense) and isinstance(last, _Affine):
            done[-1] = _scaled_inputs(last, part)
        elif (
            isinstance(part, _Activate)
            and part.activation != "softmax"  # fused only where it is last: see `_steps`
            and isinstance(last, _Dense)
            and last.activation == "identity"
        ):
            done[-1] = _Dense(last.weight, last.bias, part.activation, part.alpha)
        else:
            done.append(part)
    return done


def _scaled_outputs(dense: _Dense, affine: _Affine) -> _Dense:
    bias = 0.0 if dense.bias is None else dense.bias
    return _Dense(
        (dense.weight * affine.scale[:, None]).astype(np.float32),
        (bias * affine.scale + affine.shift).astype(np.float32),
    )


def _scaled_inputs(affine: _Affine, dense: _Dense) -> _Dense:
    bias = 0.0 if dense.bias is None else dense.bias
    return _Dense(
        (dense.weight * affine.scale).astype(np.float32),
        (dense.weight.astype(np.float64) @ affine.shift + bias).astype(np.float32),
        dense.activation,
        dense.alpha,
    )


def _steps(parts: Sequence[_Part], threads: int) -> list[Step]:
    steps: list[Step] = []
    chain: list[tuple[Floats, Floats | None, Activation, float]] = []
    for part in parts:
        if isinstance(part, _Dense):
            chain.append((part.weight, part.bias, part.activation, part.alpha))
            if part.activation != "softmax":
                continue
        if chain:
            steps.append(_chain(chain, threads))
            chain = []
        if isinstance(part, _Activate):
            steps.append(_activation(part))
        elif isinstance(part, _Affine):
            steps.append(_affine_step(part))
    if chain:
        steps.append(_chain(chain, threads))
    return steps


def _chain(layers: list[tuple[Floats, Floats | None, Activation, float]], threads: int) -> Step:
    network = DenseNetwork(layers)
    if threads == 1:
        return network
    products = sum(weight.size for weight, *_ in layers)

    def run(rows: Floats) -> Floats:
        return network(rows, threads=threads if len(rows) * products >= THREADED_PRODUCTS else 1)

    return run


def _activation(part: _Activate) -> Step:
    return lambda rows: activate(rows, activation=part.activation, alpha=part.alpha)


def _affine_step(part: _Affine) -> Step:
    scale, shift = part.scale.astype(np.float32), part.shift.astype(np.float32)

    def apply(rows: Floats) -> Floats:
        result: Floats = rows * scale + shift
        return result

    return apply


def _check_finite(numbers: Mapping[str, memoryview[float] | Floats]) -> None:
    for name, given in numbers.items():
        values = np.asarray(given, np.float32).reshape(-1)
        for at in range(0, values.size, FINITE_PIECE):
            finite = np.isfinite(values[at : at + FINITE_PIECE])
            if not finite.all():
                place = at + int(finite.argmin())
                raise BareInvalid(
                    f"the tensor {name!r} holds {values[place]} at place {place}; a model that is meant to "
                    "have such numbers says so with `allow_nan` in its manifest"
                )
