"""Tables to learn from: CSV, NPZ and Parquet files, every cell checked.

Enters: a path and the name of the target column. Leaves: a `Table`, or a `DataInvalid` that names the row and
the column. Rows are counted as a person sees them: a CSV file's lines from 1 with the header as line 1,
other files' rows from 0.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from training.errors import DataInvalid
from training.ops import Array

TaskName: TypeAlias = Literal["classification", "regression"]
FEWEST_ROWS: Final = 10
MOST_CLASSES: Final = 20
"""Whole numbers with more values than this are taken for a quantity, unless the task says otherwise."""
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Table:
    """Checked rows.

    Attributes
    ----------
    x : float64 [n, columns], finite.
    y : class numbers int64 [n], or float64 [n].
    classes : names by number, for classification.
    """

    x: Array
    y: Array
    columns: tuple[str, ...]
    target: str
    task: TaskName
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Columns:
    """A file's columns by name, and how its rows are called."""

    values: Mapping[str, Sequence[Any] | Array]
    row: Callable[[int], str]


def load(path: Path, *, target: str, task: TaskName | None = None) -> Table:
    """Read a file and check it. Raises `DataInvalid`."""
    readers = {".csv": _csv, ".npz": _npz, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataInvalid(
            f"{path}: a table is {', '.join(readers)}, not {path.suffix or 'without an ending'}"
        )
    try:
        columns = reader(path)
    except OSError as error:
        raise DataInvalid(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataInvalid(f"{path} is not UTF-8 text") from None
    return _table(columns, path=path, target=target, task=task)


def _table(columns: _Columns, *, path: Path, target: str, task: TaskName | None) -> Table:
    names = [name for name in columns.values if name != target]
    if len(names) == len(columns.values):
        near = get_close_matches(target, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names[:10])}"
        raise DataInvalid(f"{path} has no column {target!r}{hint}")
    if not names:
        raise DataInvalid(f"{path} has only the target {target!r}: there is no column to learn from")
    count = len(columns.values[target])
    if count < FEWEST_ROWS:
        raise DataInvalid(f"{path} has {count} rows; at least {FEWEST_ROWS} are needed")
    x = np.column_stack([_numbers(columns, name) for name in names])
    y, classes = _target(columns, target, task)
    return Table(x, y, tuple(names), target, "classification" if classes else "regression", classes)


def _numbers(columns: _Columns, name: str) -> Array:
    values = columns.values[name]
    if (row := next((i for i, value in enumerate(values) if _empty(value)), None)) is not None:
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r} is empty: fill it in, or leave out the row or the column"
        )
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(values).astype(np.float64)
    except (TypeError, ValueError):
        row = next(i for i, value in enumerate(values) if not _is_number(value))
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r}: {str(values[row])[:_SHOWN]!r} is not a number; "
            "columns are numbers, so encode texts first (one column a value) or leave the column out"
        ) from None
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise DataInvalid(
            f"{columns.row(row)}, column {name!r} is {numbers[row]}: fill it in, or leave out the row "
            "or the column"
        )
    if np.abs(numbers).max() > np.finfo(np.float32).max:
        row = int(np.abs(numbers).argmax())
        raise DataInvalid(f"{columns.row(row)}, column {name!r}: {numbers[row]:g} is too large for float32")
    return numbers


def _target(columns: _Columns, name: str, task: TaskName | None) -> tuple[Array, tuple[str, ...]]:
    values = columns.values[name]
    if (row := next((i for i, value in enumerate(values) if _empty(value)), None)) is not None:
        raise DataInvalid(f"{columns.row(row)}, column {name!r} is empty: every row needs its target")
    texts = not all(_is_number(value) for value in values)
    if texts and task == "regression":
        return _numbers(columns, name), ()  # raises, naming the row
    if task is None:
        task = "classification" if texts or _few_whole(_numbers(columns, name)) else "regression"
    if task == "regression":
        numbers = _numbers(columns, name)
        if numbers.min() == numbers.max():
            raise DataInvalid(f"column {name!r} is {numbers[0]:g} in every row: there is nothing to learn")
        return numbers, ()
    given = [str(value) for value in values] if texts else _whole_texts(_numbers(columns, name))
    classes, y, counts = np.unique(given, return_inverse=True, return_counts=True)
    if not texts:
        order = np.argsort(classes.astype(np.float64))
        classes, counts, y = classes[order], counts[order], np.argsort(order)[y]
    _check_classes(classes, counts, name)
    return y.astype(np.int64), tuple(classes.tolist())


def _check_classes(classes: Array, counts: Array, name: str) -> None:
    if len(classes) == 1:
        raise DataInvalid(f"column {name!r} is {classes[0]!s} in every row: one class only, nothing to learn")
    if counts.min() < 2:
        rare = ", ".join(repr(str(each)) for each in classes[counts < 2][:5])
        raise DataInvalid(
            f"column {name!r}: {int((counts < 2).sum())} classes have a single row ({rare}); at least 2 rows "
            "each are needed. If it is a quantity, say task = 'regression'"
        )


def _few_whole(numbers: Array) -> bool:
    return bool((numbers == np.round(numbers)).all()) and len(np.unique(numbers)) <= MOST_CLASSES


def _whole_texts(numbers: Array) -> list[str]:
    return [str(int(value)) if value == int(value) else repr(float(value)) for value in numbers.tolist()]


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _csv(path: Path) -> _Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise DataInvalid(f"{path} is empty: the first line names the columns")
        if len(set(header)) != len(header) or "" in header:
            twice = next(name for name in header if not name or header.count(name) > 1)
            raise DataInvalid(
                f"{path}: two columns are called {twice!r}" if twice else f"{path}: a column has no name"
            )
        rows, lines = [], []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataInvalid(
                    f"{path} line {reader.line_num} has {len(cells)} cells, but the header names "
                    f"{len(header)} columns"
                )
            rows.append(cells)
            lines.append(reader.line_num)
    by_name = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    return _Columns(by_name, lambda row: f"{path} line {lines[row]}")


def _npz(path: Path) -> _Columns:
    try:
        # opened here: np.load leaves a damaged file open
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array; np.savez writes several with names")
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataInvalid(f"{path} cannot be read as NPZ: {error}") from None
    values: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            values[name] = array.reshape(-1)
        elif array.ndim >= 2:
            flat = array.reshape(len(array), -1)
            values |= {f"{name}[{i}]": flat[:, i] for i in range(flat.shape[1])}
        else:
            raise DataInvalid(f"{path}: the array {name!r} is a single number; arrays have one entry a row")
    lengths = {name: len(array) for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        few, many = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise DataInvalid(f"{path}: {few!r} has {lengths[few]} rows, {many!r} has {lengths[many]}")
    return _Columns(values, lambda row: f"{path} row {row}")


def _parquet(path: Path) -> _Columns:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataInvalid(
            f"{path}: Parquet files need pyarrow: pip install 'lonja[parquet]', or save the table as CSV"
        ) from None
    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataInvalid(f"{path} cannot be read as Parquet: {error}") from None
    values = {
        name: column.to_pylist() if column.null_count or not _numeric(column) else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return _Columns(values, lambda row: f"{path} row {row}")


def _numeric(column: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)
    )
