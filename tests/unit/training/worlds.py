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
