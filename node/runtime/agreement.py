"""Whether a manifest and the model's own graph speak of the same tensors; checked once, at load.

A publisher reads these texts, so each says what both sides say and which one to change.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from node.runtime.backend import Backend, Refused, TensorInfo
from postprocessors.specs import ClassificationOutput, RawOutput, RegressionOutput
from preprocessors.specs import ImageInput, TabularInput, TensorInput


def check(
    backend: Backend, *, input_spec: msgspec.Struct, output_spec: msgspec.Struct, labels: list[str] | None
) -> None:
    """Compare names, shapes and types. Kinds that this module does not know are not compared.

    Raises
    ------
    Refused
        With the code `model_invalid`.
    """
    row, dtype = rows(input_spec)
    if row is not None:
        _check_input(backend.input, getattr(input_spec, "name", None), row, dtype)
    if isinstance(output_spec, ClassificationOutput):
        output = _output(backend.outputs, output_spec.name)
        _check_classes(output, labels)
    elif isinstance(output_spec, RegressionOutput):
        _check_targets(_output(backend.outputs, output_spec.name), len(output_spec.targets or labels or [""]))
    elif isinstance(output_spec, RawOutput):
        for name in output_spec.names or ():
            _output(backend.outputs, name)


def rows(input_spec: msgspec.Struct) -> tuple[tuple[int | None, ...] | None, str]:
    """Shape (None where the kind is not known) and type of one row that an input gives."""
    if isinstance(input_spec, ImageInput):
        picture = input_spec.picture()
        return picture.shape, picture.dtype
    if isinstance(input_spec, TensorInput):
        return tuple(input_spec.shape), input_spec.dtype
    if isinstance(input_spec, TabularInput):
        return (input_spec.width,), "float32"
    return None, "float32"


def output_name(output_spec: msgspec.Struct) -> str | None:
    """The name that a manifest gives to the model's first or only output."""
    if isinstance(output_spec, RawOutput):
        return output_spec.names[0] if output_spec.names else None
    return getattr(output_spec, "name", None)


def _check_input(graph: TensorInfo, name: str | None, row: Sequence[int | None], dtype: str) -> None:
    if name is not None and name != graph.name:
        raise _invalid(f"the manifest's model.input.name is {name!r}, the graph's input is {graph}")
    if dtype != graph.dtype:
        raise _invalid(f"the manifest's model.input gives {dtype}, the graph's input is {graph}")
    if len(graph.shape) != len(row) + 1:
        raise _invalid(
            f"the manifest's model.input gives rows of {len(row)} dimensions, so the graph's input needs "
            f"{len(row) + 1}, the first one counting rows; it is {graph}"
        )
    if any(
        None not in (ours, theirs) and ours != theirs
        for ours, theirs in zip(row, graph.shape[1:], strict=True)
    ):
        shown = ", ".join("any" if size is None else str(size) for size in row)
        raise _invalid(
            f"the manifest's model.input gives rows [{shown}], the graph's input is {graph}: check size, "
            "color and layout"
        )


def _check_classes(output: TensorInfo, labels: list[str] | None) -> None:
    classes = output.shape[-1] if output.shape else None
    if labels is not None and classes is not None and classes != len(labels):
        raise _invalid(f"the manifest has {len(labels)} labels, the graph's output is {output}")


def _check_targets(output: TensorInfo, targets: int) -> None:
    values = output.shape[-1] if len(output.shape) > 1 else 1
    if values is not None and values != targets:
        raise _invalid(f"the manifest's regression has {targets} targets, the graph's output is {output}")


def _output(outputs: tuple[TensorInfo, ...], name: str | None) -> TensorInfo:
    if name is None:
        return outputs[0]
    for output in outputs:
        if output.name == name:
            return output
    listed = ", ".join(map(str, outputs))
    raise _invalid(f"the manifest's model.output names {name!r}; the graph's outputs are {listed}")


def _invalid(text: str) -> Refused:
    return Refused("model_invalid", text)
