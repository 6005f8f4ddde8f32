"""A chain of layers over flat arrays: all parameters in one, all gradients in another.

Each layer works on views of these, aligned to 64 bytes, so that an optimizer step, a gradient's norm or a
checkpoint is one call over one array. Padding between views stays zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from training.errors import PlanInvalid
from training.layers import Activate, AnyLayer, Bound, Dense, Slot
from training.layers.base import FloatDtype, Shapes
from training.ops import Array, ops_for

INFER_ROWS: Final = 1024
_LINE: Final = 64
_KEPT_PASSES: Final = 4


@dataclass(frozen=True, slots=True)
class Span:
    """Where a layer's parameters lie in the flat arrays; empty for layers without any."""

    start: int
    stop: int


class Pass:
    """The layers bound to one number of rows."""

    __slots__ = ("_backprops", "_forwards", "bound", "rows")

    def __init__(self, bound: Sequence[Bound], *, rows: int) -> None:
        self.rows = rows
        self.bound = tuple(bound)
        self._forwards = tuple(layer.forward for layer in bound)
        self._backprops = tuple(layer.backprop for layer in reversed(bound))

    def forward(self, x: Array) -> Array:
        """Training's pass: [rows, inputs] -> [rows, outputs]. The next call overwrites the answer."""
        for layer in self._forwards:
            x = layer(x)
        return x

    def infer(self, x: Array) -> Array:
        """The pass in use: no dropout, running means."""
        for layer in self.bound:
            x = layer.infer(x)
        return x

    def backprop(self, grad: Array) -> Array:
        """From the gradient by the last answer to all parameters' gradients; overwrites `grad`."""
        for layer in self._backprops:
            grad = layer(grad)
        return grad


class Network:
    """Layers with their parameters.

    Parameters
    ----------
    inputs : numbers a row.
    layers : in order.
    dtype : float32, or float64 to check gradients.
    seed : of the first weights and of dropout. The same seed gives the same network.
    input_gradient : whether `Pass.backprop` returns the gradient by the network's input.

    Attributes
    ----------
    values, grads, state : flat arrays of parameters, gradients, and what is kept but not learned.
    """

    def __init__(
        self,
        inputs: int,
        layers: Sequence[AnyLayer],
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: int = 0,
        input_gradient: bool = False,
    ) -> None:
        self.widths = _checked(inputs, layers)
        self.layers: tuple[AnyLayer, ...] = tuple(layers)
        self.dtype: FloatDtype = np.dtype(dtype)
        ops = ops_for(self.dtype)
        first, second = np.random.SeedSequence(seed).spawn(2)
        self.rng = np.random.default_rng(second)
        learned = [layer.parameters(width) for layer, width in zip(layers, self.widths, strict=False)]
        kept = [layer.states(width) for layer, width in zip(layers, self.widths, strict=False)]
        self.values, values, self.spans = _flat(learned, self.dtype)
        self.grads, grads, _ = _flat(learned, self.dtype)
        self.state, state, _ = _flat(kept, self.dtype)
        lowest = next((i for i, shapes in enumerate(learned) if shapes), len(layers))
        self.slots = tuple(
            Slot(
                inputs=self.widths[i],
                values=values[i],
                grads=grads[i],
                state=state[i],
                ops=ops,
                dtype=self.dtype,
                rng=self.rng,
                passes_back=input_gradient or i > lowest,
            )
            for i in range(len(layers))
        )
        self._passes: dict[int, Pass] = {}
        initial = np.random.default_rng(first)
        for layer, slot in zip(self.layers, self.slots, strict=True):
            layer.init(slot, initial)

    @property
    def inputs(self) -> int:
        return self.widths[0]

    @property
    def outputs(self) -> int:
        return self.widths[-1]

    @property
    def parameter_count(self) -> int:
        """Learned numbers, without padding."""
        return sum(array.size for slot in self.slots for array in slot.values.values())

    def bound(self, rows: int) -> Pass:
        """The layers bound to so many rows; made once, the most recent few are kept."""
        found = self._passes.pop(rows, None)
        if found is None:
            found = Pass(
                [layer.bind(slot, rows) for layer, slot in zip(self.layers, self.slots, strict=True)],
                rows=rows,
            )
            if len(self._passes) >= _KEPT_PASSES:
                del self._passes[next(iter(self._passes))]
        self._passes[rows] = found
        return found

    def predict(self, x: Array) -> Array:
        """Outputs in use, [n, inputs] -> a new array [n, outputs] of the network's dtype."""
        rows = np.ascontiguousarray(x, dtype=self.dtype)
        out = np.empty((len(rows), self.outputs), self.dtype)
        for start in range(0, len(rows), INFER_ROWS):
            part = rows[start : start + INFER_ROWS]
            out[start : start + len(part)] = self.bound(len(part)).infer(part)
        return out


def _checked(inputs: int, layers: Sequence[AnyLayer]) -> tuple[int, ...]:
    """Widths between the layers, after checking that they fit together."""
    if inputs < 1:
        raise PlanInvalid(f"a network needs at least one input, not {inputs}")
    if not any(isinstance(layer, Dense) for layer in layers):
        raise PlanInvalid("a network needs at least one dense layer")
    widths = [inputs]
    for i, layer in enumerate(layers):
        if isinstance(layer, Dense) and layer.outputs < 1:
            raise PlanInvalid(f"layer {i}: a dense layer needs at least one output, not {layer.outputs}")
        if isinstance(layer, Dense | Activate) and layer.activation == "softmax" and i < len(layers) - 1:
            raise PlanInvalid(f"layer {i}: softmax may only be the last activation")
        widths.append(layer.width(widths[-1]))
    return tuple(widths)


def _flat(
    layers: Sequence[Shapes], dtype: FloatDtype
) -> tuple[Array, list[Mapping[str, Array]], tuple[Span, ...]]:
    """One zeroed array with a view for each shape, each view beginning at a multiple of 64 bytes."""
    step = _LINE // dtype.itemsize
    starts = [0]
    for shapes in layers:
        starts.append(starts[-1] + sum(-(-math.prod(shape) // step) * step for shape in shapes.values()))
    flat = _aligned(starts[-1], dtype)
    views: list[Mapping[str, Array]] = []
    for shapes, start in zip(layers, starts, strict=False):
        at, named = start, {}
        for name, shape in shapes.items():
            size = math.prod(shape)
            named[name] = flat[at : at + size].reshape(shape)
            at += -(-size // step) * step
        views.append(named)
    return flat, views, tuple(Span(start, stop) for start, stop in pairwise(starts))


def _aligned(size: int, dtype: FloatDtype) -> Array:
    """Zeros beginning at a multiple of 64 bytes, which NumPy does not promise."""
    raw = np.zeros(size * dtype.itemsize + _LINE, np.uint8)
    offset = -raw.ctypes.data % _LINE
    return raw[offset : offset + size * dtype.itemsize].view(dtype)
