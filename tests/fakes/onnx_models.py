"""Small ONNX models with known behaviour, made when a test asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, shape: Sequence[int | str], kind: int = FLOAT) -> Any:
    """One input or output; a text stands for a free dimension."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    *,
    constants: dict[str, Any] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model from nodes and constants."""
    initializers = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(made: onnx.ModelProto, path: Path) -> Path:
    """Write a model; returns the path."""
    path.write_bytes(made.SerializeToString())
    return path


def doubling(*, rows: int | str = "n", width: int = 3) -> onnx.ModelProto:
    """y = 2 x, row by row."""
    return model(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [value("x", [rows, width])],
        [value("y", [rows, width])],
        constants={"two": np.float32(2)},
    )


def mean_color(side: int = 8) -> onnx.ModelProto:
    """The mean of each channel of a picture."""
    return model(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        [value("x", ["n", 3, side, side])],
        [value("y", ["n", 3])],
    )


def mixing() -> onnx.ModelProto:
    """y = x - mean of all rows: a model whose rows depend on each other."""
    return model(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [value("x", ["n", 3])],
        [value("y", ["n", 3])],
    )


def endless_to_load() -> onnx.ModelProto:
    """A loop over constants, which ONNX Runtime runs while it loads."""
    made = counting()
    del made.graph.input[:]
    made.graph.input.append(value("unused", ["n", 1]))
    made.graph.initializer.append(numpy_helper.from_array(np.full((1, 1), 1e15, np.float32), "x"))
    return made


def one_row_at_heart() -> onnx.ModelProto:
    """Calls its first dimension free, but reshapes to one row."""
    return model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["n", 3])],
        [value("y", ["n", 3])],
        constants={"shape": np.array([1, 3], np.int64)},
    )


def counting(*, step: float = 1) -> onnx.ModelProto:
    """Counts to x in steps, in a loop: takes as long as its input says, and looks at `terminate` all the
    while. y = x step.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
        ],
        "body",
        [value("i", [], INT64), value("go", [], TensorProto.BOOL), value("sum", [1, 1])],
        [value("go_on", [], TensorProto.BOOL), value("more", [1, 1])],
        [numpy_helper.from_array(np.full((1, 1), step, np.float32), "one")],
    )
    return model(
        [
            helper.make_node("Cast", ["x"], ["k"], to=INT64),
            helper.make_node("Reshape", ["k", "scalar"], ["count"]),
            helper.make_node("Loop", ["count", "yes", "zero"], ["y"], body=body),
        ],
        [value("x", [1, 1])],
        [value("y", [1, 1])],
        constants={
            "scalar": np.array([], np.int64),
            "yes": np.array(True),
            "zero": np.zeros((1, 1), np.float32),
        },
    )


def hungry() -> onnx.ModelProto:
    """Allocates as many floats as its input says and returns their sum."""
    return model(
        [
            helper.make_node("Cast", ["x"], ["k"], to=INT64),
            helper.make_node("Reshape", ["k", "line"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["many"]),
            helper.make_node("Exp", ["many"], ["ones"]),
            helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
            helper.make_node("Reshape", ["sum", "cell"], ["y"]),
        ],
        [value("x", [1, 1])],
        [value("y", [1, 1])],
        constants={"line": np.array([1], np.int64), "cell": np.array([1, 1], np.int64)},
    )


def with_external_data(folder: Path, *, location: str = "weights.bin") -> Path:
    """y = x + w, with w kept in another file of the folder."""
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", ["n", 3])],
        [value("y", ["n", 3])],
        constants={"w": np.array([1, 2, 3], np.float32)},
    )
    tensor = made.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        tensor.external_data.add(key=key, value=text)
    folder.mkdir(exist_ok=True)
    if not location.startswith("/") and ".." not in location:
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(raw)
    return save(made, folder / "model.onnx")
