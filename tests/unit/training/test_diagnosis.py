"""Networks made ill in one way each, and healthy ones that must not be called ill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.training.worlds import (
    World,
    blobs,
    counted,
    crossed,
    marked,
    moons,
    split,
    tailed,
    trained,
    trainer,
    uneven,
    waves,
)
from training.diagnosis import RULES, Verdict, diagnose
from training.layers import AnyLayer, BatchNorm, Dense, Dropout
from training.ops import Activation
from training.optimizers import Adam, AdamW, RmsProp, Sgd

HEALTHY = {"optimizer": Adam(rate=5e-3), "patience": 10}


def hidden(activation: Activation, *, outputs: int = 3, width: int = 16, depth: int = 2) -> list[AnyLayer]:
    return [*(Dense(width, activation) for _ in range(depth)), Dense(outputs)]


def verdict(world: World, layers: list[AnyLayer], **settings: Any) -> Verdict:
    return diagnose(trained(world, layers, **settings))


def finding(found: Verdict, rule: str) -> Any:
    """The finding of that rule; fails with all that was found where there is none."""
    assert rule in found.rules, found
    return next(each for each in found.findings if each.rule == rule)


@pytest.mark.parametrize("make", [blobs, waves])
def test_healthy_networks_get_a_clean_bill_over_50_seeds(make: Any) -> None:
    activations: tuple[Activation, ...] = ("relu", "tanh", "gelu", "leaky_relu", "sigmoid")
    alarms = []
    for seed in range(50):
        world = make(seed)
        layers = hidden(activations[seed % 5], outputs=world.outputs, depth=1 + seed % 2)
        found = verdict(world, layers, seed=seed, **HEALTHY)
        alarms += [(seed, each.rule, each.evidence) for each in found.findings]
    assert alarms == []


@pytest.mark.parametrize("make", [blobs, waves, moons, crossed, counted, uneven, marked, tailed])
def test_what_lonja_train_makes_of_sound_data_gets_a_clean_bill_over_50_seeds(make: Any) -> None:
    """What `lonja train` takes when nothing else is said, each optimizer in turn; every kind is learned."""
    # heavy tails under descent at one rate for all do kill units: that would be no false alarm
    optimizers = [Adam(), AdamW(), RmsProp(), Adam() if make is tailed else Sgd()]
    alarms, scores = [], []
    for seed in range(50):
        world = make(seed)
        layers: list[AnyLayer] = [Dense(64, "relu"), Dense(32, "relu"), Dense(world.outputs)]
        said = {"epochs": 100, "batch": 64, "patience": 20, "stats_every": 10}
        stats = trained(world, layers, seed=seed, optimizer=optimizers[seed % 4], **said)
        alarms += [(seed, each.rule, each.evidence) for each in diagnose(stats).findings]
        assert stats.final is not None
        scores.append(stats.final.validation_score)
    assert alarms == []
    assert np.mean(scores) > 0.75  # type: ignore[arg-type]


@pytest.mark.parametrize("extra", [BatchNorm(), Dropout(0.2)])
def test_batch_norm_and_dropout_are_no_illness(extra: AnyLayer) -> None:
    found = verdict(blobs(3), [Dense(16, "relu"), extra, Dense(16, "relu"), Dense(3)], **HEALTHY)
    assert found == Verdict("healthy", ())


def test_relus_that_begin_dead_are_found_in_their_layer() -> None:
    made = trainer(blobs(), hidden("relu"), optimizer=Sgd(rate=0.01))
    made.network.slots[1].values["bias"][...] = -30
    found = finding(diagnose(made.fit()), "dying-relu")
    assert found.severity == "ill"
    assert found.where == "layer 1 (dense 16→16, relu)"
    assert "16 of 16 units (100%) fired for no row" in found.evidence
    assert "dead from the start" in found.advice


def test_relus_that_die_of_the_rate_get_another_advice() -> None:
    found = finding(verdict(blobs(), hidden("relu"), optimizer=Sgd(rate=1.5)), "dying-relu")
    assert found.severity == "ill"
    assert "died while training: lower the learning rate" in found.advice


def test_deep_sigmoids_vanish() -> None:
    found = finding(
        verdict(blobs(), hidden("sigmoid", depth=9), optimizer=Sgd(rate=0.1)), "vanishing-gradients"
    )
    assert found.severity == "ill"
    assert found.where == "layer 0 (dense 6→16, sigmoid)"


def test_weights_begun_too_large_explode() -> None:
    made = trainer(waves(), hidden("relu", outputs=1, depth=4), optimizer=Sgd(rate=1e-9))
    made.network.values *= 10
    found = finding(diagnose(made.fit()), "exploding-gradients")
    assert found.severity == "ill"
    assert "clip gradients" in found.advice


def test_clipped_gradients_only_warn() -> None:
    world = waves()
    world.train[1][7] = 4000
    found = finding(
        verdict(world, hidden("tanh", outputs=1), clip_norm=1.0, stats_every=1), "exploding-gradients"
    )
    assert found.severity == "warning"
    assert "clipped to 1" in found.evidence


def test_a_loss_that_is_no_number_ends_the_training_and_is_told() -> None:
    stats = trained(waves(), hidden("relu", outputs=1), optimizer=Sgd(rate=1e4))
    found = finding(diagnose(stats), "not-finite")
    assert found.severity == "ill"
    assert f"at step {stats.nonfinite_step}" in found.evidence
    assert len(stats.epochs) < 30


def test_a_rate_too_high_throws_the_network_about() -> None:
    found = finding(verdict(blobs(), hidden("leaky_relu"), optimizer=Adam(rate=3.0)), "rate-too-high")
    assert found.severity == "ill"
    assert "rate 3 (Adam)" in found.evidence


def test_a_rate_too_low_moves_nothing() -> None:
    found = finding(verdict(blobs(), hidden("relu"), optimizer=Adam(rate=1e-7)), "rate-too-low")
    assert found.severity == "ill"
    assert "raise the learning rate" in found.advice


def test_a_large_network_on_few_noisy_rows_overfits() -> None:
    world = blobs(1, rows=120)
    rng = np.random.default_rng(0)
    world.train[1][::3] = rng.integers(0, 3, len(world.train[1][::3]))
    found = finding(
        verdict(world, hidden("relu", width=128), epochs=150, optimizer=Adam(rate=5e-3)), "overfitting"
    )
    assert found.severity == "ill"
    assert "stop early" in found.advice


def test_targets_that_nothing_tells_underfit() -> None:
    rng = np.random.default_rng(0)
    world = waves(rows=2000)
    rng.shuffle(world.train[1])
    found = finding(verdict(world, hidden("tanh", outputs=1, width=2), epochs=10), "underfitting")
    assert found.severity == "ill"


def test_tanh_with_large_weights_saturates() -> None:
    made = trainer(blobs(), hidden("tanh"))
    made.network.slots[0].values["weight"][...] *= 100
    found = finding(diagnose(made.fit()), "saturated-units")
    assert found.severity == "ill"
    assert found.where == "layer 0 (dense 6→16, tanh)"


def test_sigmoids_of_unscaled_inputs_saturate() -> None:
    world = blobs()
    world.train[0][...] *= 1000
    world.validation[0][...] *= 1000
    found = verdict(world, hidden("sigmoid"))
    assert finding(found, "saturated-units").severity == "ill"
    assert finding(found, "not-scaled").severity == "ill"


def test_columns_far_apart_are_not_scaled() -> None:
    world = blobs()
    for x, _ in (world.train, world.validation):
        x[:, 2] *= 1e-3
    found = finding(verdict(world, hidden("relu"), **HEALTHY), "not-scaled")
    assert found.severity == "warning"
    assert "column 2" in found.where


def test_columns_that_are_nearly_always_zero_need_no_scaling() -> None:
    world = blobs()
    for x, _ in (world.train, world.validation):
        x[:, 2] = 0
        x[::50, 2] = 0.01
    assert "not-scaled" not in verdict(world, hidden("relu"), **HEALTHY).rules


def test_a_rare_class_warns_and_one_never_recognised_is_ill() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 4)).astype(np.float32)
    y = (rng.random(1200) < 0.04).astype(np.int64)
    known = x.copy()
    known[:, 0] += 4 * y
    warned = verdict(split(known, y, "classification", ("no", "yes")), hidden("relu", outputs=2), **HEALTHY)
    assert finding(warned, "class-imbalance").severity == "warning"
    unknown = verdict(split(x, y, "classification", ("no", "yes")), hidden("relu", outputs=2), epochs=5)
    found = finding(unknown, "class-imbalance")
    assert (found.severity, found.where) == ("ill", "class yes")
    assert "0% of its rows are recognised" in found.evidence


def test_a_column_made_from_the_target_leaks() -> None:
    world = blobs(2, rows=800)
    for x, y in (world.train, world.validation):
        x[:, 4] = y
    found = finding(verdict(world, hidden("relu"), **HEALTHY), "label-leakage")
    assert found.where == "column column 4"
    assert "alone tells 100.0% of the target" in found.evidence


def test_a_target_in_other_units_leaks_into_regression() -> None:
    world = waves()
    for x, y in (world.train, world.validation):
        x[:, 1] = 1.8 * y
    assert "label-leakage" in verdict(world, hidden("relu", outputs=1), **HEALTHY).rules


def test_repeated_rows_leak_into_validation() -> None:
    world = blobs()
    world.validation[0][:50] = world.train[0][:50]
    found = finding(verdict(world, hidden("relu"), **HEALTHY), "label-leakage")
    assert found.evidence == "50% of them stand among the training rows too"


def test_every_finding_says_where_why_and_what_to_do() -> None:
    made = trainer(waves(), hidden("relu", outputs=1, depth=4), optimizer=Sgd(rate=1e-9))
    made.network.values *= 10
    for each in diagnose(made.fit()).findings:
        assert all((each.where, each.evidence, each.threshold, each.source, each.advice)), each


def test_the_verdict_is_that_of_the_worst_finding() -> None:
    ill = verdict(blobs(), hidden("relu"), optimizer=Adam(rate=1e-7))
    assert ill.health == "ill"
    assert ill.findings[0].severity == "ill"
    assert ill.sentence().startswith("ill: rate-too-low in network")


def test_rules_without_their_numbers_say_nothing() -> None:
    stats = trainer(blobs(), hidden("relu")).stats
    stats.data = None
    assert [list(rule(stats)) for rule in RULES] == [[]] * len(RULES)
