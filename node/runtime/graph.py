"""Checks an ONNX file before ONNX Runtime sees it."""

from __future__ import annotations

from pathlib import Path

from node.runtime.backend import Refused


def entry(weights: Path) -> Path:
    """The `.onnx` file of `weights`."""
    file = weights / "model.onnx" if weights.is_dir() else weights
    if not file.is_file():
        raise Refused("model_invalid", "a folder of weights needs a file `model.onnx`")
    return file


def check(file: Path, *, folder: Path | None, max_bytes: int) -> None:
    """Refuse what must not be loaded."""
