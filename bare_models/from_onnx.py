"""A chain of dense layers in an ONNX graph as a bare model.

Enters: an ONNX file. Leaves: layers, their numbers, and the shape of an input row. Only chains are read,
each node taking what the one before it gives: Gemm or MatMul (with Add), BatchNormalization, activations,
and what does nothing (Dropout, Identity, Flatten and Reshape of the input to rows). Anything else is
refused by the names of its nodes. Constants may be initializers or Constant nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bare_models.layers import (
    Activation,
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    DropoutLayer,
    Layer,
    Layers,
    check,
)

Floats: TypeAlias = npt.NDArray[np.float32]
MAX_BYTES: Final = 2**31
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "Gelu": "gelu",
    "Softmax": "softmax",
}


@dataclass(frozen=True, slots=True)
class Converted:
    """What a graph holds.

    Attributes
    ----------
    numbers : by tensor name as `layers.needs` names them.
    row : shape of one input row, None where the graph leaves it open.
    input, output : names in the graph.
    """

    layers: list[Layer]
    numbers: dict[str, Floats]
    row: tuple[int, ...] | None
    input: str
    output: str


def read_onnx(path: Path) -> Converted:
    """Read a graph. Raises `BareInvalid` naming the node that no bare model has."""
    import onnx  # half a second that only a conversion costs
    from onnx import numpy_helper

    if path.stat().st_size > MAX_BYTES:
        raise BareInvalid(f"the file has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise BareInvalid(f"the file is not an ONNX model: {type(error).__name__}") from None
    graph = model.graph
    constants = {tensor.name: _array(tensor, numpy_helper.to_array) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain and node.output:
            constants[node.output[0]] = _constant(node, numpy_helper.to_array)
        else:
            nodes.append(node)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise BareInvalid(
            f"a bare model has one input and one output; this graph has {len(inputs)} and {len(graph.output)}"
        )
    reader = _Reader(constants, inputs[0].name)
    for number, node in enumerate(nodes):
        reader.take(_Node.of(node, number))
    reader.finish(graph.output[0].name)
    layers = _checked(reader.layers())
    row = _row(inputs[0])
    inputs_wanted = check(layers).inputs
    if row is not None and int(np.prod(row)) != inputs_wanted:
        raise BareInvalid(
            f"the input's rows {list(row)} do not hold the {inputs_wanted} values of the first layer"
        )
    return Converted(layers, reader.numbers(), row, inputs[0].name, graph.output[0].name)


@dataclass(frozen=True, slots=True)
class _Node:
    """A graph's node in plain values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, node: Any, number: int) -> _Node:
        from onnx import helper

        kind = str(node.op_type)  # what is not UTF-8 comes as bytes
        if node.domain not in {"", "ai.onnx"}:
            kind = f"{node.domain}.{kind}"
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        name = node.name[:100] or f"node {number}"
        return cls(kind[:100], name, tuple(node.input), tuple(node.output), attributes)

    def refuse(self, why: str) -> BareInvalid:
        kind = self.kind if self.kind.isprintable() else repr(self.kind)
        return BareInvalid(f"{kind} ({self.name!r}): {why}")


@dataclass(slots=True)
class _Dense:
    weight: Floats
    bias: Floats | None = None
    activation: Activation = "identity"
    alpha: float = 0.01


@dataclass(slots=True)
class _Norm:
    parts: tuple[Floats, Floats, Floats, Floats]
    epsilon: float


_Part: TypeAlias = _Dense | _Norm | ActivationLayer | DropoutLayer


