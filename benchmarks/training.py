"""Training on one thread, beside NumPy by hand, scikit-learn and torch (eager), in one run.

Network 64-128-64-10 with ReLU, batches of 64, Adam at 0.001, on scikit-learn's digits. A step is forward,
backward and optimizer; `fit` pays for shuffling and epochs too, as scikit-learn's does. All contenders take
turns; times are the process's processor time, so that other work on the machine counts little; median and
range of the turns. Each begins with first weights of its own.

The cost of the statistics is that of all samples, with the losses that they need, and of counting the dead
units: against a trainer that does none of these, and judges the network that comes out in the same way. The
median over pairs of trainings, each first in turn.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import borrow
from benchmarks.peers.trainers import BATCH, NEVER, ByHand, Torch, sklearn
from benchmarks.report import spread, table
from training.diagnosis import diagnose
from training.final import final_stats
from training.layers import Dense
from training.losses import CrossEntropy, MeanSquaredError
from training.network import Network
from training.ops import Array, Ops
from training.optimizers import Adam
from training.profile import profile
from training.recorder import Recorder
from training.settings import Settings
from training.splitting import split
from training.tables import Table
from training.trainer import Trainer

TURNS = 9
EPOCHS = 40
SPEED_EPOCHS = 100
COST_TURNS = 160
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROWS = 1408  # 22 whole batches
CUT = 1437  # digits beyond are held out
SIZES = (64, 128, 64, 10)
HOUSES = (8, 64, 32, 1)


def peers() -> dict[str, Callable[..., Any]]:
    """What is installed, by name."""
    found: dict[str, Callable[..., Any]] = {}
    if importlib.util.find_spec("sklearn"):
        found["scikit-learn"] = sklearn
    if importlib.util.find_spec("torch"):
        found["torch, eager"] = Torch
    return found


def digits() -> tuple[Any, Any] | None:
    """Scikit-learn's digits, 0 to 1, in a fixed random order; None where it is not installed."""
    if not importlib.util.find_spec("sklearn"):
        return None
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
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


class Unmeasured(CrossEntropy):
    """Its gradient alone."""

    def value(self, outputs: Array, targets: Array, *, ops: Ops) -> float:  # noqa: ARG002 - the interface
        return 0.0


class NoStatistics(Recorder):
    """Takes no samples."""

    def light(self, *_: object, **__: object) -> bool:
        self.stats.loss.append(-float(len(self.stats.loss)))  # an epoch has a loss, and the last is the best
        return True

    def deep(self, *_: object, update: Callable[[], None], **__: object) -> None:
        update()


class Silent(Trainer):
    """Trains, and looks at nothing but how good the network is at the end."""

    def _finish(self) -> None:
        self.stats.final = final_stats(self.network, CrossEntropy(), self.train, None, task=self.task)


def silent(x: Any, y: Any) -> Trainer:
    """The same without statistics."""
    like = ours(x, y, epochs=SPEED_EPOCHS)
    made = Silent(like.network, Unmeasured(), like.settings, train=(x, y))
    made.recorder = NoStatistics(made.network, task="classification", every=NEVER, steps=made.steps)
    made.recorder.deep_every = NEVER
    return made


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def contenders(x: Any, y: Any) -> dict[str, Callable[[], object]]:
    """Name to a training."""

    def peer(make: Callable[..., Any], **more: bool) -> Callable[[], object]:
        return lambda: make(SIZES, epochs=SPEED_EPOCHS, **more).fit(x, y)

    found: dict[str, Callable[[], object]] = {
        "Lonja, statistics every 10 steps": lambda: ours(x, y, epochs=SPEED_EPOCHS).fit(),
        "Lonja, without statistics": lambda: silent(x, y).fit(),
        "NumPy by hand": peer(ByHand),
        **{name: peer(make) for name, make in peers().items()},
    }
    if "torch, eager" in found:
        found["torch, eager, with its fused Adam"] = peer(Torch, fused=True)
    return found


def speed(x: Any, y: Any) -> None:
    """Print steps a second, and what the statistics cost."""
    trainings, steps = contenders(x, y), SPEED_EPOCHS * len(x) // BATCH
    rates: dict[str, list[float]] = {name: [] for name in trainings}
    for turn in range(TURNS + 1):
        for name, work in trainings.items():
            rate = steps / seconds(work)
            if turn:  # the first warms up
                rates[name].append(rate)
    own = rates[next(iter(rates))]
    rows = [
        [name, spread(each, digits=0), spread([a / b for a, b in zip(own, each, strict=True)], digits=2)]
        for name, each in rates.items()
    ]
    head = ["64-128-64-10, batch 64, one thread", "steps/s", "Lonja is so many times as quick, turn by turn"]
    print(table(head, rows))
    print(f"\nCost of the statistics: {cost(x, y):.1f} % of the time.")


