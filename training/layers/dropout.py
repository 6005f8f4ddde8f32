"""Inverted dropout (Srivastava et al. 2014): a share of the values is zeroed in training, none in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.errors import PlanInvalid
from training.layers.base import Bound, Shapes, Slot
from training.ops import Array


@dataclass(frozen=True, slots=True)
class Dropout:
    """Zero each value with probability `rate`; those that stay grow by 1 / (1 - rate)."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise PlanInvalid(f"dropout rate {self.rate} must be at least 0 and below 1")

    def width(self, inputs: int) -> int:
        return inputs

    def parameters(self, inputs: int) -> Shapes:  # noqa: ARG002 - the layer's interface
        return {}

    def states(self, inputs: int) -> Shapes:  # noqa: ARG002 - the layer's interface
        return {}

    def init(self, slot: Slot, rng: np.random.Generator) -> None:
        """Nothing to begin with."""

    def bind(self, slot: Slot, rows: int) -> Bound:
        rng, rate = slot.rng, self.rate
        y = np.empty((rows, slot.inputs), slot.dtype)
        mask = np.empty_like(y)
        gain = y.dtype.type(1 / (1 - rate))

        def forward(x: Array) -> Array:
            rng.random(dtype=mask.dtype, out=mask)
            np.greater_equal(mask, rate, out=mask)
            np.multiply(mask, gain, out=mask)
            return np.multiply(x, mask, out=y)

        def backprop(grad: Array) -> Array:
            return np.multiply(grad, mask, out=grad)

        return Bound(forward, lambda x: x, backprop, y)