@dataclass(slots=True)
class _Reader:
    """Follows the chain; `at` is the name of the value that the next node must take."""

    constants: Mapping[str, npt.NDArray[Any]]
    at: str
    parts: list[_Part] = field(default_factory=list)
    _gelu: _Gelu | None = None

    def take(self, node: _Node) -> None:
        """Follow one node. Raises `BareInvalid` naming it."""
        try:
            self._take(node)
        except BareInvalid:
            raise
        except (IndexError, TypeError, ValueError):  # too few inputs or outputs, a text for a number
            raise node.refuse("it has other inputs, outputs or attributes than ONNX gives it") from None

    def _take(self, node: _Node) -> None:
        if self._gelu is not None or _Gelu.begins(node, self.at):
            self._take_gelu(node)
            return
        if self.at not in node.inputs:
            raise node.refuse("it does not take what the node before it gives; a bare model is one chain")
        handler = self._handler(node.kind)
        if handler is None:
            known = "Gemm, MatMul, Add, BatchNormalization, Dropout, Flatten, Identity, Reshape"
            raise node.refuse(
                f"no bare model has it; known are {known}, {', '.join(_ACTIVATIONS)} and Gelu by Erf"
            )
        handler(node)
        self.at = node.outputs[0]

    def finish(self, output: str) -> None:
        if self._gelu is not None:
            raise self._gelu.refuse()
        if self.at != output:
            raise BareInvalid(f"the graph's output {output!r} is not what its last node gives")

    def layers(self) -> list[Layer]:
        return [_layer(part) for part in self.parts]

    def numbers(self) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for index, part in enumerate(self.parts):
            if isinstance(part, _Dense):
                found[f"{index}.weight"] = part.weight
                if part.bias is not None:
                    found[f"{index}.bias"] = part.bias
            elif isinstance(part, _Norm):
                names = ("weight", "bias", "running_mean", "running_var")
                found |= {f"{index}.{name}": value for name, value in zip(names, part.parts, strict=True)}
        return found

    def _handler(self, kind: str) -> Callable[[_Node], None] | None:
        if kind in _ACTIVATIONS:
            return self._activation
        return {
            "Gemm": self._gemm, "MatMul": self._matmul, "Add": self._add, "BatchNormalization": self._norm,
            "Dropout": self._dropout, "Identity": self._nothing, "Flatten": self._flatten,
            "Reshape": self._reshape,
        }.get(kind)  # fmt: skip

    def _numbers(self, node: _Node, place: int, *, dimensions: int) -> Floats:
        if place >= len(node.inputs) or node.inputs[place] not in self.constants:
            raise node.refuse(f"its input {place} is not a constant of the graph")
        values = self.constants[node.inputs[place]]
        if values.dtype != np.float32:
            raise node.refuse(
                f"its constant {node.inputs[place]!r} is {values.dtype}; a bare model is float32"
            )
        if values.ndim != dimensions:
            raise node.refuse(
                f"its constant {node.inputs[place]!r} has {values.ndim} dimensions, not {dimensions}"
            )
        return values

    def _gemm(self, node: _Node) -> None:
        alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        if node.inputs[0] != self.at or node.attributes.get("transA", 0):
            raise node.refuse("the rows must be its first input, not transposed")
        weight = self._numbers(node, 1, dimensions=2)
        if not node.attributes.get("transB", 0):
            weight = weight.T
        bias = None
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = self._bias(node, 2, weight.shape[0])
            bias = bias if beta == 1 else (bias * np.float32(beta))
        weight = np.ascontiguousarray(weight if alpha == 1 else weight * np.float32(alpha))
        self.parts.append(_Dense(weight, bias))

    def _matmul(self, node: _Node) -> None:
        if node.inputs[0] != self.at:
            raise node.refuse("the rows must be its first input")
        self.parts.append(_Dense(np.ascontiguousarray(self._numbers(node, 1, dimensions=2).T)))

    def _add(self, node: _Node) -> None:
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, _Dense) or last.activation != "identity":
            raise node.refuse("an Add is a dense layer's bias, so it stands right after its MatMul or Gemm")
        place = 1 - node.inputs.index(self.at)
        bias = self._bias(node, place, last.weight.shape[0])
        last.bias = bias if last.bias is None else last.bias + bias

    def _bias(self, node: _Node, place: int, size: int) -> Floats:
        values = self.constants.get(node.inputs[place])
        if values is None or values.dtype != np.float32 or values.size not in {1, size}:
            raise node.refuse(f"its bias must be a float32 constant of {size} numbers")
        if values.shape not in {(), (1,), (size,), (1, size), (1, 1)}:
            raise node.refuse(f"its bias has the shape {list(values.shape)}, not [{size}]")
        return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (size,)))

    def _norm(self, node: _Node) -> None:
        if node.attributes.get("training_mode", 0) or node.inputs[0] != self.at:
            raise node.refuse("it must not be in training mode, and takes the rows first")
        scale, bias, mean, variance = (self._numbers(node, place, dimensions=1) for place in range(1, 5))
        if not scale.size == bias.size == mean.size == variance.size:
            raise node.refuse("its four constants are not of one size")
        self.parts.append(_Norm((scale, bias, mean, variance), float(node.attributes.get("epsilon", 1e-5))))

    def _activation(self, node: _Node) -> None:
        kind = _ACTIVATIONS[node.kind]
        alpha = float(node.attributes.get("alpha", 0.01))
        if kind == "softmax" and node.attributes.get("axis", -1) not in {-1, 1}:
            raise node.refuse("its axis must be the last one")
        if kind == "gelu" and node.attributes.get("approximate", b"none") != b"none":
            raise node.refuse("only the exact form is known, not the one by tanh")
        self._activate(kind, alpha)

    def _activate(self, kind: Activation, alpha: float = 0.01) -> None:
        last = self.parts[-1] if self.parts else None
        if isinstance(last, _Dense) and last.activation == "identity":
            last.activation, last.alpha = kind, alpha
        else:
            self.parts.append(ActivationLayer(activation=kind, alpha=alpha))

    def _dropout(self, node: _Node) -> None:
        ratio = 0.5
        if len(node.inputs) > 1 and node.inputs[1] in self.constants:
            ratio = float(self.constants[node.inputs[1]])
        if len(node.inputs) > 2 and bool(self.constants.get(node.inputs[2], np.zeros(1)).any()):
            raise node.refuse("it must not be in training mode")
        self.parts.append(DropoutLayer(rate=ratio if 0 <= ratio < 1 else 0.5))

    def _nothing(self, node: _Node) -> None:
        """Identity: the value goes on under another name."""

    def _flatten(self, node: _Node) -> None:
        if self.parts and not any(isinstance(part, _Dense) for part in self.parts):
            raise node.refuse("only the input can be flattened, before anything else")
        if node.attributes.get("axis", 1) != 1:
            raise node.refuse("its axis must be 1, so that rows stay rows")

    def _reshape(self, node: _Node) -> None:
        shape = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if self.parts or shape is None or shape.size != 2 or int(shape[0]) not in {-1, 0}:
            raise node.refuse("only the input can be reshaped, to [rows, values] with the rows left open")

    def _take_gelu(self, node: _Node) -> None:
        if self._gelu is None:
            self._gelu = _Gelu(self.at, self.constants)
        done = self._gelu.take(node)
        if done is not None:
            self._activate("gelu")
            self.at, self._gelu = done, None


