"""A bare model as an ONNX graph, for every other runtime.

Enters: layers and their numbers. Leaves: a file with one chain of Gemm, activations and
BatchNormalization, opset 17, input `input` [n, *row], output `output` [n, outputs].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bare_models.layers import (
    Activation,
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    Layer,
    check,
    needs,
    prefix,
)

OPSET: Final = 17
IR_VERSION: Final = 8
INPUT: Final = "input"
OUTPUT: Final = "output"
_PLAIN: Final[dict[Activation, str]] = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "identity": "Identity",
}


def write_onnx(
    path: Path,
    layers: Sequence[Layer],
    numbers: Mapping[str, npt.NDArray[Any]],
    *,
    row: Sequence[int] | None = None,
) -> None:
    """Write the graph.

    Parameters
    ----------
    numbers : by tensor name as `layers.needs` names them.
    row : shape of one row of the input; left out, flat. It is flattened first.

    Raises
    ------
    BareInvalid
    """
    import onnx  # half a second that only a conversion costs
    from onnx import TensorProto, helper, numpy_helper

    widths = check(layers)
    shape = [widths.inputs] if row is None else list(row)
    if int(np.prod(shape)) != widths.inputs:
        raise BareInvalid(f"rows of {shape} do not hold the {widths.inputs} values that the layers take")
    chain = _Chain(helper.make_node)
    if len(shape) > 1:
        chain.add("Flatten", axis=1)
    for index, layer in enumerate(layers):
        _add(chain, index, layer)
    chain.finish()
    graph = helper.make_graph(
        chain.nodes,
        "bare",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", widths.outputs])],
        [
            *(
                numpy_helper.from_array(
                    np.asarray(numbers[need.name], np.float32).reshape(need.shape), need.name
                )
                for need in needs(layers)
            ),
            *(numpy_helper.from_array(values, name) for name, values in chain.constants.items()),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="lonja", opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


class _Chain:
    """Nodes, each reading what the one before it wrote."""

    def __init__(self, make_node: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[np.float32]] = {}
        self._make_node, self._last = make_node, INPUT

    def add(self, kind: str, *constants: str, **attributes: Any) -> str:
        """Append a node; returns the name of what it writes."""
        written = f"value.{len(self.nodes)}"
        self.nodes.append(self._make_node(kind, [self._last, *constants], [written], **attributes))
        self._last = written
        return written

    def join(self, kind: str, *inputs: str) -> None:
        """Append a node that reads other values than the last."""
        written = f"value.{len(self.nodes)}"
        self.nodes.append(self._make_node(kind, list(inputs), [written]))
        self._last = written

    def constant(self, value: float) -> str:
        name = f"constant.{value!r}"
        self.constants[name] = np.array(value, np.float32)
        return name

    @property
    def last(self) -> str:
        return self._last

    def finish(self) -> None:
        """Let the last node write the output."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = OUTPUT


def _add(chain: _Chain, index: int, layer: Layer) -> None:
    if isinstance(layer, DenseLayer):
        start = prefix(index, layer)
        constants = [f"{start}.weight", *([f"{start}.bias"] if layer.bias else [])]
        chain.add("Gemm", *constants, transB=1)
        _activate(chain, layer.activation, layer.alpha, fused=True)
    elif isinstance(layer, ActivationLayer):
        _activate(chain, layer.activation, layer.alpha, fused=False)
    elif isinstance(layer, BatchNormLayer):
        start = prefix(index, layer)
        parts = ("weight", "bias", "running_mean", "running_var")
        chain.add("BatchNormalization", *(f"{start}.{part}" for part in parts), epsilon=layer.epsilon)
    else:
        ratio = chain.constant(layer.rate)
        chain.add("Dropout", ratio)


def _activate(chain: _Chain, activation: Activation, alpha: float, *, fused: bool) -> None:
    if activation == "identity" and fused:
        return
    if activation in _PLAIN:
        chain.add(_PLAIN[activation])
    elif activation == "leaky_relu":
        chain.add("LeakyRelu", alpha=alpha)
    elif activation == "softmax":
        chain.add("Softmax", axis=-1)
    else:
        _gelu(chain)


def _gelu(chain: _Chain) -> None:
    """x * 0.5 * (1 + erf(x / sqrt 2)); opset 17 has no node of its own for it."""
    given = chain.last
    chain.add("Mul", chain.constant(0.5))
    half = chain.last
    chain.join("Div", given, chain.constant(float(np.float32(np.sqrt(2)))))
    chain.add("Erf")
    chain.add("Add", chain.constant(1.0))
    chain.join("Mul", half, chain.last)
