"""Mini-batch training: rows in, a trained network and its statistics out.

Once an epoch the rows are copied in a new order into arrays that stay; batches are views of these, made once.
Nothing else is copied or allocated in a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from training import checkpoint
from training.errors import PlanInvalid
from training.final import Rows, count_dead, evaluate, final_stats
from training.losses import Loss
from training.network import Network
from training.ops import Array, ops_for
from training.optimizers import Adam, Optimizer
from training.recorder import Recorder
from training.schedules import Schedule
from training.stats import EpochStats, Task, TrainingStats

WRITE_SHARE: Final = 20
"""Between two checkpoints lies so many times the time that the first took."""
TOLD_EVERY: Final = 0.1
"""Seconds between calls of `on_progress` within an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train.

    Parameters
    ----------
    clip_norm : gradients longer than this, over all parameters, are shortened to it (Pascanu et al. 2013).
    patience : epochs without a better validation loss before training stops; the best network is kept then.
        None trains to the end and keeps the last.
    min_delta : how much better counts as better.
    stats_every : steps between samples of the statistics.
    seed : of the order of the rows.
    checkpoint : file that is replaced after every `checkpoint_every` epochs and at the end; left out, after
        epochs that are so far apart that writing takes a twentieth of the time.
    """

    epochs: int = 50
    batch: int = 64
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Schedule)
    clip_norm: float | None = None
    patience: int | None = None
    min_delta: float = 0.0
    stats_every: int = 10
    seed: int = 0
    checkpoint: Path | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "stats_every", "checkpoint_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise PlanInvalid(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.optimizer.rate) and self.optimizer.rate > 0):
            raise PlanInvalid(f"the learning rate must be above 0, not {self.optimizer.rate}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise PlanInvalid(f"clip_norm must be above 0, not {self.clip_norm}")
        if self.patience is not None and self.patience < 1:
            raise PlanInvalid(f"patience must be at least 1 epoch, not {self.patience}")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is; `stats` grows while it runs."""

    epoch: int
    epochs: int
    step: int
    steps: int
    stats: TrainingStats


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


