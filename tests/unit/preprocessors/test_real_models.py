"""Real models and photos, run by ONNX Runtime directly, against the reference answers beside them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime
import pytest

from postprocessors.registry import OUTPUTS
from postprocessors.specs import ClassificationOutput
from preprocessors.base import Limits
from preprocessors.registry import INPUTS
from preprocessors.specs import ImageInput


def classify(
    model: Path, spec: ImageInput, *, photo: bytes, labels: list[str] | None = None
) -> tuple[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    tensor = INPUTS.create(spec, limits=Limits())(
        "base64_jpeg", msgspec.json.encode(base64.b64encode(photo).decode()), "json"
    )
    values = session.run(None, {session.get_inputs()[0].name: tensor})
    outputs = {entry.name: value for entry, value in zip(session.get_outputs(), values, strict=True)}
    answer = OUTPUTS.create(ClassificationOutput(), labels=labels)(outputs, top_k=3, threshold=None)
    return msgspec.json.decode(answer.predictions_json), answer.entropy


@pytest.mark.parametrize(
    ("resize", "expected", "entropy"),
    [
        ("stretch", [(22, "bald eagle", 0.644), (21, "kite", 0.177), (128, "black stork", 0.058)], 1.481),
        ("crop", [(22, "bald eagle", 0.511), (21, "kite", 0.205), (128, "black stork", 0.061)], 2.195),
    ],
)
def test_an_eagle_is_seen(shared_data: Path, resize: Any, expected: Any, entropy: float) -> None:
    folder = shared_data / "imagenet"
    found, spread = classify(
        folder / "efficientnet-lite0.onnx",
        ImageInput(preset="imagenet", resize=resize),
        photo=(folder / "bald_eagle.jpeg").read_bytes(),
        labels=msgspec.json.decode((folder / "labels.json").read_bytes(), type=list[str]),
    )
    assert [(entry["class_id"], entry["class"]) for entry in found] == [entry[:2] for entry in expected]
    assert [entry["confidence"] for entry in found] == pytest.approx(
        [entry[2] for entry in expected], abs=0.02
    )
    assert spread == pytest.approx(entropy, abs=0.05)


@pytest.mark.parametrize("digit", [0, 3, 5, 7])
def test_a_digit_is_read(shared_data: Path, digit: int) -> None:
    folder = shared_data / "digits"
    found, _ = classify(
        folder / "mnist.onnx",
        ImageInput(size=(28, 28), color="gray", scale=1),
        photo=(folder / f"{digit}.jpg").read_bytes(),
    )
    assert (found[0]["class_id"], found[0]["class"]) == (digit, f"class_{digit}")
