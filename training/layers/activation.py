"""An activation by itself: where something stands between it and its dense layer, as batch-norm does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.layers.base import Bound, Shapes, Slot
from training.ops import Activation, Array


@dataclass(frozen=True, slots=True)
class Activate:
    """y = activation(x), element by element; `softmax` by row, only in a network's last layer."""

    activation: Activation
    alpha: float = 0.01

    def width(self, inputs: int) -> int:
        return inputs

    def parameters(self, inputs: int) -> Shapes:  # noqa: ARG002 - the layer's interface
        return {}

    def states(self, inputs: int) -> Shapes:  # noqa: ARG002 - the layer's interface
        return {}

    def init(self, slot: Slot, rng: np.random.Generator) -> None:
        """Nothing to begin with."""

    def bind(self, slot: Slot, rows: int) -> Bound:
        activate, through = slot.ops.activate, slot.ops.activate_backward
        activation, alpha = self.activation, self.alpha
        from_input = activation == "gelu"  # the others' slopes are told by their outputs
        y = np.empty((rows, slot.inputs), slot.dtype)
        given = y

        def forward(x: Array) -> Array:
            nonlocal given
            given = x
            return activate(x, activation=activation, alpha=alpha, out=y)

        def backprop(grad: Array) -> Array:
            return through(grad, given if from_input else y, activation=activation, alpha=alpha, out=grad)

        return Bound(forward, forward, backprop, y, activation)
