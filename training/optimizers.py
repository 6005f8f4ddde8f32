"""Optimizers: one step over the network's flat arrays. Formulas and defaults as in torch.optim.

Weight decay takes in every parameter, biases and batch-norm too, as torch does without parameter groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from training.ops import Array, Ops


class Step(Protocol):
    """An optimizer bound to a network. `memory` is what a checkpoint keeps."""

    memory: tuple[Array, ...]

    def __call__(self, values: Array, grads: Array, *, rate: float, number: int) -> None:
        """Change `values` in place; `number` counts steps from 1."""


@dataclass(frozen=True, slots=True)
class Sgd:
    """v = momentum v + g; w -= rate v (Polyak 1964), without momentum plain descent."""

    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0

    def bind(self, values: Array, ops: Ops) -> Step:
        velocity = np.zeros_like(values)
        settings = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        return _Bound(ops.sgd_step, (velocity,), settings, counted=False)


@dataclass(frozen=True, slots=True)
class Adam:
    """Kingma and Ba 2015; weight decay is added to the gradient."""

    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def bind(self, values: Array, ops: Ops) -> Step:
        return _Bound(ops.adam_step, _two(values), _adam(self), counted=True)


@dataclass(frozen=True, slots=True)
class AdamW:
    """Loshchilov and Hutter 2019; the weights themselves decay."""

    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2

    def bind(self, values: Array, ops: Ops) -> Step:
        return _Bound(ops.adamw_step, _two(values), _adam(self), counted=True)


@dataclass(frozen=True, slots=True)
class RmsProp:
    """Tieleman and Hinton 2012."""

    rate: float = 1e-3
    smoothing: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def bind(self, values: Array, ops: Ops) -> Step:
        settings = {
            "smoothing": self.smoothing,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
        }
        return _Bound(ops.rmsprop_step, (np.zeros_like(values),), settings, counted=False)


Optimizer: TypeAlias = Sgd | Adam | AdamW | RmsProp


class _Bound:
    """A kernel with its memory and settings."""

    __slots__ = ("_counted", "_kernel", "_settings", "memory")

    def __init__(
        self, kernel: object, memory: tuple[Array, ...], settings: dict[str, float], *, counted: bool
    ):
        self._kernel = kernel
        self.memory = memory
        self._settings = settings
        self._counted = counted

    def __call__(self, values: Array, grads: Array, *, rate: float, number: int) -> None:
        if self._counted:
            self._kernel(values, grads, *self.memory, step=number, lr=rate, **self._settings)  # type: ignore[operator]
        else:
            self._kernel(values, grads, *self.memory, lr=rate, **self._settings)  # type: ignore[operator]


def _two(values: Array) -> tuple[Array, Array]:
    return np.zeros_like(values), np.zeros_like(values)


def _adam(optimizer: Adam | AdamW) -> dict[str, float]:
    return {
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
    }


def clip_to(grads: Array, longest: float) -> None:
    """Shorten the gradient to `longest` in place, if it is longer."""
    length = math.sqrt(float(np.vdot(grads, grads)))
    if length > longest:
        np.multiply(grads, grads.dtype.type(longest / length), out=grads)
