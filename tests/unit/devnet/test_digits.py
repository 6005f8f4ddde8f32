from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from lonja.devnet import digits
from node.models import manifest
from postprocessors.registry import OUTPUTS
from preprocessors.base import Limits
from preprocessors.registry import INPUTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> digits.DemoModel:
    return digits.build(tmp_path_factory.mktemp("digits"))


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_it_learned_to_read(model: digits.DemoModel) -> None:
    assert model.accuracy >= 0.97


def test_the_exported_graph_reads_pictures_that_training_did_not_see(model: digits.DemoModel) -> None:
    pictures, classes = digits.draw_digits(500, rng=np.random.default_rng(99))
    (logits,) = session(model.onnx).run(["logits"], {"input": pictures[:, None].astype(np.float32) / 255})
    assert (logits.argmax(axis=1) == classes).mean() >= 0.96


def test_the_graph_has_a_free_batch_dimension_and_an_old_opset(model: digits.DemoModel) -> None:
    graph = onnx.load(model.onnx)
    (entry,) = session(model.onnx).get_inputs()
    assert (entry.name, entry.shape) == ("input", ["n", 1, 28, 28])
    assert graph.opset_import[0].version <= 17


def test_the_sample_picture_is_read_through_the_manifest(model: digits.DemoModel) -> None:
    spec = manifest.parse_draft(model.metadata.read_bytes()).model
    tensor = INPUTS.create(spec.input, limits=Limits())("image", model.picture.read_bytes(), "binary")
    (logits,) = session(model.onnx).run(["logits"], {"input": tensor})
    assert isinstance(spec.labels, list)
    answer = OUTPUTS.create(spec.output, labels=spec.labels)({"logits": logits}, top_k=1, threshold=None)
    (best,) = msgspec.json.decode(answer.predictions_json)
    assert (best["class"], best["class_id"]) == ("seven", 7) == (model.label, 7)
    assert best["confidence"] > 0.9


def test_the_same_seed_draws_the_same_pictures() -> None:
    first, second = (digits.draw_digits(20, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_the_same_seed_writes_the_same_files(
    model: digits.DemoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "TRAIN_COUNT", 500)
    monkeypatch.setattr(digits, "HELD_OUT_COUNT", 100)
    made = [digits.build(tmp_path / name, seed=5) for name in ("a", "b")]
    assert made[0].onnx.read_bytes() == made[1].onnx.read_bytes()
    assert made[0].metadata.read_bytes() == made[1].metadata.read_bytes()
    assert made[0].picture.read_bytes() == model.picture.read_bytes()
