"""A trained network to files that a publisher brings: safetensors, `weights.bin`, ONNX, and their manifests.

The bare containers and their `layers` are those of `bare_models` (docs/bare-format.md). A bare manifest
carries the scalings of inputs and targets; in the ONNX graph they are nodes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bare_models.layers import DenseLayer
from bare_models.writer import write_raw, write_safetensors
from training.chain import Link, answers, links, two_logits
from training.errors import TrainingError
from training.network import Network
from training.onnx_export import INPUT, onnx_bytes
from training.ops import Array
from training.splitting import Scaling

TOLERANCE = 1e-4
"""Of the largest answer: how far folding may move an answer."""


@dataclass(frozen=True, slots=True)
class About:
    """What a manifest says of the model. `classes` empty means numbers, called `target`."""

    model_id: str
    name: str
    description: str
    columns: tuple[str, ...]
    target: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """The files."""

    safetensors: Path
    raw: Path
    manifest: Path
    onnx: Path
    onnx_manifest: Path


def export(
    network: Network,
    folder: Path,
    about: About,
    *,
    inputs: Scaling,
    outputs: Scaling | None,
    check_on: Array,
) -> Exported:
    """Write all files into `folder`.

    Parameters
    ----------
    inputs, outputs : scalings of rows before the network and of its targets.
    check_on : scaled rows on which the exported chain must answer as the network does.

    Raises
    ------
    TrainingError
        The chain answers otherwise: nothing is written.
    """
    chain = links(network)
    _check(network, chain, check_on)
    if len(about.classes) == 2 and network.outputs == 1:
        chain = two_logits(chain)
    folder.mkdir(parents=True, exist_ok=True)
    made = Exported(
        folder / "model.safetensors",
        folder / "weights.bin",
        folder / "metadata.json",
        folder / "model.onnx",
        folder / "metadata.onnx.json",
    )
    layers, numbers = bare_layers(chain), bare_numbers(chain)
    write_safetensors(made.safetensors, layers, numbers)
    write_raw(made.raw, layers, numbers)
    made.onnx.write_bytes(onnx_bytes(chain, output=_output(about), inputs=inputs, outputs=outputs))
    bare = manifest(about, inputs=inputs, outputs=outputs, layers=layers)
    made.manifest.write_bytes(bare)
    made.onnx_manifest.write_bytes(manifest(about, inputs=None, outputs=None, layers=None))
    return made


def bare_layers(chain: Sequence[Link]) -> list[DenseLayer]:
    """The manifest's `layers`; tensors are called `layers.N.weight` and `layers.N.bias`."""
    return [
        DenseLayer(
            inputs=link.weight.shape[1],
            outputs=link.weight.shape[0],
            activation=link.activation,
            alpha=link.alpha,
            name=f"layers.{i}",
        )
        for i, link in enumerate(chain)
    ]


def bare_numbers(chain: Sequence[Link]) -> dict[str, Array]:
    """The tensors by those names, float32."""
    return {
        f"layers.{i}.{part}": getattr(link, part)
        for i, link in enumerate(chain)
        for part in ("weight", "bias")
    }


def manifest(
    about: About, *, inputs: Scaling | None, outputs: Scaling | None, layers: Sequence[DenseLayer] | None
) -> bytes:
    """A draft for `lonja publish`: of the bare model with `layers`, of the ONNX file without."""
    features: list[dict[str, Any]] = [{"name": name} for name in about.columns]
    if inputs is not None:
        for feature, mean, deviation in zip(features, inputs.mean, inputs.deviation, strict=True):
            feature |= {"mean": float(mean), "std": float(deviation)}
    model: dict[str, Any] = {
        "schema": 1,
        "model_id": about.model_id,
        "model_type": "tabular_classification" if about.classes else "tabular_regression",
        "format": "onnx" if layers is None else "bare",
    }
    if about.classes:
        model["labels"] = list(about.classes)
    model["input"] = {"kind": "tabular", "features": features}
    model["output"] = _described(about, outputs)
    if layers is None:
        model["input"] = {"name": INPUT, **model["input"]}
        model["output"] = {"name": _output(about), **model["output"]}
    else:
        model["layers"] = msgspec.to_builtins(layers)
    draft = {"name": about.name, "description": about.description, "model": model}
    return msgspec.json.format(msgspec.json.encode(draft), indent=2) + b"\n"


def model_id_of(text: str) -> str:
    """Letters, digits, dots, dashes and underscores of a text, at most 64: what a `model_id` may be."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._").lower()
    return plain[:64] or "model"


def _described(about: About, outputs: Scaling | None) -> dict[str, Any]:
    if about.classes:
        return {"task": "classification", "activation": "softmax", "top_k": min(len(about.classes), 5)}
    target: dict[str, Any] = {"name": about.target}
    if outputs is not None:
        target |= {"mean": float(outputs.mean[0]), "std": float(outputs.deviation[0])}
    return {"task": "regression", "targets": [target]}


def _output(about: About) -> str:
    return "logits" if about.classes else "value"


def _check(network: Network, chain: Sequence[Link], x: Array) -> None:
    rows = x[:1024]
    expected = network.predict(rows)
    off = float(np.abs(answers(chain, rows) - expected).max(initial=0))
    if not off <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0))):
        raise TrainingError(
            f"the network cannot be exported: as a chain of dense layers its answers differ by {off:.2g}. "
            "Its numbers are too large or not finite: see the verdict"
        )
