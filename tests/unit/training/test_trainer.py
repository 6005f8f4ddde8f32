"""Training: batches without copies, every optimizer and schedule, stopping, clipping, going on."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.worlds import blobs, trained, trainer, waves
from training.batches import Batches, Rows
from training.errors import CheckpointInvalid, PlanInvalid
from training.final import final_stats, score
from training.layers import BatchNorm, Dense, Dropout
from training.losses import BinaryCrossEntropy, CrossEntropy, Huber, MeanSquaredError
from training.network import Network
from training.ops import FLOAT64
from training.optimizers import Adam, AdamW, Optimizer, RmsProp, Sgd
from training.recorder import layer_stats
from training.schedules import SHAPES, Schedule
from training.settings import Settings
from training.stats import Progress

LAYERS = [Dense(16, "relu"), BatchNorm(), Dropout(0.1), Dense(3)]


def rows(count: int) -> Rows:
    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    return Rows(x, x[:, :1].copy())


def test_batches_are_views_that_are_filled_anew_each_epoch() -> None:
    batches = Batches(rows(10), batch=4, seed=0)
    first = batches.views
    batches.shuffle()
    seen = np.concatenate([x for x, _ in batches.views])
    batches.shuffle()
    again = np.concatenate([x for x, _ in batches.views])
    assert batches.views is first
    for x, targets in batches.views:
        assert np.shares_memory(x, batches.x)
        assert np.shares_memory(targets, batches.targets)
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(x[:, :1], targets)
    assert sorted(seen[:, 0]) == sorted(again[:, 0]) == list(range(0, 20, 2))
    assert (seen != again).any()
    assert [len(x) for x, _ in batches.views] == [4, 4, 2]


def test_a_single_row_left_over_is_left_out() -> None:
    assert [len(x) for x, _ in Batches(rows(9), batch=4, seed=0).views] == [4, 4]
    assert [len(x) for x, _ in Batches(rows(1), batch=4, seed=0).views] == [1]


def test_the_layers_are_given_the_batch_itself() -> None:
    made = trainer(blobs(), LAYERS)
    given = []
    bound = made.network.bound(32)
    forward = bound.forward

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(bound, name)

        def forward(self, x: Any) -> Any:
            given.append(x)
            return forward(x)

    made.network._passes[32] = Watched()  # type: ignore[assignment]
    made.batches.shuffle()
    for _ in made.run_steps(lambda _: None):
        pass
    assert given
    assert all(np.shares_memory(x, made.batches.x) for x in given)


@pytest.mark.parametrize(
    "optimizer",
    [Sgd(rate=0.05), Sgd(rate=0.1, momentum=0), Adam(rate=5e-3), AdamW(rate=5e-3), RmsProp(rate=2e-3)],
)
def test_every_optimizer_learns(optimizer: Optimizer) -> None:
    final = trained(blobs(), [Dense(16, "relu"), Dense(3)], optimizer=optimizer).final
    assert final is not None
    assert final.score > 0.9
    assert final.validation_score is not None
    assert final.validation_score > 0.85


@pytest.mark.parametrize("loss", [MeanSquaredError(), Huber()])
def test_numbers_are_learned(loss: Any) -> None:
    final = trained(
        waves(), [Dense(16, "tanh"), Dense(1)], loss=loss, optimizer=Adam(rate=0.01), epochs=60
    ).final
    assert final is not None
    assert final.score > 0.9


def test_two_classes_are_learned_by_one_output() -> None:
    world = blobs(classes=2)
    made = trainer(world, [Dense(8, "relu"), Dense(1)], loss=BinaryCrossEntropy(), optimizer=Adam(rate=0.01))
    made.task = "binary"
    final = made.fit().final
    assert final is not None
    assert final.score > 0.9
    assert final.recalls is not None
    classes = np.bincount(world.validation[1], minlength=2)
    share = sum(r * n for r, n in zip(final.recalls, classes, strict=True) if r is not None) / classes.sum()
    assert share == pytest.approx(final.validation_score)


@pytest.mark.parametrize("shape", SHAPES)
def test_schedules_begin_at_the_rate_and_never_rise(shape: Any) -> None:
    shares = [Schedule(shape).share(step, 100) for step in range(100)]
    assert shares[0] == 1
    assert all(a >= b > 0 for a, b in pairwise(shares))
    assert (shares[-1] < 0.1) == (shape != "constant")


def test_a_warm_up_rises_in_a_line_to_the_rate() -> None:
    shares = [Schedule("cosine", warmup=0.1).share(step, 100) for step in range(100)]
    np.testing.assert_allclose(shares[:10], np.arange(1, 11) / 10)
    assert shares[10] == 1


def test_training_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    world = blobs(1, rows=120)
    made = trainer(world, [Dense(64, "relu"), Dense(3)], epochs=400, patience=5, optimizer=Adam(rate=0.01))
    stats = made.fit()
    assert stats.stopped_early
    assert stats.restored_best
    assert len(stats.epochs) == (stats.best_epoch or 0) + 5
    losses = [epoch.validation_loss for epoch in stats.epochs]
    assert stats.final is not None
    assert stats.final.validation_loss == min(loss for loss in losses if loss is not None)


def test_gradients_are_shortened_to_the_norm_but_sampled_before() -> None:
    moved = []
    for clip in (None, 1e-3):
        made = trainer(blobs(), [Dense(3)], optimizer=Sgd(rate=1.0, momentum=0), clip_norm=clip)
        before = made.network.values.copy()
        made.batches.shuffle()
        next(made.run_steps(lambda _: None))
        moved.append(float(np.linalg.norm(made.network.values - before)))
        assert made.stats.grad_norm[0] > 0.1
    assert moved[0] > 0.1
    assert moved[1] == pytest.approx(1e-3, rel=1e-3)


def test_the_same_seed_trains_to_the_same_bits() -> None:
    values = [trainer(blobs(), LAYERS, seed=5, epochs=3) for _ in range(2)]
    for made in values:
        made.fit()
    np.testing.assert_array_equal(values[0].network.values, values[1].network.values)


@pytest.mark.parametrize("optimizer", [Sgd(rate=0.05), Adam(), AdamW(), RmsProp()])
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path: Path, optimizer: Optimizer) -> None:
    settings = {"optimizer": optimizer, "epochs": 8, "schedule": Schedule("cosine"), "patience": 6}
    whole = trainer(blobs(), LAYERS, **settings)
    expected = whole.fit()

    path = tmp_path / "checkpoint.npz"
    stopped = trainer(blobs(), LAYERS, checkpoint=path, checkpoint_every=1, **settings)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.fit(interrupt)
    again = trainer(blobs(), LAYERS, **settings)
    again.resume(path)
    assert again.epoch == 3
    stats = again.fit()
    np.testing.assert_array_equal(again.network.values, whole.network.values)
    np.testing.assert_array_equal(again.network.state, whole.network.state)
    assert stats.loss == expected.loss
    assert stats.final == expected.final
    assert [epoch.validation_loss for epoch in stats.epochs] == [e.validation_loss for e in expected.epochs]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_quick_epochs_do_not_wait_for_the_disk_but_the_last_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    from training import checkpoint

    kept: list[int] = []
    ticks = iter(range(10**6))
    monkeypatch.setattr(checkpoint, "save", lambda made, path: kept.append(made.epoch))
    monkeypatch.setattr("training.trainer.perf_counter", ticks.__next__)
    trainer(blobs(), [Dense(3)], epochs=60, batch=400, checkpoint=tmp_path / "c", stats_every=1000).fit()
    assert kept[0] == 1
    assert kept[-1] == 60
    assert 2 < len(kept) < 20


def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "checkpoint.npz"
    trainer(blobs(), LAYERS, checkpoint=path, epochs=1).fit()
    kept = path.read_bytes()

    def fails(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OSError, match="disk full"):
        trainer(blobs(), LAYERS, checkpoint=path, epochs=1).fit()
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"optimizer": Adam(rate=0.5)}, r"changed since: optimizer\."),
        ({"batch": 16}, r"changed since: batch\."),
        ({"seed": 9}, r"changed since: settings\."),
        ({"schedule": Schedule("cosine", warmup=0.1)}, r"changed since: schedule\."),
        ({"epochs": 2}, r"changed since: epochs \(its schedule depends on them\)\."),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = tmp_path / "checkpoint.npz"
    asked = {"schedule": Schedule("cosine"), "epochs": 1}
    trainer(blobs(), LAYERS, checkpoint=path, **asked).fit()
    with pytest.raises(CheckpointInvalid, match=words):
        trainer(blobs(), LAYERS, **{**asked, **changed}).resume(path)


def test_a_checkpoint_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    trainer(blobs(0), LAYERS, checkpoint=path, epochs=1).fit()
    with pytest.raises(CheckpointInvalid, match=r"changed since: data\."):
        trainer(blobs(1), LAYERS).resume(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match="damaged"):
        trainer(blobs(), LAYERS).resume(path)
    with pytest.raises(CheckpointInvalid, match="there is no checkpoint"):
        trainer(blobs(), LAYERS).resume(tmp_path / "missing.npz")


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    np.savez(path, position=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointInvalid):
        trainer(blobs(), LAYERS).resume(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"optimizer": Sgd(rate=-1)}, "learning rate must be above 0"),
        ({"optimizer": Sgd(rate=math.nan)}, "learning rate must be above 0"),
        ({"clip_norm": 0}, "clip_norm must be above 0"),
        ({"patience": 0}, "patience must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanInvalid, match=words):
        Settings(**settings)


def test_targets_that_do_not_fit_the_loss_are_refused() -> None:
    kind = np.dtype(np.float32)
    with pytest.raises(PlanInvalid, match="classes are 0 to 3, but the network has 3 outputs"):
        CrossEntropy().prepare(np.array([0, 3]), 3, dtype=kind)
    with pytest.raises(PlanInvalid, match="class numbers"):
        CrossEntropy().prepare(np.array([0.5]), 3, dtype=kind)
    with pytest.raises(PlanInvalid, match="has 2 weights, but the network has 3 outputs"):
        CrossEntropy(weights=(1, 2)).prepare(np.array([0, 1]), 3, dtype=kind)
    with pytest.raises(PlanInvalid, match="must be finite"):
        CrossEntropy(weights=(1, math.inf))
    with pytest.raises(PlanInvalid, match="from 0 to 1"):
        BinaryCrossEntropy().prepare(np.array([2.0]), 1, dtype=kind)
    with pytest.raises(PlanInvalid, match="one column an output"):
        MeanSquaredError().prepare(np.zeros((4, 2)), 3, dtype=kind)


def test_classes_stay_one_number_a_row_until_the_batch() -> None:
    made = trainer(blobs(classes=3, rows=4000), [Dense(8, "relu"), Dense(1000)])
    assert made.train.targets.shape == made.batches.targets.shape == (3000,)
    assert all(np.shares_memory(targets, made.batches.targets) for _, targets in made.batches.views)


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_one_output_gives_what_two_give(share: float) -> None:
    """Loss, constant answer's loss and score of (0, z) under softmax are those of z under sigmoid."""
    rng = np.random.default_rng(0)
    z, labels = rng.normal(0, 3, (500, 1)), (rng.random(500) < share).astype(np.int64)
    both = np.column_stack([np.zeros(500), z])
    for weights in (None, (0.5, 7.0)):
        one, two = BinaryCrossEntropy(weights), CrossEntropy(weights)
        targets = one.prepare(labels, 1, dtype=np.dtype(np.float64))
        classes = two.prepare(labels, 2, dtype=np.dtype(np.float64))
        assert one.value(z, targets, ops=FLOAT64) == pytest.approx(two.value(both, classes, ops=FLOAT64))
        grads = [
            loss.gradient(outputs, wanted, ops=FLOAT64, out=np.empty_like(outputs))
            for loss, outputs, wanted in ((one, z, targets), (two, both, classes))
        ]
        np.testing.assert_allclose(grads[0][:, 0], grads[1][:, 1], rtol=1e-9)
        nets = (Network(1, [Dense(1)], dtype=np.float64), Network(1, [Dense(2)], dtype=np.float64))
        finals = [
            final_stats(net, loss, Rows(z, wanted), None, task=task)
            for net, loss, wanted, task in zip(
                nets, (one, two), (targets, classes), ("binary", "classification"), strict=True
            )
        ]
        assert finals[0] is not None
        assert finals[1] is not None
        assert finals[0].baseline_loss == pytest.approx(finals[1].baseline_loss)
    assert score(z, targets, task="binary") == score(both, classes, task="classification")


