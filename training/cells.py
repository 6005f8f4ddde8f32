"""A column's cells as numbers; the first that is none is an error that names its row."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

import numpy as np

from training.errors import DataInvalid
from training.ops import Array
from training.readers import Columns

LARGEST: Final = 1e30
"""What a manifest can say of a feature (docs/manifest.md)."""
SHOWN: Final = 40
"""Characters of a cell that an error repeats."""


def finite(columns: Columns, name: str) -> Array:
    """A column as finite float64. Raises `DataInvalid` naming the first row that is none."""
    values = columns.values[name]
    found = parsed(values)
    if found is None:
        check_gaps(columns, name, "fill it in, or leave out the row or the column")
        row = first_text(values)
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r}: {str(values[row])[:SHOWN]!r} is not a number; "
            "columns are numbers, so encode texts first (one column a value) or leave the column out"
        )
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found)))
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r} is {found[row]}: fill it in, or leave out the row "
            "or the column"
        )
    if len(found) and np.abs(found).max() > LARGEST:
        row = int(np.abs(found).argmax())
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r}: {found[row]:g} is too large, {LARGEST:g} is the limit"
        )
    return found


def parsed(values: Sequence[Any] | Array) -> Array | None:
    """float64, or None where not all are numbers."""
    if _plain(values):
        return np.asarray(values, np.float64)
    try:
        return np.fromiter(map(_number, values), np.float64, count=len(values))
    except (TypeError, ValueError):
        return None


def check_gaps(columns: Columns, name: str, advice: str) -> None:
    """Raise `DataInvalid` where a cell is empty or NaN."""
    for row, value in enumerate(columns.values[name]):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise DataInvalid(f"{columns.row(row)}, column {name!r} is empty: {advice}")
        if is_number(value) and isnan(float(value)):
            raise DataInvalid(f"{columns.row(row)}, column {name!r} is nan: {advice}")


def _plain(values: Sequence[Any] | Array) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "biuf"


def first_text(values: Sequence[Any] | Array) -> int:
    """The row of the first value that is no number."""
    return next(i for i, value in enumerate(values) if not is_number(value))


def is_number(value: object) -> bool:
    """Whether it is a number or a text that writes one."""
    try:
        _number(value)
    except (TypeError, ValueError):
        return False
    return True


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" in value:  # Python's own way to group digits
        raise ValueError(value)
    return float(value)
