"""First values of a dense layer's weights: normal, mean 0, the deviation set by the layer's width.

He: sqrt(2 / in), for the ReLU family (He et al. 2015, eq. 10). Glorot: sqrt(2 / (in + out)), for tanh,
sigmoid and linear layers (Glorot and Bengio 2010, eq. 12). LeCun: sqrt(1 / in) (LeCun et al. 1998, sec. 4.6).
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import numpy as np

from training.ops import Activation, Array

Initializer: TypeAlias = Literal["he", "glorot", "lecun"]
INITIALIZERS: Final[tuple[Initializer, ...]] = ("he", "glorot", "lecun")


def deviation(initializer: Initializer, *, inputs: int, outputs: int) -> float:
    """Standard deviation of the weights of a layer [outputs, inputs]."""
    match initializer:
        case "he":
            return math.sqrt(2 / inputs)
        case "glorot":
            return math.sqrt(2 / (inputs + outputs))
        case "lecun":
            return math.sqrt(1 / inputs)


def suited(activation: Activation) -> Initializer:
    """The initializer that keeps variances steady through a layer with this activation."""
    return "he" if activation in {"relu", "leaky_relu", "gelu"} else "glorot"


def fill(weight: Array, initializer: Initializer, *, rng: np.random.Generator) -> None:
    """Draw the weights [outputs, inputs] in place. Drawn in float64, so float32 and float64 begin alike."""
    outputs, inputs = weight.shape
    weight[...] = rng.normal(0, deviation(initializer, inputs=inputs, outputs=outputs), weight.shape)
