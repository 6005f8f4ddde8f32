"""Numbers from JSON to rows of a tensor.

Enters: nested lists, one flat list, or {"shape", "data"}. Leaves: an array [n, *row] of the spec's
dtype. Every value must be finite in that dtype: JSON has no NaN and no Infinity, and none is made up.

How deep the lists may be is known from the spec, so that msgspec decodes straight into typed lists
and names the place of a wrong element; nothing is guessed from the first values.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec
import numpy as np

from preprocessors.base import Array, Encoding, InputInvalid, InputTooBig, Limits
from preprocessors.formats import TENSOR_FORMAT
from preprocessors.specs import TensorInput

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INTEGERS: Final = frozenset({"int8", "int16", "int32", "int64", "uint8"})


class _Shaped(msgspec.Struct, forbid_unknown_fields=True):
    shape: list[int]
    data: msgspec.Raw


class TensorPreprocessor:
    """Serves `TensorInput`, and the `tensor` format of other kinds of input."""

    def __init__(self, spec: TensorInput, *, limits: Limits) -> None:
        self._row = tuple(spec.shape)
        self._dtype = spec.dtype
        self._limits = limits
        self._fixed = 1
        for size in self._row:
            self._fixed *= size or 0

    def __call__(self, format: str, content: bytes | memoryview, encoding: Encoding) -> Array:  # noqa: A002
        """Decode one tensor. See `Preprocessor`."""
        if format != TENSOR_FORMAT.name:
            raise InputInvalid(f"this model takes the format 'tensor', not {format!r}")
        if encoding != "json":
            raise InputInvalid("a tensor is sent as JSON in `input_data.content`, not as a raw body")
        self._check_cost(content)
        head = bytes(content[:64]).lstrip()[:1]
        if head == b"{":
            return self._shaped(content)
        if head != b"[":
            raise InputInvalid(f"`content` of a tensor is a list of numbers{_EXAMPLE}")
        return self._rows(self._numbers(content, _depth(content)))

    def _check_cost(self, content: bytes | memoryview) -> None:
        if len(content) > self._limits.max_bytes:
            raise InputTooBig(
                f"the tensor has {len(content)} bytes of JSON; {self._limits.max_bytes} are taken"
            )
        text = content if isinstance(content, bytes) else bytes(content)
        if text.count(b",") >= self._limits.max_values:
            raise InputTooBig(f"the tensor has over {self._limits.max_values} numbers, which is the limit")

    def _shaped(self, content: bytes | memoryview) -> Array:
        try:
            given = msgspec.json.decode(content, type=_Shaped)
        except _UNREADABLE as error:
            raise InputInvalid(f"not a tensor: {_reason(error)}{_EXAMPLE}") from None
        if len(given.shape) > 16 or any(size < 1 for size in given.shape):
            raise InputInvalid(f"`shape` {given.shape} is not a list of at most 16 positive sizes")
        values = self._numbers(bytes(given.data), 1)
        count = functools.reduce(lambda a, b: a * b, given.shape, 1)
        if values.ndim != 1 or values.size != count:
            raise InputInvalid(f"`shape` {given.shape} takes {count} numbers, `data` has {values.size}")
        return self._rows(values.reshape(given.shape))

    def _numbers(self, content: bytes | memoryview, depth: int) -> Array:
        """Decode lists nested `depth` deep and turn them into an array of the spec's dtype."""
        if depth > len(self._row) + 1:
            raise InputInvalid(f"the lists are {depth} deep; {self._expected()}")
        try:
            values = _decoder(depth, self._dtype).decode(content)
        except _UNREADABLE as error:
            raise InputInvalid(f"not a tensor of {self._dtype}: {_reason(error)}") from None
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, dtype=self._dtype)
        except ValueError:
            raise InputInvalid(
                f"the lists are ragged: all rows need the same length; {self._expected()}"
            ) from None
        except OverflowError:
            limits = np.iinfo(self._dtype)
            raise InputInvalid(f"{self._dtype} takes numbers from {limits.min} to {limits.max}") from None
        if not np.logical_and.reduce(np.isfinite(array), axis=None):  # `.all()` takes twice as long
            raise InputInvalid(f"a number is too large for {self._dtype}")
        return array

    def _rows(self, array: Array) -> Array:
        row, shape = self._row, array.shape
        if _fits(shape[1:], row) and shape:
            rows = array
        elif _fits(shape, row):
            rows = array[None]
        elif array.ndim == 1 and self._fixed and array.size % self._fixed == 0:
            rows = array.reshape(-1, *(size or 1 for size in row))
        else:
            raise InputInvalid(f"the tensor has shape {list(shape)}; {self._expected()}")
        if rows.size == 0:
            raise InputInvalid(f"the tensor is empty; {self._expected()}")
        return np.ascontiguousarray(rows)

    def _expected(self) -> str:
        row = ", ".join("any" if size is None else str(size) for size in self._row)
        several = f"[rows, {row}]" if row else "[rows]"
        flat = f", or a flat list of {self._fixed} numbers a row" if self._fixed else ""
        return f"this model takes one row [{row}] or several {several}{flat}"


_EXAMPLE: Final = ', e.g. [[0.1, 0.2]] or {"shape": [1, 2], "data": [0.1, 0.2]}'


def _fits(shape: tuple[int, ...], row: tuple[int | None, ...]) -> bool:
    return shape == row or (
        len(shape) == len(row) and all(want in (None, have) for have, want in zip(shape, row, strict=True))
    )


def _depth(content: bytes | memoryview) -> int:
    """How many lists open before the first element."""
    head = bytes(content[:256])
    depth = 0
    for byte in head:
        if byte == 0x5B:
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@functools.cache
def _decoder(depth: int, dtype: str) -> msgspec.json.Decoder[Any]:
    kind: Any = bool if dtype == "bool" else int if dtype in _INTEGERS else float
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the JSON is not UTF-8"
    text = str(error)
    if "malformed" in text:
        return "the JSON is malformed (it has no NaN or Infinity either)"
    if "out of range" in text:
        return f"{text}: no value may be infinite"
    return text.replace("`null`", "`null` (every value must be a number)")