@dataclass(slots=True)
class _Gelu:
    """The nodes that opset 17 and below write a GELU with: x * 0.5 * (1 + erf(x / sqrt 2)), in any order.

    `scaled` holds the multiples of x by name, `erf` the sums with the error function.
    """

    start: str
    constants: Mapping[str, npt.NDArray[Any]]
    scaled: dict[str, float] = field(default_factory=dict)
    erf: dict[str, tuple[float, float]] = field(default_factory=dict)
    """name -> (a, b) for a * erf(x / sqrt 2) + b."""
    first: _Node | None = None

    @staticmethod
    def begins(node: _Node, at: str) -> bool:
        return node.kind in {"Div", "Mul"} and at in node.inputs

    def take(self, node: _Node) -> str | None:
        """Follow one node; returns the name of the GELU's value once it is complete."""
        self.scaled.setdefault(self.start, 1.0)
        self.first = self.first or node
        written = node.outputs[0]
        values = [self._scalar(name) for name in node.inputs]
        constant = next((value for value in values if value is not None), None)
        other = next((name for name, value in zip(node.inputs, values, strict=True) if value is None), "")
        if node.kind == "Erf" and abs(self.scaled.get(other, 0.0) - 2**-0.5) < 1e-6:
            self.erf[written] = (1.0, 0.0)
        elif node.kind in {"Mul", "Div"} and constant and other in (self.scaled | self.erf):
            if node.kind == "Div" and values[0] is not None:
                raise self.refuse()
            factor = constant if node.kind == "Mul" else 1 / constant
            if other in self.scaled:
                self.scaled[written] = self.scaled[other] * factor
            else:
                a, b = self.erf[other]
                self.erf[written] = (a * factor, b * factor)
        elif node.kind == "Add" and constant is not None and other in self.erf:
            a, b = self.erf[other]
            self.erf[written] = (a, b + constant)
        elif node.kind == "Mul" and constant is None:
            return self._product(node)
        else:
            raise self.refuse()
        return None

    def _product(self, node: _Node) -> str:
        one, two = node.inputs
        if one in self.erf:
            one, two = two, one
        if one not in self.scaled or two not in self.erf:
            raise self.refuse()
        factor, (a, b) = self.scaled[one], self.erf[two]
        if abs(factor * a - 0.5) > 1e-6 or abs(factor * b - 0.5) > 1e-6:
            raise self.refuse()
        return node.outputs[0]

    def _scalar(self, name: str) -> float | None:
        values = self.constants.get(name)
        return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None

    def refuse(self) -> BareInvalid:
        """Names the node that a GELU would have begun with."""
        if self.first is None:
            raise RuntimeError("nothing was taken")
        return self.first.refuse("Mul, Div and Erf are known only as the parts of a GELU, which this is not")


