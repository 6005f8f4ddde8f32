"""Reads the Protocol Buffers wire format field by field, without a schema and without copying.

Source: https://protobuf.dev/programming-guides/encoding/. Enters: a view of a message. Leaves: its
fields. Payloads are handed out as views, so that gigabytes of weights are stepped over, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED: Final = {FIXED64: 8, FIXED32: 4}


class WireInvalid(ValueError):
    """Not a Protocol Buffers message, or more of one than is read."""


class Budget:
    """How many fields may be read in all, however they are nested."""

    __slots__ = ("left",)

    def __init__(self, fields: int) -> None:
        self.left = fields


def fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with their values: integers, or views for everything with a length.

    Fixed-size numbers come as views of their bytes. Raises `WireInvalid`.
    """
    at, end = 0, len(message)
    while at < end:
        budget.left -= 1
        if budget.left < 0:
            raise WireInvalid("the file has more parts than a model may have")
        key, at = _varint(message, at, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireInvalid("field number 0")
        if kind == VARINT:
            value, at = _varint(message, at, end)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at, end)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise WireInvalid(f"wire type {kind}")
        if size > end - at:
            raise WireInvalid("a field is longer than what holds it: the file is cut short or not ONNX")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise WireInvalid("a number is longer than 64 bits")
    raise WireInvalid("the file ends within a number")