def test_weights_of_classes_make_the_rare_one_count() -> None:
    outputs = np.log(np.array([[0.9, 0.1], [0.9, 0.1]]))
    loss = CrossEntropy(weights=(0.5, 5.0))
    rows = loss.prepare(np.array([0, 1]), 2, dtype=np.dtype(np.float64))
    expected = -(0.5 * math.log(0.9) + 5 * math.log(0.1)) / 2
    assert loss.value(outputs, rows, ops=FLOAT64) == pytest.approx(expected)
    assert CrossEntropy(weights=np.array([0.5, 5.0])) == loss  # type: ignore[arg-type]


def test_statistics_are_sampled_as_often_as_asked() -> None:
    stats = trained(blobs(), LAYERS, epochs=4, batch=32, stats_every=5)
    steps = 4 * 10  # 300 rows in batches of 32
    assert stats.steps == sorted({*range(0, steps, 5), *range(0, steps, 10)})
    assert len(stats.loss) == len(stats.layers[0].grad_norm) == len(stats.steps)
    assert stats.alive_steps == stats.steps[::4]
    assert len(stats.layers[0].alive) == len(stats.alive_steps)
    assert len(stats.layers[0].deep_update_ratio) == len(stats.deep_steps)
    assert [layer.name for layer in stats.layers] == [
        "layer 0 (dense 6→16, relu)",
        "layer 1 (batchnorm 16)",
        "layer 3 (dense 16→3)",
    ]


