"""From a configuration to files, and the report among them."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from bare_models.network import Network as BareNetwork
from bare_models.reader import read as read_bare
from cython_ops import softmax
from node.models.manifest import parse_draft
from tests.unit.training.worlds import blobs, waves
from training.config import convert, layers, loss, read, settings
from training.errors import PlanInvalid
from training.layers import Activate, BatchNorm, Dense, Dropout
from training.losses import CrossEntropy
from training.run import Outcome, Run
from training.tables import load


def table(folder: Path, *, regression: bool = False, name: str = "flowers") -> Path:
    world = waves() if regression else blobs()
    x = np.concatenate([world.train[0], world.validation[0]])
    y = np.concatenate([world.train[1], world.validation[1]])
    target = y if regression else np.array(["<b>rose</b>", "tulip", "lily"])[y]
    path = folder / f"{name}.npz"
    np.savez(path, **{f"c{i}": x[:, i] for i in range(x.shape[1])}, kind=target)  # type: ignore[arg-type]
    return path


def ran(folder: Path, **more: Any) -> Outcome:
    members = {
        "data": {"file": str(table(folder, **more)), "target": "kind"},
        "training": {"epochs": 40, "rate": 0.005},
    }
    return Run(convert(members, name="test"), folder / "out").train()


def test_a_run_leaves_model_manifests_and_reports(tmp_path: Path) -> None:
    outcome = ran(tmp_path)
    assert outcome.verdict.health == "healthy"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "checkpoint.npz", "metadata.json", "metadata.onnx.json", "model.onnx", "model.safetensors",
        "report.html", "report.json", "report.png", "weights.bin",
    ]  # fmt: skip
    assert outcome.exported is not None
    draft = parse_draft(outcome.exported.manifest.read_bytes())
    assert (draft.name, draft.model.model_id) == ("flowers", "flowers")
    assert re.search(r"accuracy 0\.\d{3} on rows it did not learn from", draft.description)


def test_the_page_is_one_file_that_fetches_nothing_and_escapes_names(tmp_path: Path) -> None:
    page = ran(tmp_path).page.read_text(encoding="utf-8")
    assert "<b>rose" not in page
    assert "&lt;b&gt;rose" in page
    assert page.count("<svg") == 7
    assert "healthy, nothing found" in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page

    fetched = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            fetched.extend(value for name, value in attrs if name in {"src", "href"})
            assert tag not in {"script", "link", "img", "iframe"}

    Links().feed(page)
    assert fetched == []


def test_the_picture_is_a_png_with_something_on_it(tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(ran(tmp_path).picture.read_bytes()))
    assert picture.format == "PNG"
    assert len(picture.getcolors(2**24) or []) > 20


def test_the_report_as_data_counts_the_confusion(tmp_path: Path) -> None:
    ran(tmp_path)
    told = msgspec.json.decode((tmp_path / "out/report.json").read_bytes())
    counts = np.array(told["confusion"]["counts"])
    assert counts.sum() == told["stats"]["final"]["validation_rows"]
    right = counts.trace() / counts.sum()
    assert right == pytest.approx(told["stats"]["final"]["validation_score"])


def two(folder: Path) -> Path:
    """Two kinds, one of them rare."""
    rng = np.random.default_rng(0)
    kinds = (rng.random(600) < 0.3).astype(int)
    x = np.column_stack([rng.normal(2 * kinds, 1), rng.normal(size=600), 1000 + rng.normal(size=600)])
    np.savez(folder / "two.npz", x=x, kind=np.array(["good", "bad"])[kinds])
    return folder / "two.npz"


@pytest.mark.parametrize("balanced", ["none", "balanced"])
def test_two_classes_by_one_output_are_reported_and_served_as_two(tmp_path: Path, balanced: str) -> None:
    path = two(tmp_path)
    members = {
        "data": {"file": str(path), "target": "kind"},
        "training": {"loss": "binary_cross_entropy", "class_weight": balanced},
    }
    run = Run(convert(members, name="test"), tmp_path / "out")
    outcome = run.train()
    assert run.network.outputs == 1
    assert outcome.verdict.health == "healthy", outcome.verdict
    told = msgspec.json.decode((tmp_path / "out/report.json").read_bytes())
    counts = np.array(told["confusion"]["counts"])
    assert told["confusion"]["classes"] == ["bad", "good"]
    recalls = counts.diagonal() / counts.sum(axis=1)
    np.testing.assert_allclose(told["stats"]["final"]["recalls"], recalls)
    assert min(recalls) > 0.6
    assert outcome.exported is not None
    model = parse_draft(outcome.exported.manifest.read_bytes()).model
    assert (model.labels, model.output.activation) == (["bad", "good"], "softmax")  # type: ignore[union-attr]
    assert model.layers is not None
    x = run.split.validation[0]  # type: ignore[index]
    wanted = 1 / (1 + np.exp(-run.network.predict(x)[:, 0].astype(np.float64)))
    for file, container in ((outcome.exported.safetensors, "safetensors"), (outcome.exported.raw, "raw")):
        numbers = read_bare(file, model.layers, container=container, sha256=None, max_bytes=2**20)  # type: ignore[arg-type]
        served = softmax(BareNetwork(model.layers, numbers.tensors)(x))
        np.testing.assert_allclose(served[:, 1], wanted, atol=1e-6)
    ort = pytest.importorskip("onnxruntime")
    rows = run.table.x[run.split.validation_rows].astype(np.float32)
    (logits,) = ort.InferenceSession(outcome.exported.onnx).run(["logits"], {"input": rows})
    np.testing.assert_allclose(softmax(logits)[:, 1], wanted, atol=1e-4)


def test_a_regression_reports_residuals_in_its_own_units(tmp_path: Path) -> None:
    outcome = ran(tmp_path, regression=True)
    page = outcome.page.read_text(encoding="utf-8")
    assert "Residuals, validation rows" in page
    assert "Confusion" not in page


def test_a_network_that_breaks_leaves_a_report_but_no_model(tmp_path: Path) -> None:
    members = {
        "data": {"file": str(table(tmp_path, regression=True)), "target": "kind", "scale": "none"},
        "training": {"optimizer": "sgd", "rate": 1e6},
    }
    outcome = Run(convert(members, name="test"), tmp_path / "out").train()
    assert outcome.exported is None or outcome.verdict.health == "ill"
    assert "not-finite" in outcome.verdict.rules
    assert outcome.page.exists()


def test_a_configuration_says_everything(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "plan.toml").write_text(
        """
        [data]
        file = "flowers.npz"
        target = "kind"
        validation = 0.25
        [network]
        hidden = [8, 4]
        activation = "tanh"
        batch_norm = true
        dropout = 0.1
        [training]
        optimizer = "sgd"
        rate = 0.05
        momentum = 0.5
        schedule = "cosine"
        warmup = 0.1
        class_weight = "balanced"
        clip_norm = 1.0
        [output]
        name = "Flowers of the garden"
        """
    )
    config = read(tmp_path / "plan.toml")
    assert config.data.file == str(tmp_path / "flowers.npz")
    read_table = load(Path(config.data.file), target="kind")
    made = layers(config, read_table)
    assert made == [
        Dense(8, initializer="he"), BatchNorm(), Activate("tanh"), Dropout(0.1),
        Dense(4, initializer="he"), BatchNorm(), Activate("tanh"), Dropout(0.1), Dense(3),
    ]  # fmt: skip
    chosen = loss(config, read_table, read_table.y)
    assert isinstance(chosen, CrossEntropy)
    assert chosen.weights is not None
    asked = settings(config, checkpoint=None, validated=True)
    assert (asked.optimizer.rate, asked.clip_norm, asked.schedule.warmup) == (0.05, 1.0, 0.1)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, r"missing required field `data`"),
        ({"data": {"file": "a", "target": "b", "tagret": 1}}, r"unknown field `tagret` - at `\$.data`"),
        (
            {"data": {"file": "a", "target": "b"}, "training": {"epochs": 0}},
            r"Expected `int` >= 1 - at `\$.training.epochs`",
        ),
        (
            {"data": {"file": "a", "target": "b"}, "network": {"activation": "softmax"}},
            r"\$.network.activation",
        ),
        ({"data": {"file": "a", "target": "b"}, "training": {"rate": -1.0}}, r"\$.training.rate"),
        ({"data": {"file": "a", "target": "b"}, "network": {"hidden": [2**31]}}, r"\$.network.hidden\[0\]"),
        ({"data": {"file": "a", "target": "b"}, "network": {"hidden": [4] * 256}}, "length <= 255"),
    ],
)
def test_a_wrong_member_is_named(members: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanInvalid, match=words):
        convert(members, name="plan.toml")


def test_a_network_beyond_memory_is_refused(tmp_path: Path) -> None:
    members = {
        "data": {"file": str(table(tmp_path)), "target": "kind"},
        "network": {"hidden": [2**24, 2**24]},
    }
    with pytest.raises(PlanInvalid, match="does not fit into memory, take smaller layers"):
        Run(convert(members, name="test"), tmp_path / "out")


@pytest.mark.parametrize(
    ("training", "regression", "words"),
    [
        ({"loss": "mse"}, False, "loss 'mse' is for numbers"),
        ({"loss": "binary_cross_entropy"}, False, "is for two classes; 'kind' has 3"),
        ({"loss": "binary_cross_entropy"}, True, "binary_cross_entropy is for classes"),
        ({"loss": "cross_entropy"}, True, "cross_entropy is for classes"),
        ({"class_weight": "balanced"}, True, "class_weight is for classes"),
        ({"momentum": 0.5}, False, "momentum is for sgd; adam has its own"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, training: dict[str, Any], regression: bool, words: str
) -> None:
    members = {
        "data": {"file": str(table(tmp_path, regression=regression)), "target": "kind"},
        "training": training,
    }
    with pytest.raises(PlanInvalid, match=words):
        Run(convert(members, name="test"), tmp_path / "out")
