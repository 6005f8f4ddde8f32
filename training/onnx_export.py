"""A chain of dense layers as an ONNX graph, opset 20 where it has GELU, else 17.

Scalings stand in the graph as nodes of their own: folded into float32 weights they would lose digits where a
column's mean is large next to its deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from training.chain import Link
from training.splitting import Scaling

INPUT: Final = "input"
_NODES: Final = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "gelu": "Gelu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
}


def onnx_bytes(
    chain: Sequence[Link],
    *,
    output: str,
    inputs: Scaling | None = None,
    outputs: Scaling | None = None,
    input_shape: Sequence[int] | None = None,
) -> bytes:
    """The model file: `input` float [n, *input_shape] -> `output` float [n, outputs].

    Parameters
    ----------
    input_shape : of one row, flattened in the graph; left out, a row of numbers.
    """
    import onnx  # half a second that only an export costs
    from onnx import TensorProto, helper

    made = _Graph(INPUT)
    if input_shape is not None and len(input_shape) > 1:
        made.node("Flatten", [], axis=1)
    if inputs is not None:
        made.node("Sub", [("scaling.mean", inputs.mean)])
        made.node("Div", [("scaling.deviation", inputs.deviation)])
    for i, link in enumerate(chain):
        names = (f"layers.{i}.weight", link.weight), (f"layers.{i}.bias", link.bias)
        made.node("Gemm", names, transB=1)
        if link.activation != "identity":
            more: dict[str, dict[str, Any]] = {"leaky_relu": {"alpha": link.alpha}, "softmax": {"axis": 1}}
            made.node(_NODES[link.activation], [], **more.get(link.activation, {}))
    if outputs is not None:
        made.node("Mul", [("target.deviation", outputs.deviation)])
        made.node("Add", [("target.mean", outputs.mean)])
    made.nodes[-1].output[0] = output
    shape = [*input_shape] if input_shape is not None else [chain[0].weight.shape[1]]
    width = len(chain[-1].bias)
    graph = helper.make_graph(
        made.nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", width])],
        made.tensors,
    )
    newer = any(link.activation == "gelu" for link in chain)
    model = helper.make_model(
        graph,
        producer_name="lonja",
        opset_imports=[helper.make_opsetid("", 20 if newer else 17)],
        ir_version=9 if newer else 8,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes one after the other, each with the last one's output and constants of its own."""

    def __init__(self, begins: str) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._last = begins

    def node(self, kind: str, constants: Sequence[tuple[str, Any]], **attributes: Any) -> None:
        from onnx import helper, numpy_helper

        self.tensors += [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in constants]
        output = f"step{len(self.nodes)}"
        names = [self._last, *(name for name, _ in constants)]
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        self._last = output