class Trainer:
    """Trains one network on one set of rows.

    Parameters
    ----------
    train, validation : x [n, inputs] and targets that fit the loss (class numbers [n], numbers [n, outputs]).
    stats : with `data` filled in, where the caller profiled it.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        settings: Settings,
        *,
        train: tuple[Array, Array],
        validation: tuple[Array, Array] | None = None,
        task: Task = "classification",
    ) -> None:
        self.network, self.loss, self.settings, self.task = network, loss, settings, task
        self.train = self._prepared(*train, what="training")
        self.validation = self._prepared(*validation, what="validation") if validation is not None else None
        self.batches = Batches(self.train, batch=settings.batch, seed=settings.seed)
        self.optimizer = settings.optimizer.bind(network.values, ops_for(network.dtype))
        self.steps = settings.epochs * len(self.batches.views)
        self.recorder = Recorder(network, task=task, every=settings.stats_every, steps=self.steps)
        self.step = self.epoch = self.stale = 0
        self.kept_epoch, self._next_write = 0, 0.0
        self.best_loss = math.inf
        self.best = (network.values.copy(), network.state.copy())
        stats = self.stats
        stats.optimizer, stats.rate = type(settings.optimizer).__name__, settings.optimizer.rate
        stats.steps_planned, stats.clipped_norm = self.steps, settings.clip_norm

    @property
    def stats(self) -> TrainingStats:
        return self.recorder.stats

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of this same training. Raises `CheckpointInvalid`."""
        checkpoint.restore(self, path)

    def continue_with(self, stats: TrainingStats) -> None:
        """Take over a checkpoint's statistics."""
        stats.steps_planned = self.steps
        self.kept_epoch = self.epoch
        self.recorder = Recorder(
            self.network, task=self.task, every=self.settings.stats_every, steps=self.steps, stats=stats
        )

    def fit(self, on_progress: Callable[[Progress], None] | None = None) -> TrainingStats:
        """Train to the end, or until the loss is not finite or, with `patience`, gets no better."""
        told = on_progress or (lambda _: None)
        while self.epoch < self.settings.epochs and not self._over():
            self._run_epoch(told)
            if self.stats.nonfinite_step is not None:
                break
            self._keep()
            told(self._progress())
        if self.stats.nonfinite_step is None:
            self._keep(last=True)
        self._finish()
        return self.stats

    def _keep(self, *, last: bool = False) -> None:
        """Write the checkpoint, where there is one and it is time to."""
        path, every = self.settings.checkpoint, self.settings.checkpoint_every
        if path is None or self.kept_epoch == self.epoch:
            return
        began = perf_counter()
        due = began >= self._next_write if every is None else self.epoch % every == 0
        if not (due or last):
            return
        checkpoint.save(self, path)
        self.kept_epoch = self.epoch
        ended = perf_counter()
        self._next_write = ended + WRITE_SHARE * (ended - began)

    def _over(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.stale >= patience

    def _run_epoch(self, told: Callable[[Progress], None]) -> None:
        began = perf_counter()
        first = len(self.stats.loss)
        self.batches.shuffle()
        for _ in self.run_steps(told):
            pass
        if self.stats.nonfinite_step is not None:
            return
        self.epoch += 1
        sampled = self.stats.loss[first:]
        self._end_epoch(sum(sampled) / len(sampled), perf_counter() - began)

    def run_steps(self, told: Callable[[Progress], None]) -> Iterator[int]:
        """One epoch's steps over the batches as they are, each yielded when it is done."""
        network, loss, settings, optimizer = self.network, self.loss, self.settings, self.optimizer
        values, grads, ops = network.values, network.grads, ops_for(network.dtype)
        recorder, every, clip = self.recorder, settings.stats_every, settings.clip_norm
        deep_every = recorder.deep_every
        short = len(self.batches.views) < every  # an epoch has at least one sample
        share, rate, steps = settings.schedule.share, settings.optimizer.rate, self.steps
        spare = np.empty((settings.batch, network.outputs), network.dtype)
        last_told = perf_counter()
        for number, (x, targets) in enumerate(self.batches.views):
            step = self.step
            now = rate * share(step, steps)
            bound = network.bound(len(x))
            outputs = bound.forward(x)
            bound.backprop(loss.gradient(outputs, targets, ops=ops, out=spare[: len(x)]))
            sampled = step % every == 0 or (number == 0 and short)
            if sampled and not recorder.light(
                bound, step=step, loss=loss.value(outputs, targets, ops=ops), rate=now
            ):
                return
            if clip is not None:
                _clip(grads, clip)
            if step % deep_every == 0:
                recorder.deep(
                    bound,
                    step=step,
                    update=lambda at=now, n=step + 1: optimizer(values, grads, rate=at, number=n),  # type: ignore[misc]
                )
            else:
                optimizer(values, grads, rate=now, number=step + 1)
            self.step = step + 1
            if sampled and perf_counter() - last_told > TOLD_EVERY:
                last_told = perf_counter()
                told(self._progress())
            yield step

    def _end_epoch(self, loss: float, seconds: float) -> None:
        value, score = (
            (None, None)
            if self.validation is None
            else evaluate(self.network, self.loss, self.validation, task=self.task)
        )
        watched = loss if value is None else value
        if not math.isfinite(watched):
            self.stats.nonfinite_step, self.stats.nonfinite_what = self.step, "validation loss"
            return
        self.stats.epochs.append(
            EpochStats(
                epoch=self.epoch,
                step=self.step,
                loss=loss,
                validation_loss=value,
                validation_score=score,
                seconds=seconds,
            )
        )
        if watched < self.best_loss - self.settings.min_delta:
            self.best_loss, self.stale = watched, 0
            self.stats.best_epoch = self.epoch
            np.copyto(self.best[0], self.network.values)
            np.copyto(self.best[1], self.network.state)
        else:
            self.stale += 1

    def _finish(self) -> None:
        stats, network = self.stats, self.network
        stats.stopped_early = self._over() and self.epoch < self.settings.epochs
        broken = stats.nonfinite_step is not None
        if stats.best_epoch is not None and (self.settings.patience is not None or broken):
            np.copyto(network.values, self.best[0])
            np.copyto(network.state, self.best[1])
            stats.restored_best = True
        stats.final = final_stats(network, self.loss, self.train, self.validation, task=self.task)
        if stats.final is not None:
            count_dead(network, stats.layers, self.train.x)

    def _progress(self) -> Progress:
        return Progress(self.epoch, self.settings.epochs, self.step, self.steps, self.stats)

    def _prepared(self, x: Array, targets: Array, *, what: str) -> Rows:
        network = self.network
        if x.ndim != 2 or x.shape[1] != network.inputs or len(x) != len(targets) or not len(x):
            raise PlanInvalid(
                f"the {what} rows must be [n, {network.inputs}] with a target each and n at least 1, "
                f"not {x.shape} with {len(targets)} targets"
            )
        prepared = self.loss.prepare(targets, network.outputs, dtype=network.dtype)
        return Rows(np.ascontiguousarray(x, dtype=network.dtype), prepared)


def _clip(grads: Array, longest: float) -> None:
    """Shorten the gradient to `longest` in place, if it is longer."""
    length = math.sqrt(float(np.vdot(grads, grads)))
    if length > longest:
        np.multiply(grads, grads.dtype.type(longest / length), out=grads)
