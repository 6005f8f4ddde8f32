"""A bare model's file into memory: one pass, one allocation, everything checked before it.

Enters: a path and what the manifest says of it. Leaves: read-only float32 buffers by tensor name, each on
a 64-byte boundary. The numbers are copied out of the file while it is hashed, and not mapped: what was
hashed is what is served, whatever becomes of the file, and a truncation is an error instead of a SIGBUS
(docs/decisions/0005). No NumPy here.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Literal

import msgspec

from bare_models.container import LENGTH, PAD_PREFIX, Header, Stored, header_length, parse_header
from bare_models.layers import BareInvalid, Layer, Layers, TensorNeed, needs

ALIGNMENT: Final = 64
READ_PIECE: Final = 2**22
MAX_EXTRA_BYTES: Final = 2**20
"""Padding and counters may take this much of a file in all."""
LAYERS_KEY: Final = "lonja.layers"
DATA_SHA256_KEY: Final = "lonja.data_sha256"

Container = Literal["safetensors", "raw"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Tensors of a model: float32, little-endian, row-major, read-only, 64-byte aligned."""

    tensors: Mapping[str, memoryview[float]]
    nbytes: int


def read(
    path: Path, layers: Sequence[Layer], *, container: Container, sha256: str | None, max_bytes: int
) -> Numbers:
    """Read the numbers of `layers`.

    Parameters
    ----------
    sha256 : of the whole file in hex; None where nobody has said it.
    max_bytes : most memory that the numbers may take.

    Raises
    ------
    BareInvalid
    """
    needed = needs(layers)
    total = sum(_padded(need.nbytes) for need in needed)
    if total > max_bytes:
        raise BareInvalid(f"the layers hold {total} bytes of numbers; {max_bytes} may be loaded")
    try:
        with path.open("rb", buffering=0) as file:
            source = _Source(file)
            if container == "raw":
                numbers = _read_raw(source, needed)
            else:
                numbers = _read_safetensors(source, needed, layers)
    except OSError as error:
        raise BareInvalid(f"the file cannot be read: {error.strerror}") from None
    found = source.digest.hexdigest()
    if sha256 is not None and found != sha256:
        raise BareInvalid(f"the file's SHA-256 is {found}, but the manifest's weights.sha256 is {sha256}")
    return numbers


def read_layers(path: Path) -> list[Layer]:
    """The layers that a safetensors file itself describes. Raises `BareInvalid`."""
    with path.open("rb", buffering=0) as file:
        header = _header(_Source(file))
    if LAYERS_KEY not in header.metadata:
        raise BareInvalid(f"the file does not describe its layers ({LAYERS_KEY} of its metadata)")
    return _described(header)


class _Source:
    """An open file of fixed size that is read once, from its start to its end, and hashed on the way."""

    def __init__(self, file: FileIO) -> None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BareInvalid("the weights are not a file")
        self._file = file
        self.size = status.st_size
        self.digest = hashlib.sha256()

    def fill(self, target: memoryview) -> None:
        """Read the next `len(target)` bytes. Raises `BareInvalid` where the file was cut meanwhile."""
        done = 0
        while done < len(target):
            piece = target[done : done + READ_PIECE]
            count = self._file.readinto(piece)
            if not count:
                raise BareInvalid("the file became shorter while it was read")
            self.digest.update(piece[:count])
            done += count

    def take(self, count: int) -> bytes:
        """Read the next `count` bytes, which must be few."""
        buffer = bytearray(count)
        self.fill(memoryview(buffer))
        return bytes(buffer)


class _Arena:
    """One anonymous mapping that all tensors lie in."""

    def __init__(self, needed: Sequence[TensorNeed]) -> None:
        self.nbytes = sum(_padded(need.nbytes) for need in needed)
        self._map = mmap.mmap(-1, self.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if self.nbytes >= 2**22 and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        whole, at = memoryview(self._map), 0
        self.places: dict[str, memoryview] = {}
        for need in needed:
            self.places[need.name] = whole[at : at + need.nbytes]
            at += _padded(need.nbytes)

    def numbers(self) -> Numbers:
        return Numbers(
            {name: place.toreadonly().cast("f") for name, place in self.places.items()}, self.nbytes
        )


def _read_raw(source: _Source, needed: Sequence[TensorNeed]) -> Numbers:
    expected = sum(need.nbytes for need in needed)
    if source.size != expected:
        raise BareInvalid(
            f"the file has {source.size} bytes; the manifest's layers take {expected} as raw float32"
        )
    arena = _Arena(needed)
    for need in needed:
        source.fill(arena.places[need.name])
    return arena.numbers()


def _header(source: _Source) -> Header:
    length = header_length(source.take(min(LENGTH.size, source.size)), file_size=source.size)
    return parse_header(source.take(length), file_size=source.size)


def _read_safetensors(source: _Source, needed: Sequence[TensorNeed], layers: Sequence[Layer]) -> Numbers:
    header = _header(source)
    if LAYERS_KEY in header.metadata and _described(header) != list(layers):
        raise BareInvalid("the file describes other layers than the manifest's `layers`")
    _match(header.tensors, needed)
    arena = _Arena(needed)
    data = hashlib.sha256()
    for tensor in header.tensors:
        place = arena.places.get(tensor.name)
        if place is None:
            place = memoryview(bytearray(tensor.end - tensor.begin))
        source.fill(place)
        data.update(place)
    promised = header.metadata.get(DATA_SHA256_KEY)
    if promised is not None and promised != data.hexdigest():
        raise BareInvalid(f"the data's SHA-256 is not the one that the file's {DATA_SHA256_KEY} gives")
    return arena.numbers()


def _match(tensors: Sequence[Stored], needed: Sequence[TensorNeed]) -> None:
    """Every tensor that is needed is there as it must be, and no other but padding."""
    have = {tensor.name: tensor for tensor in tensors}
    for need in needed:
        tensor = have.pop(need.name, None)
        if tensor is None:
            raise BareInvalid(f"the file lacks the tensor {need.name!r} of shape {list(need.shape)}")
        if tensor.dtype != "F32":
            raise BareInvalid(f"the tensor {need.name!r} is {tensor.dtype}; a bare model's numbers are F32")
        if tensor.shape != need.shape:
            raise BareInvalid(
                f"the tensor {need.name!r} has the shape {list(tensor.shape)}, the manifest's layers need "
                f"{list(need.shape)}"
            )
    extra = [tensor for tensor in have.values() if not _ignored(tensor)]
    if extra:
        names = ", ".join(repr(tensor.name[:100]) for tensor in extra[:5])
        raise BareInvalid(f"the file has tensors that no layer uses: {names}")
    if sum(tensor.end - tensor.begin for tensor in have.values()) > MAX_EXTRA_BYTES:
        raise BareInvalid(f"the padding takes more than {MAX_EXTRA_BYTES} bytes")


def _ignored(tensor: Stored) -> bool:
    # PyTorch's batch norm counts its batches in a tensor of this name
    return (tensor.name.startswith(PAD_PREFIX) and tensor.dtype == "U8") or (
        tensor.name.endswith(".num_batches_tracked") and tensor.end - tensor.begin == 8
    )


def _described(header: Header) -> list[Layer]:
    try:
        return msgspec.json.decode(header.metadata[LAYERS_KEY].encode(), type=Layers)
    except msgspec.MsgspecError as error:
        raise BareInvalid(f"{LAYERS_KEY} of the file's metadata: {error}") from None


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
