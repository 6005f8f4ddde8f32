"""ONNX to bare and back: the same numbers, and a name for what cannot be converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from bare_models.from_onnx import read_onnx
from bare_models.layers import BareInvalid, Layer
from bare_models.network import Network
from bare_models.to_onnx import write_onnx
from tests.fakes import onnx_models
from tests.fakes.bare_networks import EVERYTHING, MLP, numbers
from tests.fakes.onnx_models import value

W = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
B = np.random.default_rng(4).standard_normal(4).astype(np.float32)
ROWS = np.random.default_rng(5).standard_normal((7, 6)).astype(np.float32)
node = helper.make_node


def by_ort(path: Path, rows: Any) -> Any:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def saved(
    path: Path, nodes: list[Any], *, row: tuple[int, ...] = (6,), opset: int = 17, **constants: Any
) -> Path:
    made = onnx_models.model(
        nodes, [value("x", ["n", *row])], [value("y", ["n", 4])], constants=constants, opset=opset
    )
    return onnx_models.save(made, path)


def converted(path: Path) -> Any:
    found = read_onnx(path)
    return Network(found.layers, found.numbers)


@pytest.mark.parametrize("layers", [MLP, EVERYTHING], ids=["mlp", "everything"])
def test_a_bare_model_answers_the_same_as_its_graph(tmp_path: Path, layers: list[Layer]) -> None:
    given = numbers(layers)
    write_onnx(tmp_path / "m.onnx", layers, given)
    np.testing.assert_allclose(by_ort(tmp_path / "m.onnx", ROWS), Network(layers, given)(ROWS), atol=2e-6)


@pytest.mark.parametrize("layers", [MLP, EVERYTHING], ids=["mlp", "everything"])
def test_there_and_back_gives_the_same_numbers(tmp_path: Path, layers: list[Layer]) -> None:
    given = numbers(layers)
    write_onnx(tmp_path / "m.onnx", layers, given)
    found = read_onnx(tmp_path / "m.onnx")
    got, want = Network(found.layers, found.numbers)(ROWS), Network(layers, given)(ROWS)
    assert float(np.abs(got - want).max()) <= 1e-6


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        pytest.param([node("Gemm", ["x", "w", "b"], ["y"])], {"w": W, "b": B}, id="Gemm"),
        pytest.param([node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": W.T.copy()}, id="transposed"),
        pytest.param(
            [node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)], {"w": W, "b": B}, id="scaled"
        ),
        pytest.param([node("Gemm", ["x", "w", "b"], ["y"])], {"w": W, "b": np.float32([[3]])}, id="one bias"),
        pytest.param([node("MatMul", ["x", "w"], ["y"])], {"w": W}, id="MatMul"),
        pytest.param(
            [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])], {"w": W, "b": B}, id="Add"
        ),
        pytest.param(
            [
                node("Identity", ["x"], ["i"]),
                node("Dropout", ["i"], ["d"]),
                node("Gemm", ["d", "w"], ["g"]),
                node("LeakyRelu", ["g"], ["l"], alpha=0.3),
                node("Relu", ["l"], ["r"]),
                node("Softmax", ["r"], ["y"]),
            ],
            {"w": W},
            id="activations",
        ),
        pytest.param(
            [node("Reshape", ["x", "s"], ["r"]), node("Gemm", ["r", "w"], ["y"])],
            {"w": W, "s": np.array([-1, 6])},
            id="Reshape",
        ),
    ],
)
def test_a_chain_is_converted(tmp_path: Path, nodes: list[Any], constants: dict[str, Any]) -> None:
    path = saved(tmp_path / "m.onnx", nodes, **constants)
    np.testing.assert_allclose(converted(path)(ROWS), by_ort(path, ROWS), rtol=1e-5, atol=1e-5)


def test_constant_nodes_count_as_constants(tmp_path: Path) -> None:
    constant = node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(W))
    path = saved(tmp_path / "m.onnx", [constant, node("MatMul", ["x", "w"], ["y"])])
    np.testing.assert_allclose(converted(path)(ROWS), ROWS @ W, rtol=1e-5, atol=1e-5)


def test_a_picture_is_flattened(tmp_path: Path) -> None:
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    assert read_onnx(saved(tmp_path / "m.onnx", nodes, row=(1, 2, 3), w=W)).row == (1, 2, 3)


@pytest.mark.parametrize(
    ("nodes", "constants", "says"),
    [
        pytest.param(
            [node("Conv", ["x", "w"], ["y"], name="stem")],
            {"w": W},
            r"Conv \('stem'\): no bare model has it",
            id="Conv",
        ),
        pytest.param(
            [node("Relu", ["x"], ["r"]), node("Add", ["r", "x"], ["y"])],
            {},
            r"Add \('node 1'\): an Add is a dense layer's bias",
            id="residual",
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Gemm", ["x", "w"], ["y"])],
            {"w": W},
            "one chain",
            id="branch",
        ),
        pytest.param(
            [node("MatMul", ["w", "x"], ["y"])], {"w": W}, "rows must be its first input", id="wrong side"
        ),
        pytest.param(
            [node("Gemm", ["x", "x"], ["y"])], {}, "its input 1 is not a constant", id="no constant"
        ),
        pytest.param(
            [node("MatMul", ["x", "w"], ["y"])],
            {"w": W.astype(np.float64)},
            "is float64; a bare model is float32",
            id="double",
        ),
        pytest.param(
            [node("MatMul", ["x", "w"], ["y"])], {"w": W[None]}, "has 3 dimensions, not 2", id="batched"
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Mul", ["g", "two"], ["y"])],
            {"w": W, "two": np.float32(2)},
            r"Mul \('node 1'\): Mul, Div and Erf are known only as the parts of a GELU",
            id="Mul",
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Mul", ["g", "two"], ["m"]), node("Relu", ["m"], ["y"])],
            {"w": W, "two": np.float32(2)},
            r"Mul \('node 1'\): Mul, Div and Erf are known only as the parts of a GELU",
            id="Mul before another",
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Add", ["g"], ["y"])],
            {"w": W},
            r"Add \('node 1'\): it has other inputs, outputs or attributes than ONNX gives it",
            id="input left out",
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], [])], {"w": W}, r"Gemm \('node 0'\): it has other", id="no output"
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["y"], alpha="a")], {"w": W}, r"Gemm \('node 0'\): it has", id="text"
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("LeakyRelu", ["g"], ["y"], alpha=-1.0)],
            {"w": W},
            r"Expected `float` >= 0.0 - at `\$\[0\].alpha`",
            id="negative slope",
        ),
        pytest.param([node("MatMul", ["x", "w"], ["y"])], {"w": W[:, :0]}, "`int` >= 1", id="no outputs"),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("BatchNormalization", ["g", *"bbbc"], ["y"])],
            {"w": W, "b": B, "c": B[:2]},
            "its four constants are not of one size",
            id="sizes",
        ),
        pytest.param(
            [node("Ge\x1b[31mmm", ["x", "w"], ["y"])], {"w": W}, r"'Ge\\x1b\[31mmm' \('node 0'\)", id="escape"
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Softmax", ["g"], ["y"], axis=0)],
            {"w": W},
            "axis must be the last",
            id="axis",
        ),
        pytest.param(
            [node("Flatten", ["x"], ["f"], axis=0), node("Gemm", ["f", "w"], ["y"])],
            {"w": W},
            "its axis must be 1",
            id="flatten",
        ),
        pytest.param([node("Relu", ["x"], ["y"])], {}, "at least one of kind 'dense'", id="no dense"),
        pytest.param(
            [node("MatMul", ["x", "w"], ["y"])], {"w": W[:5]}, "do not hold the 5 values", id="width"
        ),
        pytest.param(
            [node("Gemm", ["x", "w"], ["g"]), node("Relu", ["g"], ["y"], domain="com.other")],
            {"w": W},
            r"com.other.Relu",
            id="domain",
        ),
    ],
)
def test_anything_else_is_refused_by_name(
    tmp_path: Path, nodes: list[Any], constants: dict[str, Any], says: str
) -> None:
    with pytest.raises(BareInvalid, match=says):
        read_onnx(saved(tmp_path / "m.onnx", nodes, **constants))


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    with pytest.raises(BareInvalid, match="not an ONNX model"):
        read_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("kind", "shape", "says"),
    [
        (onnx.TensorProto.INT64, ["N", 6], "the input 'x' is not of the type float32"),
        (onnx.TensorProto.FLOAT, ["N", "t", 6], "the input 'x' leaves open more than its number of rows"),
    ],
)
def test_an_input_of_anything_but_rows_of_float32_is_refused(
    tmp_path: Path, kind: int, shape: list[Any], says: str
) -> None:
    path = saved(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], w=W)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x", kind, shape))
    onnx.save(model, path)
    with pytest.raises(BareInvalid, match=says):
        read_onnx(path)


def test_a_constant_whose_bytes_do_not_fill_its_shape_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], w=W)
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"abc"
    onnx.save(model, path)
    with pytest.raises(BareInvalid, match="the constant 'w' cannot be read"):
        read_onnx(path)
