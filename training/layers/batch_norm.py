"""Batch normalisation (Ioffe and Szegedy 2015): y = gain (x - mean) / sqrt(variance + epsilon) + shift.

In training mean and variance are the batch's (variance over n); in use they are running means of them, the
variance's over n - 1, as torch and ONNX have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.layers.base import Bound, Shapes, Slot
from training.ops import Array


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Scale each column to mean 0 and deviation 1, then to what is learned.

    Parameters
    ----------
    momentum : share of the new batch in the running means.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    def width(self, inputs: int) -> int:
        return inputs

    def parameters(self, inputs: int) -> Shapes:
        return {"gain": (inputs,), "shift": (inputs,)}

    def states(self, inputs: int) -> Shapes:
        return {"mean": (inputs,), "variance": (inputs,)}

    def init(self, slot: Slot, rng: np.random.Generator) -> None:  # noqa: ARG002 - the layer's interface
        slot.values["gain"][...] = slot.state["variance"][...] = 1
        slot.values["shift"][...] = slot.state["mean"][...] = 0

    def bind(self, slot: Slot, rows: int) -> Bound:
        gain, shift = slot.values["gain"], slot.values["shift"]
        grad_gain, grad_shift = slot.grads["gain"], slot.grads["shift"]
        running_mean, running_variance = slot.state["mean"], slot.state["variance"]
        momentum, epsilon = slot.dtype.type(self.momentum), slot.dtype.type(self.epsilon)
        unbiased = slot.dtype.type(rows / max(rows - 1, 1))
        y, scaled, spare = (np.empty((rows, slot.inputs), slot.dtype) for _ in range(3))
        inverse = np.empty(slot.inputs, slot.dtype)

        def forward(x: Array) -> Array:
            mean = x.mean(axis=0)
            np.subtract(x, mean, out=scaled)
            variance = np.einsum("nc,nc->c", scaled, scaled) / slot.dtype.type(rows)
            np.divide(1, np.sqrt(variance + epsilon), out=inverse)
            np.multiply(scaled, inverse, out=scaled)
            running_mean[...] += momentum * (mean - running_mean)
            running_variance[...] += momentum * (variance * unbiased - running_variance)
            np.multiply(scaled, gain, out=y)
            return np.add(y, shift, out=y)

        def infer(x: Array) -> Array:
            np.subtract(x, running_mean, out=y)
            np.multiply(y, gain / np.sqrt(running_variance + epsilon), out=y)
            return np.add(y, shift, out=y)

        def backprop(grad: Array) -> Array:
            np.einsum("nc,nc->c", grad, scaled, out=grad_gain)
            np.sum(grad, axis=0, out=grad_shift)
            np.multiply(scaled, grad_gain / slot.dtype.type(rows), out=spare)
            np.subtract(grad, spare, out=grad)
            np.subtract(grad, grad_shift / slot.dtype.type(rows), out=grad)
            np.multiply(grad, gain * inverse, out=grad)
            return grad

        return Bound(forward, infer, backprop, y)