def _checked(layers: list[Layer]) -> list[Layer]:
    """The layers, if a manifest can hold them: not with a negative slope, say, or without outputs."""
    try:
        return msgspec.convert(msgspec.to_builtins(layers), Layers)
    except msgspec.ValidationError as error:
        raise BareInvalid(f"layers of a bare model cannot be like the graph's: {error}") from None


def _layer(part: _Part) -> Layer:
    if isinstance(part, _Dense):
        outputs, inputs = part.weight.shape
        return DenseLayer(
            inputs=inputs, outputs=outputs, activation=part.activation, alpha=part.alpha,
            bias=part.bias is not None,
        )  # fmt: skip
    if isinstance(part, _Norm):
        return BatchNormLayer(size=part.parts[0].size, epsilon=part.epsilon)
    return part


def _array(tensor: Any, to_array: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    try:
        return to_array(tensor)
    except Exception as error:  # an unknown type, or bytes that do not fill its shape
        raise BareInvalid(
            f"the constant {tensor.name[:100]!r} cannot be read: {type(error).__name__}"
        ) from None


def _constant(node: Any, to_array: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    for attribute in node.attribute:
        if attribute.name == "value":
            return _array(attribute.t, to_array)
        if attribute.name == "value_float":
            return np.array(attribute.f, np.float32)
        if attribute.name == "value_floats":
            return np.array(attribute.floats, np.float32)
        if attribute.name == "value_ints":
            return np.array(attribute.ints, np.int64)
    raise BareInvalid(f"Constant ({node.name!r}): its value is of a kind that is not known")


def _row(value: Any) -> tuple[int, ...] | None:
    from onnx import TensorProto

    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        raise BareInvalid(f"the input {value.name[:100]!r} is not of the type float32")
    sizes = [size.dim_value for size in kind.shape.dim][1:]
    if len(sizes) > 1 and not all(size > 0 for size in sizes):
        raise BareInvalid(f"the input {value.name[:100]!r} leaves open more than its number of rows")
    return tuple(sizes) if sizes and all(size > 0 for size in sizes) else None
