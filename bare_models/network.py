"""Layers and numbers to a function of rows, on the kernels.

Batch norms are folded into the dense layer before or after them (in float64); dropout is nothing; an
activation is fused into the dense layer before it. What cannot be folded or fused, as a batch norm
between two activations, stays a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from bare_models.folding import ActivatePart, AffinePart, DensePart, Part, folded, parts, rounded
from bare_models.layers import (
    Activation,
    BareInvalid,
    DenseLayer,
    Layer,
    check,
)
from cython_ops import DenseNetwork, activate

Floats: TypeAlias = npt.NDArray[np.float32]
Step: TypeAlias = Callable[[Floats], Floats]
FINITE_PIECE: Final = 2**18
THREADED_PRODUCTS: Final = 2**24
"""Multiplications from which on threads are worth their start (some 50 us each): a run of 0.2 ms alone."""


class Network:
    """A loaded bare model. Calls may overlap in several threads.

    Parameters
    ----------
    numbers : by tensor name, float32 buffers as `reader.read` gives them; used as they lie.
    threads : how many may work on one call.

    Raises
    ------
    BareInvalid
        The numbers hold NaN or infinities, or fold to some, and `allow_nan` is False; a variance is negative.
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
        steps = folded(parts(layers, numbers))
        if not allow_nan:
            _check_folded(steps)
        self._steps = _steps(steps, threads)
        self._only = self._steps[0] if len(self._steps) == 1 else None

    def __call__(self, rows: Floats) -> Floats:
        """Run the network: float32 [n, inputs], C-contiguous, to float32 [n, outputs]."""
        if self._only is not None:
            return self._only(rows)
        for step in self._steps:
            rows = step(rows)
        return rows


def _steps(done: Sequence[Part], threads: int) -> list[Step]:
    steps: list[Step] = []
    chain: list[tuple[Floats, Floats | None, Activation, float]] = []
    for part in done:
        if isinstance(part, DensePart):
            chain.append((part.weight, part.bias, part.activation, part.alpha))
            if part.activation != "softmax":
                continue
        if chain:
            steps.append(_chain(chain, threads))
            chain = []
        if isinstance(part, ActivatePart):
            steps.append(_activation(part))
        elif isinstance(part, AffinePart):
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


def _activation(part: ActivatePart) -> Step:
    return lambda rows: activate(rows, activation=part.activation, alpha=part.alpha)


def _affine_step(part: AffinePart) -> Step:
    scale, shift = rounded(part.scale), rounded(part.shift)

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


def _check_folded(steps: Sequence[Part]) -> None:
    for part in steps:
        if isinstance(part, DensePart):
            kept = [part.weight] if part.bias is None else [part.weight, part.bias]
        elif isinstance(part, AffinePart):
            kept = [rounded(part.scale), rounded(part.shift)]
        else:
            continue
        if not all(np.isfinite(values).all() for values in kept):
            raise BareInvalid(
                "a batch norm folds to numbers beyond float32: a variance is next to 0, or a weight too large"
            )
