from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from node.cid import Cid
from node.errors import ManifestInvalid
from node.models import manifest
from postprocessors.specs import ClassificationOutput
from preprocessors.specs import ImageInput

CID = "bafkreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe"
EXAMPLE: dict[str, Any] = {
    "name": "EfficientNet-Lite0",
    "description": "ImageNet classifier",
    "image": "ipfs://...",
    "model": {
        "schema": 1,
        "model_id": "efficientnet-lite0",
        "model_type": "image_classification",
        "format": "onnx",
        "weights": {"cid": CID, "bytes": 18614599, "sha256": "a" * 64, "encoding": "plain"},
        "labels": {"cid": CID},
        "input": {
            "name": "input",
            "kind": "image",
            "size": [224, 224],
            "resize": "stretch",
            "interpolation": "bicubic",
            "color": "rgb",
            "layout": "nchw",
            "scale": 255,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "output": {"name": "logits", "task": "classification", "activation": "softmax", "top_k": 5},
    },
}
ACCOUNT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
MISSING = object()


def changed(path: str, value: object) -> bytes:
    """The example with one member replaced, or removed with `MISSING`."""
    whole = copy.deepcopy(EXAMPLE)
    at: Any = whole
    *parents, last = path.split(".")
    for name in parents:
        at = at[name]
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return msgspec.json.encode(whole)


def draft(**model: object) -> bytes:
    whole = copy.deepcopy(EXAMPLE)
    del whole["model"]["weights"], whole["model"]["labels"]
    whole["model"] |= model
    return msgspec.json.encode(whole)


def test_the_published_example_is_read() -> None:
    parsed = manifest.parse(msgspec.json.encode(EXAMPLE))
    assert parsed.model.weights.bytes == 18614599
    assert parsed.model.labels == manifest.LabelsRef(CID)
    assert isinstance(parsed.model.input, ImageInput)
    assert parsed.model.input.picture().shape == (3, 224, 224)
    assert parsed.model.output == ClassificationOutput(name="logits", activation="softmax", top_k=5)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("name", MISSING, "name is missing"),
        ("name", "", "name: Expected `str` of length >= 1"),
        ("model", MISSING, "model is missing"),
        ("model", [], "model: Expected `object`, got `array`"),
        (
            "model.shema",
            1,
            "model.shema: unknown member `shema`; known are allow_nan, format, input, labels,",
        ),
        ("model.schema", 2, "model.schema: 2 is not possible here; possible: 1"),
        ("model.model_id", "two words", "model.model_id: Expected `str` matching"),
        ("model.model_id", "1:0xabc:2", "model.model_id: Expected `str` matching"),
        ("model.model_id", "digits\n", "model.model_id: Expected `str` matching"),
        ("model.model_type", "Image", "model.model_type: Expected `str` matching"),
        ("model.format", "pickle", "model.format: 'pickle' is not possible here; possible: 'bare', 'onnx'"),
        ("model.weights", MISSING, "model.weights is missing"),
        ("model.weights.cid", "QmNope", "model.weights: `cid` is not a CID that this node accepts"),
        ("model.weights.bytes", 0, "model.weights.bytes: Expected `int` >= 1"),
        ("model.weights.sha256", "A" * 64, "model.weights.sha256: Expected `str` matching"),
        ("model.weights.encoding", "aes-256-gcm", "model.weights.encoding: 'aes-256-gcm' is not possible"),
        ("model.weights.file", "../x.onnx", "model.weights: `file` '../x.onnx' must be a plain path"),
        ("model.weights.file", "/x.onnx", "model.weights: `file` '/x.onnx' must be a plain path"),
        ("model.labels", {"file": "labels.json"}, "model.labels.file: unknown member `file`; known are cid"),
        ("model.labels", [], "model.labels: Expected `array` of length >= 1"),
        ("model.labels", ["a", 1], "model.labels[1]: Expected `str`, got `int`"),
        (
            "model.input.kind",
            "video",
            "model.input.kind: 'video' is not possible here; possible: 'image', 'tabular', 'tensor'",
        ),
        ("model.input.kind", MISSING, "model.input.kind is missing"),
        ("model.input.size", MISSING, "model.input: `size` ([height, width]) is needed"),
        ("model.input.size", [224], "model.input.size: Expected `array` of length 2"),
        ("model.input.size", [224, 0], "model.input.size[1]: Expected `int` >= 1"),
        ("model.input.size", [224, 100_000], "model.input.size[1]: Expected `int` <= 8192"),
        ("model.input.resize", "fit", "model.input.resize: 'fit' is not possible here; possible: 'crop',"),
        ("model.input.color", "gray", "model.input: `mean` has 3 values, but `color` 'gray' has 1"),
        ("model.input.mean", [0.5], "model.input: `mean` has 1 values, but `color` 'rgb' has 3"),
        ("model.input.std", [0.5, 0.5], "model.input: `std` has 2 values, but `color` 'rgb' has 3"),
        ("model.input.std", [0.5, 0, 0.5], "model.input.std[1]: Expected `float` >= 1e-09"),
        ("model.input.scale", 0, "model.input.scale: Expected `float` >= 1e-09"),
        (
            "model.input.colour",
            "rgb",
            "model.input.colour: unknown member `colour`; known are color, dtype, interp",
        ),
        (
            "model.input",
            {"kind": "tensor", "size": 1},
            "unknown member `size`; known are dtype, kind, name, shape",
        ),
        (
            "model.input",
            {"kind": "tensor", "shape": [1], "dtype": "f4"},
            "possible: 'bool', 'float16', 'float32',",
        ),
        ("model.input", {"size": [1, 1]}, "model.input.kind is missing"),
        ("model.input", 7, "model.input: Expected `object`, got `int`"),
        (
            "model.input.preset",
            "coco",
            "model.input.preset: 'coco' is not possible here; possible: 'imagenet',",
        ),
        ("model.input.dtype", "uint8", "model.input: a `uint8` input takes pixels as they are"),
        ("model.output.task", "poetry", "model.output.task: 'poetry' is not possible here; possible:"),
        ("model.output.activation", "relu", "model.output.activation: 'relu' is not possible here"),
        ("model.output.top_k", 0, "model.output.top_k: Expected `int` >= 1"),
        ("model.publisher", "me", "`publisher` is not an account: an address is 0x and 40"),
        ("model.publisher", OTHER.replace("C44", "c44"), "`publisher` is not an account: the address 0x3c44"),
    ],
)
def test_a_bad_member_is_named(path: str, value: object, says: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        manifest.parse(changed(path, value))
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "the manifest is not JSON"),
        (b"{", "the manifest is not JSON"),
        (b"\xff\xfe", "the manifest is not JSON"),
        (b"[]", "the manifest: Expected `object`, got `array`"),
        (b'{"name": "\xff"}', "the manifest is not JSON"),
        (b"[" * 100_000, "the manifest"),
        (b'{"name": "x", "model": {"schema": 2, ', "model.schema: 2 is not possible here"),
        (
            b'{"name": "x", "model": {"input": {"kind": "image", "sise": 1, "x": "\xff',
            "unknown member `sise`",
        ),
        (b" " * (manifest.MAX_MANIFEST_BYTES + 1), "bytes; at most"),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        manifest.parse(raw)
    assert says in caught.value.message


