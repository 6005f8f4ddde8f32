"""Exported files answer as the network does, in every runtime at hand; their manifests are drafts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bare_models import reader
from bare_models.network import Network as BareNetwork
from node.models.manifest import parse_draft
from training.chain import answers, links
from training.errors import TrainingError
from training.export import About, Exported, export, model_id_of
from training.layers import Activate, AnyLayer, BatchNorm, Dense, Dropout
from training.network import Network
from training.onnx_export import onnx_bytes
from training.ops import ACTIVATIONS, Array
from training.splitting import Scaling

SCALING = Scaling(np.array([1000.0, -3.0, 0.0, 5.0]), np.array([0.5, 10.0, 1.0, 2.0]))
ABOUT = About("m", "M", "d", ("a", "b", "c", "d"), "t", ("p", "q", "r"))
NUMBER = About("m", "M", "d", ("a", "b", "c", "d"), "price")
CHAINS: list[list[AnyLayer]] = [
    [Dense(3)],
    [BatchNorm(), Dense(8, "relu"), Dropout(0.5), BatchNorm(), Dense(3)],
    [Dense(8), BatchNorm(), Activate("gelu"), Dense(3)],
    [Dense(8, "tanh"), BatchNorm(), Activate("relu"), Dense(3, "softmax")],
    [Activate("sigmoid"), Dense(3), BatchNorm()],
]


def network(layers: list[AnyLayer]) -> Network:
    made = Network(4, layers, seed=1)
    rng = np.random.default_rng(0)
    made.values += rng.normal(0, 0.1, made.values.shape).astype(np.float32)
    made.state += rng.uniform(0, 0.5, made.state.shape).astype(np.float32)
    return made


def rows() -> Array:
    return SCALING.mean + SCALING.deviation * np.random.default_rng(2).normal(size=(40, 4))


def exported(folder: Path, made: Network, about: About = ABOUT, outputs: Scaling | None = None) -> Exported:
    return export(made, folder, about, inputs=SCALING, outputs=outputs, check_on=SCALING.apply(rows()))


@pytest.mark.parametrize("layers", CHAINS)
def test_a_folded_chain_answers_as_the_network(layers: list[AnyLayer]) -> None:
    made = network(layers)
    x = SCALING.apply(rows())
    np.testing.assert_allclose(answers(links(made), x), made.predict(x), rtol=1e-5, atol=2e-6)


def test_scalings_fold_in_at_both_ends() -> None:
    made = network(CHAINS[1])
    ends = Scaling(np.array([10.0, 20.0, 30.0]), np.array([2.0, 3.0, 4.0]))
    mild = Scaling(np.array([1.0, -3.0, 0.0, 5.0]), SCALING.deviation)
    x = np.random.default_rng(2).normal(size=(40, 4))
    whole = links(made, inputs=mild, outputs=ends)
    expected = made.predict(mild.apply(x)) * ends.deviation + ends.mean
    np.testing.assert_allclose(answers(whole, x), expected, rtol=1e-4, atol=1e-4)
    assert len(whole) == 2, "nothing is left over beside the dense layers"


@pytest.mark.parametrize("layers", CHAINS)
def test_the_onnx_file_takes_rows_as_they_are(tmp_path: Path, layers: list[AnyLayer]) -> None:
    ort = pytest.importorskip("onnxruntime")
    made = network(layers)
    files = exported(tmp_path, made)
    session = ort.InferenceSession(files.onnx)
    (given,) = session.run(["logits"], {"input": rows().astype(np.float32)})
    np.testing.assert_allclose(given, made.predict(SCALING.apply(rows())), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_its_onnx_node(activation: Any) -> None:
    ort = pytest.importorskip("onnxruntime")
    made = network(
        [Dense(5, activation)] if activation == "softmax" else [Dense(5, activation, alpha=0.2), Dense(2)]
    )
    session = ort.InferenceSession(onnx_bytes(links(made), output="y"))
    x = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], made.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", CHAINS)
def test_both_bare_files_are_read_and_answer(tmp_path: Path, layers: list[AnyLayer]) -> None:
    made = network(layers)
    files = exported(tmp_path, made)
    described = parse_draft(files.manifest.read_bytes()).model.layers
    assert described is not None
    x = SCALING.apply(rows())
    for path, container in ((files.safetensors, "safetensors"), (files.raw, "raw")):
        numbers = reader.read(path, described, container=container, sha256=None, max_bytes=2**20)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            BareNetwork(described, numbers.tensors)(x), made.predict(x), rtol=1e-4, atol=1e-5
        )
    assert reader.read_layers(files.safetensors) == described


def test_weights_bin_is_float32_in_layer_order(tmp_path: Path) -> None:
    made = network([Dense(8, "relu"), Dense(3)])
    files = exported(tmp_path, made)
    views = [slot.values[name] for slot in made.slots for name in ("weight", "bias")]
    assert files.raw.read_bytes() == b"".join(view.astype("<f4").tobytes() for view in views)


def test_safetensors_begins_its_data_at_a_page_and_aligns_each_tensor(tmp_path: Path) -> None:
    files = exported(tmp_path, network([Dense(7, "relu"), Dense(3)]))
    content = files.safetensors.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = msgspec.json.decode(content[8 : 8 + length])
    assert (8 + length) % 4096 == 0
    starts = {name: entry["data_offsets"][0] for name, entry in header.items() if name.startswith("layers.")}
    assert list(starts) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert all(start % 64 == 0 for start in starts.values())


def test_the_drafts_say_classes_features_and_scaling(tmp_path: Path) -> None:
    files = exported(tmp_path, network([Dense(3)]))
    bare = msgspec.json.decode(files.manifest.read_bytes())["model"]
    graph = msgspec.json.decode(files.onnx_manifest.read_bytes())["model"]
    assert parse_draft(files.onnx_manifest.read_bytes()).model.format == "onnx"
    assert (bare["format"], bare["labels"]) == ("bare", ["p", "q", "r"])
    assert bare["input"]["features"][0] == {"name": "a", "mean": 1000.0, "std": 0.5}
    assert graph["input"]["features"][0] == {"name": "a"}
    assert graph["input"]["name"] == "input"
    assert "layers" not in graph


def test_a_regression_gives_its_target_in_its_own_units(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    made = network([Dense(8, "relu"), Dense(1)])
    ends = Scaling(np.array([2e5]), np.array([1e4]))
    files = exported(tmp_path, made, NUMBER, ends)
    output = msgspec.json.decode(files.manifest.read_bytes())["model"]["output"]
    assert output == {"task": "regression", "targets": [{"name": "price", "mean": 2e5, "std": 1e4}]}
    (given,) = ort.InferenceSession(files.onnx).run(["value"], {"input": rows().astype(np.float32)})
    np.testing.assert_allclose(given, made.predict(SCALING.apply(rows())) * 1e4 + 2e5, rtol=1e-5)


def test_a_network_of_nan_is_not_exported(tmp_path: Path) -> None:
    made = network([Dense(3)])
    made.values[0] = np.nan
    with pytest.raises(TrainingError, match="cannot be exported"):
        exported(tmp_path / "out", made)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Iris (2024)!", "iris-2024"), ("..", "model"), ("ä" * 3, "model"), ("x" * 99, "x" * 64)],
)
def test_a_model_id_is_made_of_any_name(text: str, expected: str) -> None:
    assert model_id_of(text) == expected
