"""The members of a manifest that belong to bare models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from node.errors import ManifestInvalid
from node.models import manifest
from node.models.manifest import Weights
from tests.unit.models.test_manifest import CID

LAYERS: list[dict[str, Any]] = [
    {"kind": "dense", "inputs": 3, "outputs": 2, "activation": "relu"},
    {"kind": "dropout", "rate": 0.1},
    {"kind": "batch_norm", "size": 2},
    {"kind": "dense", "inputs": 2, "outputs": 1, "bias": False},
]
NUMBERS = 4 * (3 * 2 + 2 + 4 * 2 + 2)
WEIGHTS = {"cid": CID, "bytes": NUMBERS, "sha256": "a" * 64, "container": "raw", "dtype": "float32"}


def model(**change: Any) -> bytes:
    members = {
        "schema": 1,
        "model_id": "m",
        "model_type": "regression",
        "format": "bare",
        "layers": LAYERS,
        "weights": WEIGHTS,
        "input": {"kind": "tensor", "shape": [3]},
        "output": {"task": "regression"},
    } | change
    kept = {name: value for name, value in members.items() if value is not None}
    return msgspec.json.encode({"name": "M", "model": kept})


def test_a_bare_model_is_read() -> None:
    parsed = manifest.parse(model()).model
    assert msgspec.to_builtins(parsed.layers) == LAYERS
    assert parsed.allow_nan is False


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": None}, "`layers` is needed for the format `bare`"),
        ({"layers": []}, "model.layers: Expected `array` of length >= 1"),
        ({"layers": LAYERS * 65}, "model.layers: Expected `array` of length <= 256"),
        ({"layers": [{"kind": "conv"}]}, "'conv' is not possible here"),
        ({"layers": [LAYERS[0] | {"units": 3}]}, "unknown member `units`"),
        ({"layers": [LAYERS[0] | {"activation": "swish"}]}, "'swish' is not possible here"),
        ({"layers": [LAYERS[0] | {"inputs": 2**24 + 1}]}, "Expected `int` <= 16777216"),
        ({"layers": [LAYERS[0] | {"inputs": 0}]}, "Expected `int` >= 1"),
        ({"layers": [LAYERS[0] | {"name": "../x"}]}, "matching regex"),
        ({"layers": [LAYERS[0], LAYERS[0]]}, "layers[1] takes 3 values, but what stands before it gives 2"),
        ({"layers": [LAYERS[1]]}, "at least one of kind 'dense'"),
        ({"weights": WEIGHTS | {"bytes": NUMBERS + 1}}, f"take {NUMBERS} bytes of numbers, but"),
        ({"weights": WEIGHTS | {"container": "safetensors", "bytes": NUMBERS - 1}}, "`weights.bytes` is"),
        ({"weights": WEIGHTS | {"container": None}}, "has `container`"),
        ({"weights": WEIGHTS | {"container": "zip"}}, "'zip' is not possible here"),
        ({"weights": WEIGHTS | {"dtype": None}}, "`weights.dtype` is needed for a raw file"),
        ({"weights": WEIGHTS | {"dtype": "float64"}}, "'float64' is not possible here"),
        ({"weights": WEIGHTS | {"file": "a"}}, "no `file`"),
        ({"format": "onnx"}, "belong to the format `bare`"),
        ({"format": "onnx", "layers": None}, "belong to the format `bare`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        manifest.parse(model(**change))
    assert says in caught.value.message


def test_absurd_layers_are_refused_by_the_size_of_the_file() -> None:
    absurd = [{"kind": "dense", "inputs": 2**24, "outputs": 2**24}]
    with pytest.raises(ManifestInvalid, match="take 1125899973951488 bytes"):
        manifest.parse(model(layers=absurd))


def test_a_draft_may_leave_the_layers_to_its_file() -> None:
    assert manifest.parse_draft(model(weights=None, layers=None)).model.layers is None


def test_a_draft_is_completed_with_what_its_file_is() -> None:
    described = msgspec.convert(WEIGHTS, Weights)
    finished = manifest.complete(model(weights=None), weights=described)
    assert msgspec.json.decode(finished)["model"]["weights"] == WEIGHTS | {"encoding": "plain"}
