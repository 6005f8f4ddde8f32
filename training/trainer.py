"""Mini-batch training: rows in, a trained network and its statistics out.

Once an epoch the rows are copied in a new order into arrays that stay; batches are views of these, made once.
Nothing else is copied or allocated in a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from training import checkpoint
from training.batches import Batches, Rows
from training.final import evaluate, final_stats
from training.losses import Loss
from training.network import Network
from training.ops import Array, ops_for
from training.optimizers import clip_to
from training.recorder import Recorder
from training.settings import Settings
from training.stats import EpochStats, Progress, Task, TrainingStats

WRITE_SHARE: Final = 20
"""Between two checkpoints lies so many times the time that the first took."""
TOLD_EVERY: Final = 0.1
"""Seconds between calls of `on_progress` within an epoch."""


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
        self.train = Rows.prepared(*train, network=network, loss=loss, what="training")
        self.validation = (
            None
            if validation is None
            else Rows.prepared(*validation, network=network, loss=loss, what="validation")
        )
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
        spare = np.empty((len(self.batches.views[0][0]), network.outputs), network.dtype)
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
                clip_to(grads, clip)
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
        stats.final = final_stats(
            network, self.loss, self.train, self.validation, task=self.task, layers=stats.layers
        )

    def _progress(self) -> Progress:
        return Progress(self.epoch, self.settings.epochs, self.step, self.steps, self.stats)
