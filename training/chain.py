"""A trained network as a plain chain of dense layers: batch-norm and scalings folded in, dropout left out.

Computed in float64, rounded to float32 at the end. This is what is exported: the fewest numbers that answer
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import PlanInvalid
from training.layers import Activate, BatchNorm, Dense, Slot
from training.network import Network
from training.ops import Activation, Array
from training.splitting import Scaling


@dataclass(slots=True)
class Link:
    """One dense layer: activation(weight x + bias), weight [outputs, inputs]."""

    weight: Array
    bias: Array
    activation: Activation = "identity"
    alpha: float = 0.01


class _Chain:
    """Links, and a scale and shift that the next link has still to take up."""

    def __init__(self, width: int) -> None:
        self.links: list[Link] = []
        self._width = width
        self._scale, self._shift = np.ones(width), np.zeros(width)

    def affine(self, scale: Array, shift: Array) -> None:
        """Each column times `scale` plus `shift`."""
        last = self.links[-1] if self.links else None
        if last is not None and last.activation == "identity" and not self._pending:
            last.weight, last.bias = last.weight * scale[:, None], last.bias * scale + shift
        else:
            self._scale, self._shift = self._scale * scale, self._shift * scale + shift

    def dense(self, weight: Array, bias: Array, activation: Activation, alpha: float) -> None:
        self.links.append(Link(weight * self._scale, bias + weight @ self._shift, activation, alpha))
        self._width = len(weight)
        self._scale, self._shift = np.ones(self._width), np.zeros(self._width)

    def activate(self, activation: Activation, alpha: float) -> None:
        if not self.links or self.links[-1].activation != "identity" or self._pending:
            self.settle()
        self.links[-1].activation, self.links[-1].alpha = activation, alpha

    def settle(self) -> None:
        """Make what is pending a link of its own: a diagonal."""
        self.dense(np.eye(self._width), np.zeros(self._width), "identity", 0.01)

    @property
    def _pending(self) -> bool:
        return bool((self._scale != 1).any() or (self._shift != 0).any())

    def finished(self) -> list[Link]:
        if self._pending:
            self.settle()
        return self.links


def links(network: Network, *, inputs: Scaling | None = None, outputs: Scaling | None = None) -> list[Link]:
    """The chain, float32.

    Parameters
    ----------
    inputs : scaling of the rows before the network, folded into the first layer; None leaves it out.
    outputs : scaling of the targets, undone in the last layer; None leaves it out.
    """
    chain = _Chain(network.inputs)
    if inputs is not None:
        chain.affine(1 / inputs.deviation, -inputs.mean / inputs.deviation)
    for layer, slot in zip(network.layers, network.slots, strict=True):
        if isinstance(layer, Dense):
            weight, bias = (slot.values[name].astype(np.float64) for name in ("weight", "bias"))
            chain.dense(weight, bias, layer.activation, layer.alpha)
        elif isinstance(layer, BatchNorm):
            chain.affine(*_normalising(layer, slot))
        elif isinstance(layer, Activate) and layer.activation != "identity":
            chain.activate(layer.activation, layer.alpha)
    if outputs is not None:
        chain.affine(outputs.deviation, outputs.mean)
    found = chain.finished()
    for link in found:
        link.weight, link.bias = (np.ascontiguousarray(a, dtype=np.float32) for a in (link.weight, link.bias))
    return found


def two_logits(chain: Sequence[Link]) -> list[Link]:
    """A chain with one output z made to answer (0, z): softmax of that is (1 - s, s) with s = sigmoid(z)."""
    last = chain[-1]
    if len(last.bias) != 1 or last.activation != "identity":
        raise PlanInvalid("one output that tells two classes has no activation: its sigmoid is the loss's")
    zero = np.zeros_like(last.weight)
    both = Link(np.concatenate([zero, last.weight]), np.concatenate([np.zeros_like(last.bias), last.bias]))
    return [*chain[:-1], both]


def answers(chain: Sequence[Link], x: Array) -> Array:
    """What the chain answers, by the kernels: float32 [n, inputs] -> [n, outputs]."""
    from training.ops import FLOAT32

    rows = np.ascontiguousarray(x, dtype=np.float32)
    for link in chain:
        rows = FLOAT32.dense(rows, link.weight, link.bias, activation=link.activation, alpha=link.alpha)
    return rows


def _normalising(layer: BatchNorm, slot: Slot) -> tuple[Array, Array]:
    gain, shift = slot.values["gain"].astype(np.float64), slot.values["shift"].astype(np.float64)
    mean, variance = slot.state["mean"].astype(np.float64), slot.state["variance"].astype(np.float64)
    scale = gain / np.sqrt(variance + layer.epsilon)
    return scale, shift - mean * scale
