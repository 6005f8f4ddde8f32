"""Tables to learn from, every cell checked.

Enters: a path and the name of the target column. Leaves: a `Table`, or a `DataInvalid` that names the row and
the column. Rows are counted as a person sees them: a CSV file's lines from 1 with the header as line 1,
other files' rows from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from training.cells import SHOWN, check_gaps, finite, first_text, is_number, parsed
from training.errors import DataInvalid
from training.ops import Array
from training.readers import Columns, read_columns

TaskName: TypeAlias = Literal["classification", "regression"]
FEWEST_ROWS: Final = 10
MOST_CLASSES: Final = 20
"""Whole numbers with more values than this are taken for a quantity, unless the task says otherwise."""
MOST_COLUMNS: Final = 4096
LONGEST_NAME: Final = 256
LONGEST_LABEL: Final = 512
"""What a manifest can say of features and labels (docs/manifest.md)."""
EXACT: Final = 2**53


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


def load(path: Path, *, target: str, task: TaskName | None = None) -> Table:
    """Read a file and check it. Raises `DataInvalid`."""
    return _table(read_columns(path), path=path, target=target, task=task)


def _table(columns: Columns, *, path: Path, target: str, task: TaskName | None) -> Table:
    names = [name for name in columns.values if name != target]
    if len(names) == len(columns.values):
        near = get_close_matches(target, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names[:10]) or 'none'}"
        raise DataInvalid(f"{path} has no column {target!r}{hint}")
    if not names:
        raise DataInvalid(f"{path} has only the target {target!r}: there is no column to learn from")
    if len(names) > MOST_COLUMNS:
        raise DataInvalid(f"{path} has {len(names)} columns to learn from; at most {MOST_COLUMNS} are taken")
    if wrong := next((name for name in (*names, target) if not _sayable(name, LONGEST_NAME)), None):
        raise DataInvalid(
            f"{path}: a column is called by at most {LONGEST_NAME} characters, none a control character; "
            f"not {wrong[:SHOWN]!r}"
        )
    count = len(columns.values[target])
    if count < FEWEST_ROWS:
        raise DataInvalid(f"{path} has {count} rows; at least {FEWEST_ROWS} are needed")
    x = np.column_stack([finite(columns, name) for name in names])
    y, classes = _target(columns, target, task)
    return Table(x, y, tuple(names), target, "classification" if classes else "regression", classes)


def _target(columns: Columns, name: str, task: TaskName | None) -> tuple[Array, tuple[str, ...]]:
    values = columns.values[name]
    texts = parsed(values) is None
    if texts:
        check_gaps(columns, name, "every row needs its target")
    if task is None:
        task = "classification" if texts or _few_whole(finite(columns, name)) else "regression"
    if task == "regression":
        numbers = finite(columns, name)
        if numbers.min() == numbers.max():
            raise DataInvalid(f"column {name!r} is {numbers[0]:g} in every row: there is nothing to learn")
        return numbers, ()
    given = [str(each).strip() for each in values] if texts else _whole_texts(finite(columns, name), values)
    classes, y, counts = np.unique(given, return_inverse=True, return_counts=True)
    if not texts:
        order = np.argsort(classes.astype(np.float64))
        classes, counts, y = classes[order], counts[order], np.argsort(order)[y]
    _check_classes(columns, name, classes.tolist(), counts, y)
    return y.astype(np.int64), tuple(classes.tolist())


def _check_classes(columns: Columns, name: str, classes: list[str], counts: Array, y: Array) -> None:
    if len(classes) == 1:
        raise DataInvalid(f"column {name!r} is {classes[0]!s} in every row: one class only, nothing to learn")
    wrong = next((i for i, each in enumerate(classes) if not _sayable(each, LONGEST_LABEL)), None)
    if wrong is not None:
        raise DataInvalid(
            f"{columns.row(int((y == wrong).argmax()))}, column {name!r}: a class is called by at most "
            f"{LONGEST_LABEL} characters, none a control character; not {classes[wrong][:SHOWN]!r}"
        )
    if counts.min() < 2:
        rare, others = int(counts.argmin()), int((counts < 2).sum()) - 1
        more = f", and {others} more have a single one too" if others else ""
        raise DataInvalid(
            f"{columns.row(int((y == rare).argmax()))}, column {name!r}: no other row has the class "
            f"{classes[rare][:SHOWN]!r}{more}; at least 2 rows each are needed{_mixed(columns, name)}"
        )


def _mixed(columns: Columns, name: str) -> str:
    """What to do about a target of too many classes: a quantity, maybe with a text in it."""
    values = columns.values[name]
    if not any(map(is_number, values)):
        return ""
    if all(map(is_number, values)):
        return ". If it is a quantity, say task = 'regression'"
    row = first_text(values)
    return (
        f". If it is a quantity, say task = 'regression', and mend {columns.row(row)}: "
        f"{str(values[row])[:SHOWN]!r} is not a number"
    )


def _sayable(name: str, longest: int) -> bool:
    """Whether a manifest takes it and a terminal shows it as it is."""
    return len(name) <= longest and not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in name)


def _few_whole(numbers: Array) -> bool:
    return bool((numbers == np.round(numbers)).all()) and len(np.unique(numbers)) <= MOST_CLASSES


def _whole_texts(numbers: Array, values: Sequence[Any] | Array) -> list[str]:
    """Names of classes that are numbers; as they stand where float64 has not every whole number."""
    return [
        str(value).strip() if abs(number) >= EXACT else _number_text(number)
        for number, value in zip(numbers.tolist(), values, strict=True)
    ]


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
