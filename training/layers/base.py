"""What a layer is, and what it gets to work with.

A layer is a frozen description (`Dense(128, activation="relu")`). Bound to a number of rows it becomes three
closures over arrays that are allocated once: nothing is allocated in a training step. That is thinc's
`forward` that returns `backprop`, with the closure made once a batch size instead of once a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from training.ops import Activation, Array, Ops

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
FloatDtype: TypeAlias = np.dtype[Any]
"""float32 or float64: `ops_for` refuses others."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One layer's part of its network.

    Attributes
    ----------
    values, grads : learned parameters and their gradients: views into the network's flat arrays.
    state : what is kept but not learned (running means).
    rng : draws for dropout; part of a checkpoint.
    passes_back : whether somebody wants the gradient of this layer's input.
    """

    inputs: int
    values: Mapping[str, Array]
    grads: Mapping[str, Array]
    state: Mapping[str, Array]
    ops: Ops
    dtype: FloatDtype
    rng: np.random.Generator
    passes_back: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A layer at work on a fixed number of rows.

    Attributes
    ----------
    forward : x [rows, inputs] -> y [rows, outputs], as in training; y is the same array each time.
    infer : the same as in use: running means, no dropout. May share `forward`'s array.
    backprop : gradient by y -> gradient by x, after writing the parameters' gradients. May overwrite what
        it is given. Belongs to the last `forward`.
    output : the array that `forward` returns.
    activation : what `output` went through last; `None` where the layer has no units of its own.
    """

    forward: Callable[[Array], Array]
    infer: Callable[[Array], Array]
    backprop: Callable[[Array], Array]
    output: Array
    activation: Activation | None = None


class Layer(Protocol):
    """A description of a layer."""

    def width(self, inputs: int) -> int:
        """Numbers a row that come out where `inputs` go in."""

    def parameters(self, inputs: int) -> Shapes:
        """What is learned."""

    def states(self, inputs: int) -> Shapes:
        """What is kept but not learned."""

    def init(self, slot: Slot, rng: np.random.Generator) -> None:
        """First values of parameters and state, in place."""

    def bind(self, slot: Slot, rows: int) -> Bound:
        """Allocate for so many rows."""
