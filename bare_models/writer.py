"""A network's numbers to a file: an aligned safetensors container, or raw float32."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from bare_models.container import LENGTH, METADATA, PAD_PREFIX
from bare_models.layers import BareInvalid, Layer, TensorNeed, check, needs
from bare_models.reader import ALIGNMENT, DATA_SHA256_KEY, LAYERS_KEY

DATA_ALIGNMENT: Final = 4096
VERSION: Final = "1"


def write_safetensors(path: Path, layers: Sequence[Layer], numbers: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the container of docs/bare-format.md. The same layers and numbers give the same bytes.

    Parameters
    ----------
    numbers : by tensor name as `layers.needs` names them; anything else of it is not written.

    Raises
    ------
    BareInvalid
    """
    pieces = list(_pieces(layers, numbers))
    header: dict[str, object] = {}
    data, at = hashlib.sha256(), 0
    for name, dtype, shape, content in pieces:
        data.update(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    described = {
        "format": "lonja-bare",
        "lonja.version": VERSION,
        LAYERS_KEY: msgspec.json.encode(list(layers)).decode(),
        DATA_SHA256_KEY: data.hexdigest(),
    }
    text = json.dumps({METADATA: described, **header}, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH.size + len(text)) % DATA_ALIGNMENT)
    with path.open("wb") as file:
        file.write(LENGTH.pack(len(text)))
        file.write(text)
        for *_, content in pieces:
            file.write(content)


def write_raw(path: Path, layers: Sequence[Layer], numbers: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write `weights.bin`: little-endian float32 in layer order. Raises `BareInvalid`."""
    check(layers)
    with path.open("wb") as file:
        for need in needs(layers):
            file.write(_content(need, numbers))


def _pieces(
    layers: Sequence[Layer], numbers: Mapping[str, npt.NDArray[Any]]
) -> Iterator[tuple[str, str, list[int], memoryview]]:
    check(layers)
    for number, need in enumerate(needs(layers)):
        content = _content(need, numbers)
        yield need.name, "F32", list(need.shape), content
        if rest := -len(content) % ALIGNMENT:
            yield f"{PAD_PREFIX}.{number}", "U8", [rest], memoryview(bytes(rest))


def _content(need: TensorNeed, numbers: Mapping[str, npt.NDArray[Any]]) -> memoryview:
    if need.name not in numbers:
        raise BareInvalid(f"the tensor {need.name!r} of shape {list(need.shape)} is not given")
    values = np.ascontiguousarray(numbers[need.name], dtype="<f4")
    if values.shape != need.shape:
        raise BareInvalid(
            f"the tensor {need.name!r} has the shape {list(values.shape)}, not {list(need.shape)}"
        )
    return values.data.cast("B")
