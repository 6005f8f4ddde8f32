"""Named features to rows of a tensor, scaled as the manifest says.

Enters: one JSON object or a list of them. Leaves: float32 [n, width]. A missing, misspelt or unknown
feature is an error that names it, unless the manifest gives the feature a value for that case.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from preprocessors.base import Array, Encoding, InputInvalid, InputTooBig, Limits
from preprocessors.features import row_type
from preprocessors.formats import TABULAR_FORMAT, TENSOR_FORMAT
from preprocessors.specs import Feature, TabularInput, TensorInput
from preprocessors.tensor import TensorPreprocessor

_SHOWN: Final = 5


class TabularPreprocessor:
    """Serves `TabularInput`."""

    def __init__(self, spec: TabularInput, *, limits: Limits) -> None:
        self._features, self._limits, self._width = spec.features, limits, spec.width
        self._tensor = TensorPreprocessor(TensorInput(shape=[spec.width]), limits=limits)
        row = row_type(spec.features)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row | list[row])  # type: ignore[valid-type]
        self._plain = all(feature.values is None for feature in spec.features)
        self._gaps = {
            i: feature.missing for i, feature in enumerate(spec.features) if feature.missing is not None
        }
        self._codes = [
            None if feature.values is None else {value: i for i, value in enumerate(feature.values)}
            for feature in spec.features
        ]
        self._mean, self._std = _scaling(spec.features)
        self._scaled = bool((self._mean != 0).any() or (self._std != 1).any())

    def __call__(self, format: str, content: bytes | memoryview, encoding: Encoding) -> Array:  # noqa: A002
        """Decode rows of features. See `Preprocessor`."""
        if format == TENSOR_FORMAT.name:
            return self._tensor(format, content, encoding)
        if format != TABULAR_FORMAT.name or encoding != "json":
            raise InputInvalid(f"this model takes the formats 'tabular' and 'tensor', not {format!r}")
        if len(content) > self._limits.max_bytes:
            raise InputTooBig(
                f"the rows have {len(content)} bytes of JSON; {self._limits.max_bytes} are taken"
            )
        rows = self._decode(content)
        if len(rows) * self._width > self._limits.max_values:
            raise InputTooBig(
                f"{len(rows)} rows of {self._width} numbers; {self._limits.max_values} numbers are taken"
            )
        values = np.array(rows, np.float64) if self._plain else self._encoded(rows)
        if self._scaled:
            values -= self._mean
            values /= self._std
        with np.errstate(over="ignore"):
            result = values.astype(np.float32)
        if not np.isfinite(result).all():
            place = np.argwhere(~np.isfinite(result))[0].tolist()
            raise InputInvalid(f"row {place[0]}: a value is too large for float32")
        return result

    def _decode(self, content: bytes | memoryview) -> list[Any]:
        try:
            given = self._decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InputInvalid(f"not rows of features: {_reason(error)}; {self._expected()}") from None
        structs = given if isinstance(given, list) else [given]
        if not structs:
            raise InputInvalid(f"the list has no rows; {self._expected()}")
        rows: list[Any] = [msgspec.structs.astuple(each) for each in structs]
        if self._gaps:
            rows = [self._filled(row) for row in rows]
        return rows

    def _filled(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if None not in row:
            return row
        return tuple(
            self._gaps[i] if value is None and self._codes[i] is None else value
            for i, value in enumerate(row)
        )

    def _encoded(self, rows: list[Any]) -> Array:
        """Rows in which some features are one of several values: those become a one among zeros."""
        result = np.zeros((len(rows), self._width), np.float64)
        for number, row in enumerate(rows):
            at = 0
            for feature, codes, value in zip(self._features, self._codes, row, strict=True):
                if codes is None:
                    result[number, at] = value
                    at += 1
                    continue
                if value is not None:
                    result[number, at + self._code(feature, codes, value, number)] = 1
                at += len(codes)
        return result

    def _code(self, feature: Feature, codes: dict[str | int, int], value: str | int, row: int) -> int:
        if value not in codes:
            shown = ", ".join(repr(known) for known in list(codes)[: 2 * _SHOWN])
            raise InputInvalid(f"row {row}: {feature.name!r} is {str(value)[:100]!r}, not one of {shown}")
        return codes[value]

    def _expected(self) -> str:
        names = [feature.name for feature in self._features]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"send one object, or a list of them, with the features {', '.join(names[:_SHOWN])}{more}"


def _scaling(features: list[Feature]) -> tuple[Array, Array]:
    """Mean and standard deviation of every column; 0 and 1 for those of a choice."""
    mean: list[float] = []
    std: list[float] = []
    for feature in features:
        count = feature.width
        mean += [feature.mean if feature.values is None else 0.0] * count
        std += [feature.std if feature.values is None else 1.0] * count
    return np.array(mean), np.array(std)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the JSON is not UTF-8"
    text = str(error)
    if "malformed" in text:
        return "the JSON is malformed (it has no NaN or Infinity either)"
    return text.replace("Object missing required field", "missing feature").replace(
        "Object contains unknown field", "unknown feature"
    )
