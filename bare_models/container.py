"""The header of a safetensors file, read strictly.

Enters: the first bytes of a stranger's file and its size. Leaves: where each tensor lies. Everything is
checked before a tensor is read or a byte is allocated for one: see docs/bare-format.md. The reference
library is not used, because it maps the file, accepts headers of 100 MB, and knows nothing of alignment.

Source: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bare_models.layers import BareInvalid
from bare_models.nesting import deeper_than

LENGTH: Final = struct.Struct("<Q")
MAX_HEADER: Final = 2**20
"""256 layers with long names need a fifth of it; the format would allow 100 MB."""
MAX_TENSORS: Final = 4096
MAX_DEPTH: Final = 8
"""The format has three levels."""
PAD_PREFIX: Final = "__pad__"
METADATA: Final = "__metadata__"
ITEM_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=2**40)]], Meta(max_length=8)]
    data_offsets: tuple[Annotated[int, Meta(ge=0, le=2**62)], Annotated[int, Meta(ge=0, le=2**62)]]


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file; `begin` and `end` count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: tensors in the order in which they lie, and free text by name."""

    length: int
    tensors: tuple[Stored, ...]
    metadata: dict[str, str]

    @property
    def data_begin(self) -> int:
        return LENGTH.size + self.length


def header_length(start: bytes, *, file_size: int) -> int:
    """Read the first eight bytes of a file. Raises `BareInvalid`."""
    if len(start) < LENGTH.size or file_size < LENGTH.size:
        raise BareInvalid(f"the file has {file_size} bytes; a safetensors file begins with 8 of length")
    length = int(LENGTH.unpack_from(start)[0])
    if length > file_size - LENGTH.size:
        raise BareInvalid(
            f"the file says that its header has {length} bytes, but only {file_size - LENGTH.size} follow: "
            "it is not safetensors, or was cut"
        )
    if length > MAX_HEADER:
        raise BareInvalid(f"the header has {length} bytes; at most {MAX_HEADER} are read")
    return length


def parse_header(text: bytes, *, file_size: int) -> Header:
    """Read the JSON after the length.

    Raises
    ------
    BareInvalid
        Where it is not that of the format, a tensor lies outside of the file or over another, its bytes do
        not fit its type and shape, or bytes belong to none.
    """
    members = _members(text)
    metadata = _metadata(members.pop(METADATA, {}))
    if len(members) > MAX_TENSORS:
        raise BareInvalid(f"the header lists {len(members)} tensors; at most {MAX_TENSORS} are read")
    begin = LENGTH.size + len(text)
    tensors = sorted((_stored(*item, begin) for item in members.items()), key=lambda t: (t.begin, t.end))
    at, before = begin, "the header"
    for tensor in tensors:
        if tensor.begin != at:
            how = "overlap" if tensor.begin < at else f"have {tensor.begin - at} bytes between them"
            raise BareInvalid(f"{before} and the tensor {tensor.name!r} {how}")
        at, before = tensor.end, f"the tensor {tensor.name!r}"
    if at > file_size:
        raise BareInvalid(f"{before} ends at byte {at}, but the file has {file_size}")
    if at < file_size:
        raise BareInvalid(f"{before} ends at byte {at}, and {file_size - at} bytes after it belong to none")
    return Header(len(text), tuple(tensors), metadata)


def _members(text: bytes) -> dict[str, Any]:
    if text[:1] != b"{":
        raise BareInvalid("the header does not begin with '{': the file is not safetensors")
    if deeper_than(MAX_DEPTH, text):
        raise BareInvalid(f"the header is nested deeper than {MAX_DEPTH} levels")
    try:
        members = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(members, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, BareInvalid) else f"it is not JSON ({type(error).__name__})"
        raise BareInvalid(f"the header cannot be read: {what}") from None
    return dict(members)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BareInvalid("a name stands in it twice")
    return members


def _no_constant(name: str) -> None:
    raise BareInvalid(f"JSON has no {name}")


def _metadata(given: object) -> dict[str, str]:
    try:
        return msgspec.convert(given, dict[str, str])
    except msgspec.ValidationError:
        raise BareInvalid(f"{METADATA} of the header must be an object of texts") from None


def _stored(name: str, given: object, begin: int) -> Stored:
    try:
        entry = msgspec.convert(given, _Entry)
    except msgspec.ValidationError as error:
        raise BareInvalid(f"the tensor {name[:100]!r} of the header: {error}") from None
    item = ITEM_BYTES.get(entry.dtype)
    if item is None:
        raise BareInvalid(f"the tensor {name[:100]!r} has the type {entry.dtype[:20]!r}, which is not known")
    first, last = entry.data_offsets
    if last - first != prod(entry.shape) * item:
        raise BareInvalid(
            f"the tensor {name[:100]!r} has {last - first} bytes, but {entry.dtype} {entry.shape} takes "
            f"{prod(entry.shape) * item}"
        )
    return Stored(name, entry.dtype, tuple(entry.shape), begin + first, begin + last)
