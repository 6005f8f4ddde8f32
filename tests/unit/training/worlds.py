"""Small data to train on, and one way to train: what the tests of this folder share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.layers import AnyLayer
from training.losses import CrossEntropy, Loss, MeanSquaredError
from training.network import Network
from training.ops import Array
from training.profile import profile
from training.settings import Settings
from training.stats import Task, TrainingStats
from training.trainer import Trainer


@dataclass(frozen=True)
class World:
    """Rows split in two."""

    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    task: Task
    classes: tuple[str, ...] | None = None

    @property
    def outputs(self) -> int:
        return len(self.classes) if self.classes else 1


def split(x: Array, y: Array, task: Task, classes: tuple[str, ...] | None = None) -> World:
    cut = len(x) * 3 // 4
    return World((x[:cut], y[:cut]), (x[cut:], y[cut:]), task, classes)


def blobs(seed: int = 0, *, rows: int = 400, classes: int = 3, columns: int = 6) -> World:
    """Overlapping clouds, one a class."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(0, 1.5, (classes, columns))
    y = rng.integers(0, classes, rows)
    x = (middles[y] + rng.normal(size=(rows, columns))).astype(np.float32)
    return split(x, y, "classification", tuple(f"class {i}" for i in range(classes)))


def waves(seed: int = 0, *, rows: int = 400, columns: int = 4) -> World:
    """A smooth function of the columns with a little noise, mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    weights = rng.normal(size=columns)
    y = np.tanh(x @ weights / np.linalg.norm(weights)) + 0.3 * x[:, 0] + 0.1 * rng.normal(size=rows)
    return split(x, ((y - y.mean()) / y.std()).astype(np.float32), "regression")


def moons(seed: int = 0, *, rows: int = 400) -> World:
    """Two half circles that reach into each other."""
    rng = np.random.default_rng(seed)
    y, turn = rng.integers(0, 2, rows), rng.uniform(0, np.pi, rows)
    x = np.column_stack([np.cos(turn) + y - 0.5, np.where(y, 0.25 - np.sin(turn), np.sin(turn) - 0.25)])
    return _standard(x + rng.normal(0, 0.15, x.shape), y)


def crossed(seed: int = 0, *, rows: int = 400) -> World:
    """Exclusive or of two signs, which no column tells alone."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (rows, 2))
    return _standard(x, (x[:, 0] * x[:, 1] > 0).astype(np.int64))


def counted(seed: int = 0, *, rows: int = 400) -> World:
    """Whole numbers, small ones more often, in three classes by their sum."""
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.uniform(0.5, 8, (rows, 4)))
    return _standard(x, np.digitize(x.sum(axis=1), [13, 20]))


def uneven(seed: int = 0, *, rows: int = 600) -> World:
    """Two overlapping classes, one of a quarter of the rows."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.25).astype(np.int64)
    return _standard(rng.normal(size=(rows, 5)) + 1.5 * y[:, None] * np.array([1, 1, 0, 0, 0]), y)


def marked(seed: int = 0, *, rows: int = 600) -> World:
    """A number that depends on two marks (a one among zeros) and on a number."""
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, 5, rows), rng.integers(0, 3, rows)
    x = np.column_stack([np.eye(5)[one], np.eye(3)[two], rng.normal(size=rows)])
    return _standard(x, 0.5 * one + np.sin(two) + x[:, -1] + 0.2 * rng.normal(size=rows), "regression")


def tailed(seed: int = 0, *, rows: int = 600) -> World:
    """Columns with a few values far above the others."""
    rng = np.random.default_rng(seed)
    x = rng.lognormal(0, 0.8, (rows, 4))
    return _standard(x, np.log(x[:, 0] * x[:, 1] + 1) + 0.1 * rng.normal(size=rows), "regression")


def _standard(x: Array, y: Array, task: Task = "classification") -> World:
    """Columns (and a number that is asked for) with mean 0 and deviation 1."""
    scaled = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    if task == "regression":
        return split(scaled, ((y - y.mean()) / y.std()).astype(np.float32), task)
    return split(scaled, y, task, tuple(f"class {i}" for i in range(int(y.max()) + 1)))


def trainer(
    world: World, layers: Sequence[AnyLayer], *, loss: Loss | None = None, seed: int = 0, **settings: Any
) -> Trainer:
    network = Network(world.train[0].shape[1], layers, seed=seed)
    chosen = loss or (MeanSquaredError() if world.task == "regression" else CrossEntropy())
    made = Trainer(
        network,
        chosen,
        Settings(**{"epochs": 30, "batch": 32, "stats_every": 5, "seed": seed, **settings}),
        train=world.train,
        validation=world.validation,
        task=world.task,
    )
    made.stats.data = profile(world.train, world.validation, classes=world.classes)
    return made


def trained(world: World, layers: Sequence[AnyLayer], **settings: Any) -> TrainingStats:
    return trainer(world, layers, **settings).fit()