def cost(x: Any, y: Any) -> float:
    """Per cent of the time that the statistics take."""
    ratios = []
    for turn in range(COST_TURNS):
        pair: list[Trainer] = [silent(x, y), ours(x, y, epochs=SPEED_EPOCHS)]
        took = {made: seconds(made.fit) for made in (pair if turn % 2 else reversed(pair))}
        ratios.append(took[pair[1]] / took[pair[0]])
    return 100 * (statistics.median(ratios) - 1)


def accuracy(x: Any, y: Any) -> None:
    """Print the accuracy on 360 held-out digits, over seeds."""
    train, held = (x[:CUT], y[:CUT]), (x[CUT:], y[CUT:])
    found: dict[str, list[float]] = {"Lonja": []}
    verdicts = []
    for seed in range(5):
        made = ours(*train, seed=seed)
        made.stats.data = profile(train, held, classes=[str(i) for i in range(10)])
        verdicts.append(diagnose(made.fit()).health)
        found["Lonja"].append(100 * float((made.network.predict(held[0]).argmax(axis=1) == held[1]).mean()))
        for name, make in peers().items():
            peer = make(SIZES, epochs=EPOCHS, seed=seed)
            peer.fit(*train)
            found.setdefault(name, []).append(100 * float((peer.predict(held[0]) == held[1]).mean()))
    means = {name: statistics.mean(each) for name, each in found.items()}
    rows = [
        [name, f"{means[name]:.2f}", f"{means['Lonja'] - means[name]:+.2f}", spread(each, digits=2)]
        for name, each in found.items()
    ]
    print(
        "\n"
        + table([f"digits, {EPOCHS} epochs, 5 seeds", "mean accuracy, %", "Lonja's less it", "median"], rows)
    )
    print(f"\nVerdicts: {', '.join(verdicts)}.")


def regression() -> None:
    """Print error and time on the houses beside the others with the same settings."""
    made = split(houses(), validation=0.2, scale=True, seed=0)
    if made.validation is None:
        raise RuntimeError("no rows were held out")
    (x, y), (held, truth) = made.train, made.validation
    results: dict[str, list[tuple[float, float]]] = {}
    for seed in range(3):
        layers = [*(Dense(width, "relu", initializer="glorot") for width in HOUSES[1:-1]), Dense(1)]
        network = Network(8, layers, seed=seed)  # Glorot as scikit-learn's
        settings = Settings(epochs=20, batch=BATCH, seed=seed)
        own = Trainer(network, MeanSquaredError(), settings, train=(x, y), task="regression")
        took = seconds(own.fit)
        results.setdefault("Lonja", []).append((error(network.predict(held)[:, 0], truth), took))
        for name, make in peers().items():
            peer = make(HOUSES, epochs=20, seed=seed)
            took = seconds(lambda peer=peer: peer.fit(x, y[:, 0]))  # type: ignore[misc]
            results.setdefault(name, []).append((error(peer.predict(held), truth), took))
    rows = []
    for name, each in results.items():
        errors, times = zip(*each, strict=True)
        rows.append([name, spread(errors, digits=4), spread(times, digits=2)])
    head = ["houses (20,640 rows made here), 8-64-32-1, 20 epochs", "RMSE of the deviation", "seconds"]
    print("\n" + table(head, rows))


def error(said: Any, truth: Any) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.square(said - truth[:, 0]).mean()))


def main() -> None:
    """Print all tables."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # BLAS reads these when NumPy is imported, so a process of its own
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.training"], {**os.environ, **ONE_THREAD})
    borrow()
    warnings.simplefilter("ignore")  # scikit-learn tells that the epochs ran out, as they are meant to
    known = digits()
    # without scikit-learn's digits, noise of their shape: the speed is the same
    rng = np.random.default_rng(0)
    x, y = known or (rng.random((ROWS, 64), np.float32), rng.integers(0, 10, ROWS))
    speed(x[:ROWS], y[:ROWS])
    if known:
        accuracy(x, y)
    regression()
    if missing := {"scikit-learn", "torch, eager"} - peers().keys():
        print(f"\nNot installed (benchmarks/peers/install compute), so not measured: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
