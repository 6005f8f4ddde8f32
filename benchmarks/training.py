"""Training on one thread, beside NumPy by hand, scikit-learn and (where installed) torch, in one run.

Network 64-128-64-10 with ReLU, batches of 64, Adam at 0.001, on scikit-learn's digits. A step is forward,
backward and optimizer; `fit` pays for shuffling and epochs too, as scikit-learn's does. All contenders take
turns; times are the process's processor time, so that other work on the machine counts little; median and
range of the turns.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.report import spread, table
from training.diagnosis import diagnose
from training.layers import Dense
from training.losses import CrossEntropy, MeanSquaredError
from training.network import Network
from training.optimizers import Adam
from training.profile import profile
from training.recorder import Recorder
from training.settings import Settings
from training.splitting import split
from training.tables import Table
from training.trainer import Trainer

HAS_SKLEARN = importlib.util.find_spec("sklearn") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None
TURNS = 9
EPOCHS = 40
SPEED_EPOCHS = 100
COST_TURNS = 40
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
BATCH = 64
ROWS = 1408  # 22 whole batches
SEEDS = range(5)
NEVER = 10**9


def digits() -> tuple[Any, Any]:
    """Scikit-learn's digits, 0 to 1, in a fixed random order; noise of that shape without scikit-learn."""
    rng = np.random.default_rng(0)
    if not HAS_SKLEARN:
        return rng.random((1797, 64), np.float32), rng.integers(0, 10, 1797)
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    return (x[order] / 16).astype(np.float32), y[order]


def houses(rows: int = 20_640) -> Table:
    """Like California's housing: 8 columns of its ranges, a price that bends with them, noise of a fifth."""
    rng = np.random.default_rng(1)
    income, age = rng.lognormal(1.3, 0.45, rows), rng.uniform(1, 52, rows)
    rooms, beds = rng.lognormal(1.65, 0.25, rows), rng.lognormal(0.07, 0.15, rows)
    people, crowd = rng.lognormal(7, 0.7, rows), rng.lognormal(1.05, 0.25, rows)
    north, west = rng.uniform(32.5, 42, rows), rng.uniform(-124.3, -114.3, rows)
    coast = np.exp(-np.square(west + 124 - (42 - north) * 0.8) / 4)
    price = 0.4 * income + 0.9 * coast + 0.004 * age * coast - 0.25 * crowd + 0.1 * np.sin(rooms * 2) * income
    price += 0.2 * price.std() * rng.normal(size=rows)
    x = np.column_stack([income, age, rooms, beds, people, crowd, north, west])
    names = ("income", "age", "rooms", "beds", "people", "crowd", "north", "west")
    return Table(x, price, names, "price", "regression")


def ours(x: Any, y: Any, *, seed: int = 0, epochs: int = EPOCHS) -> Trainer:
    """Our trainer, ready to fit; statistics every 10 steps."""
    network = Network(64, [Dense(128, "relu"), Dense(64, "relu"), Dense(10)], seed=seed)
    settings = Settings(epochs=epochs, batch=BATCH, optimizer=Adam(rate=1e-3), stats_every=10, seed=seed)
    return Trainer(network, CrossEntropy(), settings, train=(x, y))


class NoStatistics(Recorder):
    """Takes no samples."""

    def light(self, *_: object, **__: object) -> bool:
        self.stats.loss.append(0.0)  # an epoch has a loss
        return True

    def deep(self, *_: object, update: Callable[[], None], **__: object) -> None:
        update()


def silent(x: Any, y: Any) -> Trainer:
    """The same without statistics."""
    made = ours(x, y, epochs=SPEED_EPOCHS)
    made.settings = replace(made.settings, stats_every=NEVER)
    made.recorder = NoStatistics(made.network, task="classification", every=NEVER, steps=made.steps)
    return made


