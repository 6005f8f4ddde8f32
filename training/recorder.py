"""Fills `TrainingStats` while a network trains, for less than 3 % of its time.

A light sample (every `every` steps) takes loss and gradient norms, every fourth the alive units: reductions
over arrays that are in the cache. A deep one (every 20th, in a short training oftener: about ten in all)
adds update ratios and, over a strided part of the outputs, percentiles and saturation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from training.layers import Activate, Dense
from training.network import Network, Pass
from training.ops import Array
from training.stats import LayerStats, Task, TrainingStats

ALIVE: Final = 4
DEEP: Final = 20
_FEWEST_DEEP: Final = 10
_LOOKED_AT: Final = 512
TANH_SATURATED: Final = 0.97
SIGMOID_SATURATED: Final = 0.015  # 0.97 of tanh: sigmoid(x) = (1 + tanh(x / 2)) / 2


class Recorder:
    """Samples one training.

    Parameters
    ----------
    every : steps between light samples.
    steps : of the whole training.
    stats : those to go on with, of a checkpoint.
    """

    def __init__(
        self, network: Network, *, task: Task, every: int, steps: int, stats: TrainingStats | None = None
    ) -> None:
        self.stats = stats or TrainingStats(task=task, layers=layer_stats(network))
        self.deep_every = every * max(1, min(DEEP, steps // (_FEWEST_DEEP * every)))
        self._network = network
        self._change = np.empty_like(network.values)
        self._row = np.ones(0, network.dtype)
        self._spans = [
            (layer, network.grads[span.start : span.stop], slice(span.start, span.stop))
            for layer in self.stats.layers
            if (span := network.spans[layer.index]).stop > span.start
        ]
        self._gradients = tuple((layer.grad_norm, grads) for layer, grads, _ in self._spans)
        self._firing = tuple(
            (layer.index, layer.alive, np.empty(layer.units, network.dtype))
            for layer in self.stats.layers
            if layer.activation == "relu"
        )

    def light(self, bound: Pass, *, step: int, loss: float, rate: float) -> bool:
        """After backprop, before the step. Returns whether all is finite; nothing is kept where it is not."""
        norms = [_norm(grads) for _, grads in self._gradients]
        whole = math.hypot(*norms)
        if not math.isfinite(whole + loss):
            self._refuse(step, loss)
            return False
        stats = self.stats
        for (kept, _), norm in zip(self._gradients, norms, strict=True):
            kept.append(norm)
        if len(stats.steps) % ALIVE == 0:
            self._count_alive(bound, step=step)
        stats.steps.append(step)
        stats.loss.append(loss)
        stats.rates.append(rate)
        stats.grad_norm.append(whole)
        return True

    def _count_alive(self, bound: Pass, *, step: int) -> None:
        self.stats.alive_steps.append(step)
        for index, alive, sums in self._firing:
            # what is never below 0 has fired where its sum is not 0; a sum over rows by BLAS is the quickest
            np.dot(self._ones(bound.rows), bound.bound[index].output, out=sums)
            alive.append(int(np.count_nonzero(sums)) / len(sums))

    def _ones(self, rows: int) -> Array:
        if len(self._row) != rows:
            self._row = np.ones(rows, self._network.dtype)
        return self._row

    def deep(self, bound: Pass, *, step: int, update: Callable[[], None]) -> None:
        """Around the optimizer's step `update`."""
        values, change = self._network.values, self._change
        sizes = [_norm(values[span]) for _, _, span in self._spans]
        np.copyto(change, values)
        update()
        np.subtract(values, change, out=change)
        self.stats.deep_steps.append(step)
        for (layer, _, span), size in zip(self._spans, sizes, strict=True):
            ratio = _norm(change[span]) / size if size else 0.0
            layer.deep_update_ratio.append(ratio if math.isfinite(ratio) else math.inf)
        for layer in self.stats.layers:
            if layer.activation not in {None, "identity"}:
                self._look_at(layer, bound.bound[layer.index].output)

    def _look_at(self, layer: LayerStats, output: Array) -> None:
        flat = output.reshape(-1)
        some = np.sort(flat[:: max(1, flat.size // _LOOKED_AT)])
        last = len(some) - 1
        low, middle, high = (float(some[round(last * share)]) for share in (0.05, 0.5, 0.95))
        layer.deep_percentiles.append((low, middle, high))
        if layer.activation == "tanh":
            layer.deep_saturated.append(_outside(some, -TANH_SATURATED, TANH_SATURATED))
        elif layer.activation == "sigmoid":
            layer.deep_saturated.append(_outside(some, SIGMOID_SATURATED, 1 - SIGMOID_SATURATED))

    def _refuse(self, step: int, loss: float) -> None:
        self.stats.nonfinite_step = step
        self.stats.nonfinite_what = "gradient" if math.isfinite(loss) else "loss"


def layer_stats(network: Network) -> list[LayerStats]:
    """Empty statistics for each layer that learns or has units."""
    found = []
    for index, layer in enumerate(network.layers):
        slot = network.slots[index]
        learned = sum(array.size for array in slot.values.values())
        activation = layer.activation if isinstance(layer, Dense | Activate) else None
        if not learned and activation is None:
            continue
        width = network.widths[index + 1]
        kind = type(layer).__name__.lower()
        words = f"{kind} {slot.inputs}→{width}" if kind == "dense" else f"{kind} {width}"
        ending = f", {activation}" if activation not in {None, "identity"} else ""
        found.append(
            LayerStats(
                index=index,
                name=f"layer {index} ({words}{ending})",
                units=width,
                parameters=learned,
                activation=activation,
            )
        )
    return found


def _norm(values: Array) -> float:
    return math.sqrt(values.dot(values))


def _outside(ordered: Array, low: float, high: float) -> float:
    """Share of sorted values below `low` or above `high`."""
    first, last = np.searchsorted(ordered, (low, high))
    return float(1 - (last - first) / len(ordered))
