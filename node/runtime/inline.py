"""Small bare models, answered by the main process itself: one row, no hop.

A bare model is numbers, not a graph: nothing of it can run code, and a small one takes less time than a
frame to its worker. Enters: a payload as it came. Leaves: what the worker would have answered, or None:
then nothing was done, and the worker answers or says what is wrong. So only the plain case is here: one
row, every number there, and an answer without a defect. Everything else, refusals above all, has its one
place in the worker. docs/decisions/0009.

No NumPy: the kernels are reached through `bare_models._row`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from bare_models.layers import (
    Activation,
    ActivationLayer,
    BareInvalid,
    BatchNormLayer,
    DenseLayer,
    check,
    needs,
    prefix,
)
from bare_models.reader import read
from node.runtime.plan import BareSpec, LoadPlan
from node.types import Options, Payload, RunResult, RunTimings
from postprocessors.registry import OUTPUTS
from postprocessors.specs import ClassificationOutput, RegressionOutput
from postprocessors.texts import ClassTexts, TargetTexts, targets
from preprocessors.features import row_type
from preprocessors.formats import TABULAR_FORMAT, TENSOR_FORMAT
from preprocessors.registry import INPUTS
from preprocessors.specs import TabularInput, TensorInput

MOST_WEIGHT_BYTES: Final = 2**20
"""A row of so many is some 10 us of the event loop."""
MOST_INPUTS: Final = 1024
MOST_BYTES: Final = 2**15
"""Of one input's JSON: some 20 us to read."""

if TYPE_CHECKING:
    from bare_models._row import RowNetwork

_Model = msgspec.defstruct(
    "_Model", [("input", INPUTS.union), ("output", OUTPUTS.union), ("format", str, "onnx")], frozen=True
)
Row: TypeAlias = list[float]
_read_numbers: Final = msgspec.json.Decoder(Row).decode


class _Task(Protocol):
    """What is made of a row."""

    def compute(self, row: Row, options: Options, /) -> Any:
        """The numbers of the answer; None where the row does not fit."""

    def write(self, computed: Any, options: Options, /) -> tuple[str | None, float | None]:
        """Their JSON (None where they are not finite) and the entropy."""


class Inline:
    """One model. Made by `prepare`."""

    def __init__(self, readers: dict[str, Callable[[bytes | memoryview], Row]], task: _Task) -> None:
        self._readers, self._task = readers, task

    def answer(self, payload: Payload, options: Options) -> RunResult | None:
        """The answer to one plain row; None where the worker has to look at the payload."""
        reader = self._readers.get(payload.format)
        if reader is None or payload.encoding != "json" or len(payload.content) > MOST_BYTES:
            return None
        began = time.perf_counter()
        try:
            row = reader(payload.content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        read = time.perf_counter()
        computed = self._task.compute(row, options)
        if computed is None:
            return None
        ran = time.perf_counter()
        text, entropy = self._task.write(computed, options)
        if text is None:
            return None
        timings = RunTimings((read - began) * 1e3, (ran - read) * 1e3, (time.perf_counter() - ran) * 1e3)
        return RunResult(msgspec.Raw(text.encode()), timings, entropy)


def prepare(plan: LoadPlan) -> Inline | None:
    """Read the weights of `plan`'s model, if it is one that can be answered here.

    What cannot be used here is not an error: the worker loads every model, and says what is wrong with one.
    """
    try:
        spec = msgspec.json.decode(plan.model, type=BareSpec)
        model: Any = msgspec.json.decode(plan.model, type=_Model)
        inputs = check(spec.layers).inputs
        weights = sum(need.nbytes for need in needs(spec.layers))
        readers = _readers(model.input, inputs)
        if model.format != "bare" or spec.allow_nan or inputs > MOST_INPUTS or weights > MOST_WEIGHT_BYTES:
            return None
        network = _network(plan, spec, inputs) if readers else None
    except (msgspec.MsgspecError, BareInvalid):
        return None
    task = _task(model.output, network, plan.labels) if network else None
    return Inline(readers, task) if task else None


def _readers(spec: msgspec.Struct, inputs: int) -> dict[str, Callable[[bytes | memoryview], Row]]:
    """How a row is read, by format; none where it takes more than reading numbers."""
    if isinstance(spec, TensorInput):
        plain = spec.dtype == "float32" and prod(size or 0 for size in spec.shape) == inputs
        return {TENSOR_FORMAT.name: _read_numbers} if plain else {}
    if not isinstance(spec, TabularInput):
        return {}
    if any(feature.values is not None or feature.missing is not None for feature in spec.features):
        return {TENSOR_FORMAT.name: _read_numbers}
    decode = msgspec.json.Decoder(row_type(spec.features)).decode
    scales = [(feature.mean, feature.std) for feature in spec.features]

    def read(content: bytes | memoryview) -> Row:
        values = msgspec.structs.astuple(decode(content))
        return [(value - mean) / std for value, (mean, std) in zip(values, scales, strict=True)]

    return {TENSOR_FORMAT.name: _read_numbers, TABULAR_FORMAT.name: read}


def _network(plan: LoadPlan, spec: BareSpec, inputs: int) -> RowNetwork | None:
    """The layers as one chain; None where they are not one. Raises `BareInvalid`."""
    from bare_models._row import RowNetwork

    numbers = read(
        Path(plan.weights_path),
        spec.layers,
        container=spec.weights.container,
        sha256=spec.weights.sha256,
        max_bytes=plan.memory_bytes,
    ).tensors
    chain: list[tuple[memoryview[float], memoryview[float] | None, Activation, float]] = []
    for index, layer in enumerate(spec.layers):
        if isinstance(layer, DenseLayer):
            start = prefix(index, layer)
            bias = numbers[f"{start}.bias"] if layer.bias else None
            chain.append((numbers[f"{start}.weight"], bias, layer.activation, layer.alpha))
        elif isinstance(layer, ActivationLayer):
            if not chain or chain[-1][2] != "identity":
                return None
            chain[-1] = (*chain[-1][:2], layer.activation, layer.alpha)
        elif isinstance(layer, BatchNormLayer):
            return None  # folding takes float64 arrays
    if any(activation == "softmax" for _, _, activation, _ in chain[:-1]):
        return None
    return RowNetwork(chain, inputs=inputs)


def _task(spec: msgspec.Struct, network: RowNetwork, labels: list[str] | None) -> _Task | None:
    if isinstance(spec, ClassificationOutput):
        return _Classes(spec, network, ClassTexts(labels))
    if isinstance(spec, RegressionOutput):
        return _Targets(network, TargetTexts(targets(spec.targets, labels)))
    return None


class _Classes:
    def __init__(self, spec: ClassificationOutput, network: RowNetwork, texts: ClassTexts) -> None:
        self._spec, self._network, self._texts = spec, network, texts

    def compute(self, row: Row, options: Options, /) -> tuple[list[float], list[int], float] | None:
        return self._network.best(row, options.top_k or self._spec.top_k, self._spec.activation)

    def write(
        self, computed: tuple[list[float], list[int], float], options: Options, /
    ) -> tuple[str | None, float | None]:
        values, ids, entropy = computed
        floor = self._spec.threshold if options.threshold is None else options.threshold
        return self._texts.row(values, ids, floor), entropy if isfinite(entropy) else None


class _Targets:
    def __init__(self, network: RowNetwork, texts: TargetTexts) -> None:
        self._network, self._texts = network, texts

    def compute(self, row: Row, _options: Options, /) -> Row | None:
        return self._network(row)

    def write(self, computed: Row, _options: Options, /) -> tuple[str | None, float | None]:
        return self._texts.row(computed), None
