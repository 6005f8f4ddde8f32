"""From a plan to a model that answers: in the worker, once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from node.runtime import agreement, bare_backend, linux, onnx_backend
from node.runtime.backend import Backend, Refused, Stop
from node.runtime.pipeline import Pipeline
from node.runtime.plan import BareSpec, LoadPlan
from node.types import LoadReport
from postprocessors.registry import OUTPUTS
from preprocessors.base import Limits
from preprocessors.registry import INPUTS

_Model = msgspec.defstruct(
    "_Model", [("input", INPUTS.union), ("output", OUTPUTS.union), ("format", str, "onnx")], frozen=True
)
"""What this layer reads of the manifest's `model`; the node has checked the rest."""


def preload() -> None:
    """Import every preprocessor and postprocessor, and what they load at their first use."""
    import importlib

    for entry in (*INPUTS, *OUTPUTS):
        importlib.import_module(entry.factory.partition(":")[0])
    from PIL import Image

    Image.init()


def load(plan: LoadPlan, *, began: float) -> tuple[Pipeline, LoadReport]:
    """Load the model of `plan`. Raises `Refused`."""
    try:
        model: Any = msgspec.json.decode(plan.model, type=_Model)
    except msgspec.ValidationError as error:
        raise Refused("model_invalid", f"manifest: {error}") from None
    backend = _backend(plan, model)
    agreement.check(backend, input_spec=model.input, output_spec=model.output, labels=plan.labels)
    limits = Limits(max_bytes=plan.max_bytes, max_pixels=plan.max_pixels)
    pipeline = Pipeline(
        INPUTS.create(model.input, limits=limits), backend, OUTPUTS.create(model.output, labels=plan.labels)
    )
    warmup_ms = _warm_up(backend) if plan.warmup else None
    linux.trim_heap()  # 30 MB of an 18 MB model: the file as it was read, and its unoptimised weights
    inputs: list[dict[str, object]] = [
        {"name": backend.input.name, "dtype": backend.input.dtype, "shape": list(backend.input.shape)}
    ]
    report = LoadReport(
        load_ms=(time.monotonic() - began) * 1e3,
        memory_bytes=proportional_set_size(),
        threads=backend.threads,
        inputs=inputs,
        warmup_ms=warmup_ms,
    )
    return pipeline, report


def _backend(plan: LoadPlan, model: Any) -> Backend:
    weights = Path(plan.weights_path)
    if model.format == "onnx":
        return onnx_backend.load(
            weights, plan.weights_file, threads=plan.threads, max_bytes=plan.memory_bytes
        )
    if model.format != "bare":
        raise Refused("model_invalid", f"manifest: this node serves no models of format {model.format!r}")
    try:
        spec = msgspec.json.decode(plan.model, type=BareSpec)
    except msgspec.ValidationError as error:
        raise Refused("model_invalid", f"manifest: {error}") from None
    row, dtype = agreement.rows(model.input)
    return bare_backend.load(
        weights,
        spec,
        row=row,
        dtype=dtype,
        names=(getattr(model.input, "name", None), agreement.output_name(model.output)),
        threads=plan.threads,
        max_bytes=plan.memory_bytes,
    )


def _warm_up(backend: Backend) -> float:
    began = time.monotonic()
    shape = [size or 1 for size in backend.input.shape]
    dtype: Any = backend.input.dtype
    backend.run(np.zeros(shape, dtype), Stop())
    return (time.monotonic() - began) * 1e3


def proportional_set_size(pid: int | str = "self") -> int:
    """Bytes of memory that this process costs: shared pages count by their number of users."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
