"""Rows as a network is given them: prepared once, copied in a new order each epoch, cut into views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.errors import PlanInvalid
from training.losses import Loss
from training.network import Network
from training.ops import Array


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that a network is given and what it shall answer, both as the loss prepared them."""

    x: Array
    targets: Array

    @classmethod
    def prepared(cls, x: Array, targets: Array, *, network: Network, loss: Loss, what: str) -> Rows:
        """Check them and bring them into the network's dtype. Raises `PlanInvalid`."""
        if x.ndim != 2 or x.shape[1] != network.inputs or len(x) != len(targets) or not len(x):
            raise PlanInvalid(
                f"the {what} rows must be [n, {network.inputs}] with a target each and n at least 1, "
                f"not {x.shape} with {len(targets)} targets"
            )
        rows = np.ascontiguousarray(x, dtype=network.dtype)
        return cls(rows, loss.prepare(targets, network.outputs, dtype=network.dtype))


class Batches:
    """Rows in a new order each epoch, in arrays that stay.

    A single row left over at the end of an epoch is left out of it: it has no variance for batch-norm, and
    another row is left out the next time.
    """

    def __init__(self, rows: Rows, *, batch: int, seed: int) -> None:
        self._rows = rows
        self.rng = np.random.default_rng(seed)
        self.x = np.empty_like(rows.x)
        self.targets = np.empty_like(rows.targets)
        count = len(rows.x)
        starts = range(0, count, batch)
        self.views: tuple[tuple[Array, Array], ...] = tuple(
            (self.x[start : start + batch], self.targets[start : start + batch])
            for start in starts
            if count - start > 1 or count == 1
        )

    def shuffle(self) -> None:
        """Copy the rows in a new order."""
        order = self.rng.permutation(len(self.x))
        # mode "clip" writes into `out` directly; "raise" would go through a buffer
        np.take(self._rows.x, order, axis=0, out=self.x, mode="clip")
        np.take(self._rows.targets, order, axis=0, out=self.targets, mode="clip")
