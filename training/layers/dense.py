"""Dense layer with its activation fused: y = activation(x W^T + b)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.initializers import Initializer, fill, suited
from training.layers.base import Bound, Shapes, Slot
from training.ops import Activation, Array


@dataclass(frozen=True, slots=True)
class Dense:
    """Every output from every input.

    Parameters
    ----------
    outputs : units.
    activation, alpha : as in `cython_ops.activate`; `softmax` only in a network's last layer.
    initializer : of the weights; left out, the one that suits the activation. Biases begin at 0.
    """

    outputs: int
    activation: Activation = "identity"
    alpha: float = 0.01
    initializer: Initializer | None = None

    def width(self, inputs: int) -> int:  # noqa: ARG002 - the layer's interface
        return self.outputs

    def parameters(self, inputs: int) -> Shapes:
        return {"weight": (self.outputs, inputs), "bias": (self.outputs,)}

    def states(self, inputs: int) -> Shapes:  # noqa: ARG002 - the layer's interface
        return {}

    def init(self, slot: Slot, rng: np.random.Generator) -> None:
        fill(slot.values["weight"], self.initializer or suited(self.activation), rng=rng)
        slot.values["bias"][...] = 0

    def bind(self, slot: Slot, rows: int) -> Bound:
        dense, activate = slot.ops.dense, slot.ops.activate
        through, to_input, to_weights = (
            slot.ops.activate_backward,
            slot.ops.dense_backward_input,
            slot.ops.dense_backward_weights,
        )
        activation, alpha = self.activation, self.alpha
        linear, separate = activation == "identity", activation == "gelu"
        weight, bias = slot.values["weight"], slot.values["bias"]
        grad_weight, grad_bias = slot.grads["weight"], slot.grads["bias"]
        y = np.empty((rows, self.outputs), slot.dtype)
        # all activations but GELU have a slope that their output tells
        mixed = np.empty_like(y) if separate else y
        grad_x = np.empty((rows, slot.inputs), slot.dtype) if slot.passes_back else None
        given = y

        def forward(x: Array) -> Array:
            nonlocal given
            given = x
            if separate:
                dense(x, weight, bias, out=mixed)
                return activate(mixed, activation=activation, out=y)
            return dense(x, weight, bias, activation=activation, alpha=alpha, out=y)

        def backprop(grad: Array) -> Array:
            if not linear:
                through(grad, mixed, activation=activation, alpha=alpha, out=grad)
            to_weights(grad, given, grad_weight=grad_weight, grad_bias=grad_bias)
            return grad if grad_x is None else to_input(grad, weight, out=grad_x)

        return Bound(forward, forward, backprop, y, activation)