def test_other_erc721_members_may_stand_beside_the_model() -> None:
    raw = changed("attributes", [{"trait_type": "task", "value": "birds"}])
    assert manifest.parse(raw) == manifest.parse(msgspec.json.encode(EXAMPLE))


def test_the_model_alone_survives_the_way_to_a_worker() -> None:
    model = manifest.parse(msgspec.json.encode(EXAMPLE)).model
    assert manifest.parse_model(msgspec.json.encode(model)) == model
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(model), type=manifest.Model) == model


def test_main_process_modules_leave_numpy_and_pillow_alone() -> None:
    code = (
        "import sys, node.models.manifest, preprocessors.registry, postprocessors.registry;"
        "node.models.manifest.json_schema();"
        "print(*sorted({'numpy', 'PIL', 'onnxruntime', 'cython_ops'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_completed_draft_is_a_manifest() -> None:
    weights = manifest.Weights(cid=CID, bytes=3, sha256="0" * 64)
    raw = manifest.complete(draft(labels={"file": "labels.json"}), weights=weights, labels_cid=Cid.parse(CID))
    parsed = manifest.parse(raw)
    assert parsed.model.weights == weights
    assert parsed.model.labels == manifest.LabelsRef(CID)


@pytest.mark.parametrize(
    ("drafted", "given", "named"),
    [(None, None, None), (None, ACCOUNT, ACCOUNT), (OTHER, ACCOUNT, OTHER), (OTHER, None, OTHER)],
)
def test_the_publisher_is_filled_in_where_the_draft_names_nobody(
    drafted: str | None, given: str | None, named: str | None
) -> None:
    weights = manifest.Weights(cid=CID, bytes=3, sha256="0" * 64)
    whole = draft() if drafted is None else draft(publisher=drafted)
    raw = manifest.complete(whole, weights=weights, publisher=given)
    assert manifest.parse(raw).model.publisher == named
    assert ("publisher" in msgspec.json.decode(raw)["model"]) is (named is not None)


def test_labels_in_the_draft_stay_where_they_are() -> None:
    raw = manifest.complete(
        draft(labels=["cat"]), weights=manifest.Weights(cid=CID, bytes=3, sha256="0" * 64)
    )
    assert manifest.parse(raw).model.labels == ["cat"]


def test_completing_keeps_members_that_the_node_does_not_read() -> None:
    whole = msgspec.json.decode(draft()) | {
        "external_url": "https://example.org",
        "attributes": [{"value": 1.5}],
    }
    raw = manifest.complete(
        msgspec.json.encode(whole), weights=manifest.Weights(cid=CID, bytes=3, sha256="0" * 64)
    )
    finished = msgspec.json.decode(raw)
    assert finished["external_url"] == "https://example.org"
    assert finished["attributes"] == [{"value": 1.5}]
    assert finished["model"]["input"] == EXAMPLE["model"]["input"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (msgspec.json.encode(EXAMPLE), "model.weights: leave it out of a draft"),
        (
            draft(labels={"file": "../labels.json"}),
            "model.labels: `file` '../labels.json' must be a plain path",
        ),
        (draft(labels={"file": "labels.json"}), "model.labels: the CID of 'labels.json' is needed"),
        (draft(wieghts=1), "model.wieghts: unknown member"),
        (b"7", "the manifest is a JSON object"),
    ],
)
def test_a_bad_draft_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        manifest.complete(raw, weights=manifest.Weights(cid=CID, bytes=3, sha256="0" * 64))
    assert says in caught.value.message


def test_labels_are_a_list_of_strings() -> None:
    assert manifest.parse_labels(b'["zero", "one"]') == ["zero", "one"]
    for raw, says in [
        (b'{"0": "zero"}', "labels"),
        (b'["a", 1]', "labels[1]"),
        (b"a\nb", "not JSON"),
        (b"[]", ">= 1"),
    ]:
        with pytest.raises(ManifestInvalid, match="labels") as caught:
            manifest.parse_labels(raw)
        assert says in caught.value.message


def test_a_deeply_nested_manifest_is_an_error_and_not_a_crash() -> None:
    """web3 brings py_ecc, which lets the whole process recurse beyond what its stack holds."""
    deep = "b'[' * 95_000 + b']' * 95_000"
    code = (
        "import sys; sys.setrecursionlimit(100_000)\n"
        "from node.errors import ManifestInvalid\nfrom node.models import manifest\n"
        f'raw = b\'{{"name": "m", "attributes": \' + {deep} + b\', "model": {{"format": "x"}}}}\'\n'
        "try: manifest.parse(raw)\nexcept ManifestInvalid as error: print(error.message)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "the manifest is nested deeper than 64 levels\n"
