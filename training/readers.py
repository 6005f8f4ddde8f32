"""CSV, NPZ and Parquet files as columns by name; what is in the cells is not looked at here.

Enters: a path. Leaves: `Columns`, or a `DataInvalid` that names the line, row or column.
"""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.errors import DataInvalid
from training.ops import Array

_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_KINDS: Final = "biufU"  # of NumPy: truth values, integers, floats, texts


@dataclass(frozen=True, slots=True)
class Columns:
    """A file's columns by name, and how its rows are called: lines from 1, or rows from 0."""

    values: Mapping[str, Sequence[Any] | Array]
    row: Callable[[int], str]


def read_columns(path: Path) -> Columns:
    """Read a file by its ending. Raises `DataInvalid`."""
    readers = {".csv": _csv, ".npz": _npz, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataInvalid(
            f"{path}: a table is {', '.join(readers)}, not {path.suffix or 'without an ending'}"
        )
    try:
        return reader(path)
    except OSError as error:
        raise DataInvalid(f"{path}: {error.strerror or error}") from None
    except MemoryError:
        raise DataInvalid(f"{path} does not fit into memory") from None


def _named(path: Path, columns: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Columns by name. Raises `DataInvalid` where a name is missing or stands twice."""
    pairs = list(columns)
    if any(not name for name, _ in pairs):
        raise DataInvalid(f"{path}: a column has no name")
    twice = next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), None)
    if twice is not None:
        raise DataInvalid(f"{path}: two columns are called {twice!r}")
    return dict(pairs)


def _csv(path: Path) -> Columns:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _lines(path, csv.reader(file, strict=True))
    except UnicodeDecodeError:
        raise DataInvalid(
            f"{path} line {_undecodable(path)} is not UTF-8 text: save the table as UTF-8"
        ) from None


def _lines(path: Path, reader: Any) -> Columns:
    header: list[str] = []
    rows, lines, began = [], [], 1
    try:
        for cells in reader:
            if cells and not header:
                header = _header(path, cells)
            elif cells:
                if len(cells) != len(header):
                    raise DataInvalid(
                        f"{path} line {began} has {len(cells)} cells, but the header names "
                        f"{len(header)} columns"
                    )
                rows.append(cells)
                lines.append(reader.line_num)
            began = reader.line_num + 1
    except csv.Error as error:
        raise DataInvalid(f"{path} line {began} cannot be read as CSV: {error}") from None
    if not header:
        raise DataInvalid(f"{path} is empty: the first line names the columns")
    columns = zip(*rows, strict=True) if rows else iter([()] * len(header))
    return Columns(dict(zip(header, columns, strict=True)), lambda row: f"{path} line {lines[row]}")


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [name.strip() for name in cells]
    if len(names) == 1 and (other := next((each for each in _SEPARATORS if each in names[0]), None)):
        raise DataInvalid(
            f"{path}: the columns are separated by {_SEPARATORS[other]}; save the table with commas between "
            "them, and points in numbers"
        )
    return list(_named(path, ((name, None) for name in names)))


def _undecodable(path: Path) -> int:
    """The line of the first byte that is no UTF-8."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _npz(path: Path) -> Columns:
    try:
        # opened here: np.load leaves a damaged file open
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array; np.savez writes several with names")
            arrays = {name: _member(path, file, name) for name in file.files}
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataInvalid(f"{path} cannot be read as NPZ: {error}") from None
    values = _named(path, (column for name, array in arrays.items() for column in _flat(path, name, array)))
    lengths = {name: len(array) for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        few, many = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise DataInvalid(f"{path}: {few!r} has {lengths[few]} rows, {many!r} has {lengths[many]}")
    return Columns(values, lambda row: f"{path} row {row}")


def _member(path: Path, file: Any, name: str) -> Any:
    try:
        return file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataInvalid(
            f"{path}: the array {name!r} holds Python objects, which are not loaded: save numbers, or "
            "texts as array.astype(str); a gap among them needs a value"
        ) from None


def _flat(path: Path, name: str, array: Any) -> list[tuple[str, Array]]:
    """An array's columns: itself, or `name[i]` of what is flattened behind the first dimension."""
    if not isinstance(array, np.ndarray):
        raise DataInvalid(f"{path}: {name!r} is not an array")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in _KINDS:
        raise _wrong_type(path, name, array.dtype)
    if array.ndim == 0:
        raise DataInvalid(f"{path}: the array {name!r} is a single number; arrays have one entry a row")
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return [(name, array.reshape(-1))]
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    return [(f"{name}[{i}]", flat[:, i]) for i in range(flat.shape[1])]


def _parquet(path: Path) -> Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataInvalid(
            f"{path}: Parquet files need pyarrow: pip install 'lonja[parquet]', or save the table as CSV"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, pa.ArrowInvalid) as error:
        raise DataInvalid(f"{path} cannot be read as Parquet: {error}") from None
    pairs = zip(table.column_names, table.columns, strict=True)
    values = {name: _arrow(path, name, column) for name, column in _named(path, pairs).items()}
    return Columns(values, lambda row: f"{path} row {row}")


def _arrow(path: Path, name: str, column: Any) -> Sequence[Any] | Array:
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        gaps = column.null_count or kind is not column.type
        numbers: Sequence[Any] | Array = column.to_pylist() if gaps else column.to_numpy()
        return numbers
    if types.is_decimal(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
        texts: list[Any] = column.to_pylist()
        return texts
    raise _wrong_type(path, name, column.type)


def _wrong_type(path: Path, name: str, kind: object) -> DataInvalid:
    return DataInvalid(
        f"{path} row 0, column {name!r} is of the type {kind}, as the whole column; columns are numbers, a "
        "target may be texts: turn it into numbers (a date into days since another) or leave it out"
    )
