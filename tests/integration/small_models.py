"""Small published models whose right answer is known for every input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.fakes.onnx_models import FLOAT, counting, model, save, value
from tests.integration.stage import Model


def times(folder: Path, name: str, factor: float, *, padding: int = 0) -> Model:
    """y = factor x, for rows of three numbers; `padding` more bytes of weights make it slow to fetch."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    constants: dict[str, Any] = {"factor": np.float32(factor)}
    if padding:
        # Used, so that nothing may leave it out: its first number, which is 0, is added.
        many = np.random.default_rng(padding).integers(1, 2**15, padding // 8)
        many[0] = 0
        nodes = [
            helper.make_node("Mul", ["x", "factor"], ["product"]),
            helper.make_node("Gather", ["many", "first"], ["nothing"]),
            helper.make_node("Cast", ["nothing"], ["zero"], to=FLOAT),
            helper.make_node("Add", ["product", "zero"], ["y"]),
        ]
        constants |= {"many": many, "first": np.array(0, np.int64)}
    made = model(nodes, [value("x", ["n", 3])], [value("y", ["n", 3])], constants=constants)
    return _described(folder, name, made, shape=[3])


def counter(folder: Path, name: str = "counter", *, step: float = 1) -> Model:
    """Counts to its input, about half a million steps a second."""
    return _described(folder, name, counting(step=step), shape=[1])


FOREVER = [[1e15]]
"""An input for `counter` that outlasts every deadline."""


def _described(folder: Path, name: str, made: onnx.ModelProto, *, shape: list[int]) -> Model:
    place = folder / name
    place.mkdir(parents=True)
    manifest = {
        "name": name,
        "model": {
            "schema": 1,
            "model_id": name,
            "model_type": "numbers",
            "format": "onnx",
            "input": {"kind": "tensor", "shape": shape},
            "output": {"task": "raw"},
        },
    }
    (place / "metadata.json").write_text(json.dumps(manifest))
    return Model(save(made, place / f"{name}.onnx"), place / "metadata.json")
