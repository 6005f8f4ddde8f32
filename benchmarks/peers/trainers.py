"""Networks of 64-128-64-10 and the like in NumPy by hand, scikit-learn and torch, with one interface.

Each has `fit(x, y)` and `predict(x)`, and trains with batches of 64 and Adam at 0.001. Torch and scikit-learn
are imported when the first of theirs is made: `benchmarks.peers.borrow` must have been called.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

BATCH = 64
NEVER = 10**9


class ByHand:
    """The step as one writes it in NumPy: nothing preallocated, everything vectorised."""

    def __init__(self, sizes: tuple[int, ...], *, epochs: int) -> None:
        rng = np.random.default_rng(0)
        self.epochs = epochs
        self.w = [(rng.normal(size=(a, b)) * (2 / a) ** 0.5).astype(np.float32) for a, b in pairwise(sizes)]
        self.b = [np.zeros(b, np.float32) for b in sizes[1:]]
        self.m = [np.zeros_like(p) for p in self.w + self.b]
        self.v = [np.zeros_like(p) for p in self.w + self.b]
        self.t = 0

    def fit(self, x: Any, y: Any) -> None:
        rng, hot = np.random.default_rng(0), np.eye(len(self.b[-1]), dtype=np.float32)[y]
        for _ in range(self.epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                self.step(x[part], hot[part])

    def step(self, x: Any, y: Any) -> None:
        a1 = np.maximum(x @ self.w[0] + self.b[0], 0)
        a2 = np.maximum(a1 @ self.w[1] + self.b[1], 0)
        z = a2 @ self.w[2] + self.b[2]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        g3 = (e / e.sum(axis=1, keepdims=True) - y) / np.float32(len(x))
        g2 = (g3 @ self.w[2].T) * (a2 > 0)
        g1 = (g2 @ self.w[1].T) * (a1 > 0)
        grads = [x.T @ g1, a1.T @ g2, a2.T @ g3, g1.sum(axis=0), g2.sum(axis=0), g3.sum(axis=0)]
        self.t += 1
        rate = np.float32(1e-3 * (1 - 0.999**self.t) ** 0.5 / (1 - 0.9**self.t))
        for p, m, v, g in zip(self.w + self.b, self.m, self.v, grads, strict=True):
            np.add(m, np.float32(0.1) * (g - m), out=m)
            np.add(v, np.float32(0.001) * (g * g - v), out=v)
            np.subtract(p, rate * m / (np.sqrt(v) + np.float32(1e-8)), out=p)


class Torch:
    """Torch, eager, on one thread; `fused` takes its Adam of one call a step instead of the usual one.

    One output is a number and its loss the squared error; several are classes and theirs the cross-entropy.
    """

    def __init__(self, sizes: tuple[int, ...], *, epochs: int, seed: int = 0, fused: bool = False) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        nn = torch.nn
        layers: list[Any] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.torch, self.epochs, self.number = torch, epochs, sizes[-1] == 1
        self.net = nn.Sequential(*layers[:-1])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, fused=fused)

    def fit(self, x: Any, y: Any) -> None:
        functional = self.torch.nn.functional
        loss = functional.mse_loss if self.number else functional.cross_entropy
        given, wanted = (
            self.torch.from_numpy(x),
            self.torch.from_numpy(y.reshape(-1, 1) if self.number else y),
        )
        for _ in range(self.epochs):
            order = self.torch.randperm(len(x))
            rows, targets = given[order], wanted[order]
            for start in range(0, len(x), BATCH):
                self.optimizer.zero_grad()
                loss(self.net(rows[start : start + BATCH]), targets[start : start + BATCH]).backward()
                self.optimizer.step()

    def predict(self, x: Any) -> Any:
        with self.torch.no_grad():
            outputs = self.net(self.torch.from_numpy(x)).numpy()
        return outputs[:, 0] if self.number else outputs.argmax(axis=1)


def sklearn(sizes: tuple[int, ...], *, epochs: int, seed: int = 0) -> Any:
    """Scikit-learn's MLP with the same settings, without its early stop."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    return (MLPRegressor if sizes[-1] == 1 else MLPClassifier)(
        hidden_layer_sizes=sizes[1:-1],
        batch_size=BATCH,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=NEVER,
        alpha=0,
        random_state=seed,
    )
