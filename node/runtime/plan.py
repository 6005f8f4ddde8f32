"""What the node tells a worker to load. Plain data: the main process builds it, the worker reads it."""

from __future__ import annotations

import msgspec

from bare_models.layers import Layers
from bare_models.reader import Container


class LoadPlan(msgspec.Struct, frozen=True):
    """One model to load into one worker.

    Attributes
    ----------
    model : the manifest's `model` object as JSON; the worker reads `format`, `input` and `output` of it.
    weights_path : a verified file, or a folder with the model file and its external data.
    weights_file : the model file's place in the folder; None for a single file.
    labels : class names by index, None where the model has none.
    warmup : run the model once before it counts as loaded.
    threads : threads of one run; 0 for as many as this process may use.
    memory_bytes : what the worker may allocate beyond what it shares with the forkserver.
    max_pixels : largest picture that is decoded.
    max_bytes : largest input.
    """

    model: bytes
    weights_path: str
    weights_file: str | None = None
    labels: list[str] | None = None
    warmup: bool = True
    threads: int = 0
    memory_bytes: int = 4 * 2**30
    max_pixels: int = 50_000_000
    max_bytes: int = 32 * 2**20


class WeightsSpec(msgspec.Struct, frozen=True):
    """What is read of the manifest's `weights`."""

    container: Container = "safetensors"
    sha256: str | None = None


class BareSpec(msgspec.Struct, frozen=True):
    """What is read of the manifest's `model`."""

    layers: Layers
    weights: WeightsSpec = WeightsSpec()
    allow_nan: bool = False