class ByHand:
    """The same step as one writes it in NumPy: preallocated nothing, everything vectorised."""

    def __init__(self, x: Any, y: Any) -> None:
        rng = np.random.default_rng(0)
        self.x, self.y = x, np.eye(10, dtype=np.float32)[y]
        sizes = (64, 128, 64, 10)
        self.w = [(rng.normal(size=(a, b)) * (2 / a) ** 0.5).astype(np.float32) for a, b in pairwise(sizes)]
        self.b = [np.zeros(b, np.float32) for b in sizes[1:]]
        self.m = [np.zeros_like(p) for p in self.w + self.b]
        self.v = [np.zeros_like(p) for p in self.w + self.b]
        self.t = 0

    def fit(self, epochs: int) -> None:
        rng = np.random.default_rng(0)
        for _ in range(epochs):
            order = rng.permutation(len(self.x))
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                self.step(self.x[part], self.y[part])

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
    """Torch, eager, with its own layers and Adam."""

    def __init__(self, x: Any, y: Any, *, seed: int = 0) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.torch = torch
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(np.asarray(y))
        nn = torch.nn
        self.net = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def fit(self, epochs: int) -> None:
        loss = self.torch.nn.functional.cross_entropy
        for _ in range(epochs):
            order = self.torch.randperm(len(self.x))
            x, y = self.x[order], self.y[order]
            for start in range(0, len(x), BATCH):
                self.optimizer.zero_grad()
                loss(self.net(x[start : start + BATCH]), y[start : start + BATCH]).backward()
                self.optimizer.step()

    def accuracy(self, x: Any, y: Any) -> float:
        with self.torch.no_grad():
            return float((self.net(self.torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def sklearn_classifier(epochs: int, *, seed: int = 0) -> Any:
    """Scikit-learn's MLP with the same settings, without its early stop."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        hidden_layer_sizes=(128, 64),
        batch_size=BATCH,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=NEVER,
        alpha=0,
        random_state=seed,
    )


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def contenders(x: Any, y: Any) -> dict[str, Callable[[], float]]:
    """Name to a turn: steps a second."""
    x, y = x[:ROWS], y[:ROWS]
    steps = SPEED_EPOCHS * ROWS // BATCH

    def turn(work: Callable[..., object], *arguments: object) -> float:
        return steps / seconds(lambda: work(*arguments))

    found: dict[str, Callable[[], float]] = {
        "Lonja, statistics every 10 steps": lambda: turn(ours(x, y, epochs=SPEED_EPOCHS).fit),
        "Lonja, without statistics": lambda: turn(silent(x, y).fit),
        "NumPy by hand": lambda: turn(ByHand(x, y).fit, SPEED_EPOCHS),
    }
    if HAS_SKLEARN:
        found["scikit-learn MLPClassifier"] = lambda: turn(sklearn_classifier(SPEED_EPOCHS).fit, x, y)
    if HAS_TORCH:
        found["torch, eager"] = lambda: turn(Torch(x, y).fit, SPEED_EPOCHS)
    return found


def speed(x: Any, y: Any) -> None:
    """Print steps a second, and what the statistics cost."""
    rivals = contenders(x, y)
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(TURNS + 1):
        for name, work in rivals.items():
            rate = work()
            if turn:  # the first warms up
                rates[name].append(rate)
    middle = statistics.median(rates[next(iter(rates))])
    rows = [
        [name, spread(each, digits=0), f"{middle / statistics.median(each):.2f}"]
        for name, each in rates.items()
    ]
    print(table(["64-128-64-10, batch 64, one thread", "steps/s", "Lonja is so many times as quick"], rows))
    print(f"\nCost of the statistics: {cost(x, y):.1f} % of the time.")
    if not HAS_TORCH:
        print("\ntorch is not installed here: not measured.")


def cost(x: Any, y: Any) -> float:
    """Per cent of the time that the statistics take: the quicker quarters of many turns, taken in turn."""
    x, y = x[:ROWS], y[:ROWS]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(COST_TURNS):
        times[0].append(seconds(silent(x, y).fit))
        times[1].append(seconds(ours(x, y, epochs=SPEED_EPOCHS).fit))
    without, with_them = (statistics.quantiles(each)[0] for each in times)
    return 100 * (with_them / without - 1)


def accuracy(x: Any, y: Any) -> None:
    """Print the accuracy on 360 held-out digits, over seeds."""
    cut = 1437
    train, held = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    found: dict[str, list[float]] = {"Lonja": []}
    verdicts = []
    for seed in SEEDS:
        made = ours(*train, seed=seed)
        made.stats.data = profile(train, held, classes=[str(i) for i in range(10)])
        verdicts.append(diagnose(made.fit()).health)
        found["Lonja"].append(100 * float((made.network.predict(held[0]).argmax(1) == held[1]).mean()))
        if HAS_SKLEARN:
            rival = sklearn_classifier(EPOCHS, seed=seed).fit(*train)
            found.setdefault("scikit-learn", []).append(100 * rival.score(*held))
        if HAS_TORCH:
            torch = Torch(*train, seed=seed)
            torch.fit(EPOCHS)
            found.setdefault("torch", []).append(100 * torch.accuracy(*held))
    rows = [[name, f"{statistics.mean(each):.2f}", spread(each, digits=2)] for name, each in found.items()]
    print("\n" + table([f"digits, {EPOCHS} epochs, {len(SEEDS)} seeds", "mean accuracy, %", "median"], rows))
    print(f"\nVerdicts: {', '.join(verdicts)}.")


def regression() -> None:
    """Print error and time on the houses beside MLPRegressor with the same settings."""
    made = split(houses(), validation=0.2, scale=True, seed=0)
    if made.validation is None or not HAS_SKLEARN:
        return
    from sklearn.neural_network import MLPRegressor

    (x, y), (held, truth) = made.train, made.validation
    results: dict[str, tuple[list[float], list[float]]] = {"Lonja": ([], []), "MLPRegressor": ([], [])}
    for seed in range(3):
        hidden = [Dense(width, "relu", initializer="glorot") for width in (64, 32)]  # as scikit-learn's
        network = Network(8, [*hidden, Dense(1)], seed=seed)
        trainer = Trainer(
            network,
            MeanSquaredError(),
            Settings(epochs=20, batch=BATCH, seed=seed),
            train=(x, y),
            task="regression",
        )
        rival = MLPRegressor(
            hidden_layer_sizes=(64, 32),
            batch_size=BATCH,
            max_iter=20,
            tol=0,
            n_iter_no_change=NEVER,
            alpha=0,
            random_state=seed,
        )
        fits: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
            "Lonja": (trainer.fit, lambda network=network: network.predict(held)[:, 0]),  # type: ignore[misc]
            "MLPRegressor": (
                lambda rival=rival: rival.fit(x, y[:, 0]),  # type: ignore[misc]
                lambda rival=rival: rival.predict(held),  # type: ignore[misc]
            ),
        }
        for name, (fit, predict) in fits.items():
            results[name][1].append(seconds(fit))
            results[name][0].append(float(np.sqrt(np.square(predict() - truth[:, 0]).mean())))
    rows = [
        [name, spread(errors, digits=4), spread(times, digits=2)] for name, (errors, times) in results.items()
    ]
    head = ["houses (20,640 rows made here), 8-64-32-1, 20 epochs", "RMSE of the deviation", "seconds"]
    print("\n" + table(head, rows))


def main() -> None:
    """Print all tables."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # BLAS reads these when NumPy is imported, so a process of its own
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.training"], {**os.environ, **ONE_THREAD})
    warnings.simplefilter("ignore")  # scikit-learn tells that the epochs ran out, as they are meant to
    x, y = digits()
    speed(x, y)
    if HAS_SKLEARN:
        accuracy(x, y)
        regression()


if __name__ == "__main__":
    main()
