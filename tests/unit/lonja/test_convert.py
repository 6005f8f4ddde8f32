"""`lonja convert`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result

from bare_models.reader import read_layers
from bare_models.to_onnx import write_onnx
from bare_models.writer import write_safetensors
from lonja.cli.convert import command
from lonja.errors import UsageInvalid
from node.models import manifest
from tests.fakes.bare_networks import EVERYTHING, numbers

ROWS = np.random.default_rng(5).standard_normal((7, 6)).astype(np.float32)


def convert(*arguments: str | Path) -> Result:
    ran = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran


def by_ort(path: Path) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": ROWS})[0]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    write_onnx(tmp_path / "m.onnx", EVERYTHING, numbers(EVERYTHING))
    return tmp_path / "m.onnx"


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.json"
    path.write_text(
        json.dumps(
            {
                "name": "M",
                "extra": 1,
                "model": {
                    "schema": 1,
                    "model_id": "m",
                    "model_type": "classification",
                    "format": "onnx",
                    "input": {"kind": "tensor", "shape": [6], "name": "input"},
                    "output": {"task": "classification", "activation": "none", "name": "output"},
                },
            }
        )
    )
    return path


@pytest.mark.parametrize(("to", "suffix"), [("bare", ".safetensors"), ("raw", ".bin")])
def test_there_and_back_answers_the_same(
    tmp_path: Path, graph: Path, draft: Path, to: str, suffix: str
) -> None:
    assert convert(graph, "--to", to, "--manifest", draft).exit_code == 0
    there = graph.with_suffix(suffix)
    said = graph.with_suffix(".metadata.json")
    back = tmp_path / "back.onnx"
    assert convert(there, "--to", "onnx", "--out", back, "--manifest", said).exit_code == 0
    assert float(np.abs(by_ort(back) - by_ort(graph)).max()) <= 1e-6


def test_the_draft_is_ready_to_be_published(graph: Path, draft: Path) -> None:
    said = convert(graph, "--to", "bare", "--manifest", draft).output
    written = graph.with_suffix(".metadata.json")
    model = manifest.parse_draft(written.read_bytes()).model
    assert (model.format, model.input.name, model.output.name) == ("bare", None, None)
    assert model.layers == read_layers(graph.with_suffix(".safetensors"))
    assert json.loads(written.read_bytes())["extra"] == 1
    assert "lonja publish m.safetensors --manifest m.metadata.json" in said


def test_a_container_that_describes_itself_needs_no_manifest(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", EVERYTHING, numbers(EVERYTHING))
    assert convert(tmp_path / "m.safetensors", "--to", "onnx").exit_code == 0
    assert by_ort(tmp_path / "m.onnx").shape == (7, 3)


def test_a_raw_file_needs_its_layers(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"1234")
    with pytest.raises(UsageInvalid, match="does not say what its layers are: give them with --manifest"):
        convert(tmp_path / "m.bin", "--to", "onnx")


def test_a_file_is_not_converted_onto_itself(graph: Path) -> None:
    with pytest.raises(UsageInvalid, match="would be written over"):
        convert(graph, "--to", "onnx")


def test_a_graph_that_is_no_chain_is_refused_by_its_node(tmp_path: Path) -> None:
    from onnx import helper

    from tests.fakes import onnx_models
    from tests.fakes.onnx_models import value

    made = onnx_models.model(
        [helper.make_node("Exp", ["x"], ["y"])], [value("x", ["n", 2])], [value("y", ["n", 2])]
    )
    onnx_models.save(made, tmp_path / "m.onnx")
    with pytest.raises(UsageInvalid, match=r"m.onnx: Exp \('node 0'\): no bare model has it"):
        convert(tmp_path / "m.onnx", "--to", "bare")
    assert not (tmp_path / "m.safetensors").exists()
