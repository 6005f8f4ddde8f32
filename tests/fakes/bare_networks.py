"""Small bare models with known numbers, and what they must answer, in plain NumPy."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bare_models.layers import (
    ActivationLayer,
    BatchNormLayer,
    DenseLayer,
    DropoutLayer,
    Layer,
    needs,
    prefix,
)
from cython_ops.reference import activate

Numbers = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

MLP: list[Layer] = [
    DenseLayer(inputs=6, outputs=9, activation="relu"),
    DropoutLayer(rate=0.2),
    DenseLayer(inputs=9, outputs=4),
]
EVERYTHING: list[Layer] = [
    BatchNormLayer(size=6),
    DenseLayer(inputs=6, outputs=9),
    BatchNormLayer(size=9, epsilon=1e-3),
    ActivationLayer(activation="gelu"),
    DropoutLayer(),
    DenseLayer(inputs=9, outputs=8, activation="leaky_relu", alpha=0.2, bias=False),
    BatchNormLayer(size=8),
    ActivationLayer(activation="tanh"),
    DenseLayer(inputs=8, outputs=5, activation="sigmoid"),
    ActivationLayer(activation="identity"),
    DenseLayer(inputs=5, outputs=3, activation="softmax"),
]


def numbers(layers: Sequence[Layer], *, seed: int = 0) -> Numbers:
    """Random numbers for every tensor; variances are positive."""
    rng = np.random.default_rng(seed)
    made = {need.name: rng.standard_normal(need.shape).astype(np.float32) for need in needs(layers)}
    return {name: np.abs(value) + 0.1 if name.endswith("_var") else value for name, value in made.items()}


def answer(layers: Sequence[Layer], given: Mapping[str, Any], rows: Any) -> Any:
    """Layer by layer, nothing folded or fused, in float64."""
    x = np.asarray(rows, np.float64)
    for index, layer in enumerate(layers):
        if isinstance(layer, DenseLayer):
            start = prefix(index, layer)
            x = x @ given[f"{start}.weight"].astype(np.float64).T
            x = x + given[f"{start}.bias"] if layer.bias else x
        if isinstance(layer, DenseLayer | ActivationLayer):
            x = activate(x.astype(np.float32), activation=layer.activation, alpha=layer.alpha)
        elif isinstance(layer, BatchNormLayer):
            part = {
                name: given[f"{prefix(index, layer)}.{name}"].astype(np.float64)
                for name in ("weight", "bias", "running_mean", "running_var")
            }
            scaled = (x - part["running_mean"]) / np.sqrt(part["running_var"] + layer.epsilon)
            x = scaled * part["weight"] + part["bias"]
    return x


def safetensors(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with any header, right or wrong; bytes stay as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path