def test_sampled_numbers_are_what_they_say() -> None:
    made = trainer(blobs(), [Dense(16, "relu"), Dense(3)], stats_every=1, optimizer=Sgd(rate=0.1, momentum=0))
    made.network.slots[0].values["bias"][:4] = -100
    made.batches.shuffle()
    before = made.network.values.copy()
    next(made.run_steps(lambda _: None))
    span = made.network.spans[0]
    part = slice(span.start, span.stop)
    layer = made.stats.layers[0]
    assert layer.alive == [0.75]
    assert layer.grad_norm[0] == pytest.approx(np.linalg.norm(made.network.grads[part]), rel=1e-5)
    moved = np.linalg.norm((made.network.values - before)[part]) / np.linalg.norm(before[part])
    assert layer.deep_update_ratio[0] == pytest.approx(moved, rel=1e-4)
    made.fit()
    assert layer.dead == 4


def test_a_batch_larger_than_all_rows_takes_no_memory_for_the_others() -> None:
    assert trained(blobs(), LAYERS, epochs=2, batch=10**12).steps == [0, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dead_and_sparse_units_are_counted_over_all_rows(dtype: str) -> None:
    count = 3000  # several parts
    x = (np.arange(count) / count)[:, None]
    network = Network(1, [Dense(4, "relu"), Dense(2)], seed=0, dtype=dtype)
    network.slots[0].values["weight"][...] = 1
    # units that fire for no row, the last one only, the last 1 %, and all
    network.slots[0].values["bias"][...] = [-1, -(count - 1.5) / count, -(count - 30.5) / count, 1]
    loss = CrossEntropy()
    targets = np.arange(count) % 2
    judged = Rows.prepared(x, targets, network=network, loss=loss, what="training")
    stats = layer_stats(network)
    final = final_stats(network, loss, judged, None, task="classification", layers=stats)
    assert final is not None
    outputs = network.predict(x)
    assert (final.score, final.rows) == (score(outputs, judged.targets, task="classification"), count)
    assert (stats[0].dead, stats[0].sparse, stats[1].dead) == (1, 1, None)
