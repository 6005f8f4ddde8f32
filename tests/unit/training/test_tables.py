"""Tables: what is read, and that what is wrong is named with row and column."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.errors import DataInvalid, PlanInvalid
from training.splitting import split
from training.tables import Table, load

HEAD = "a,b,kind\n"
LINES = [f"{i},{i % 3}.5,{'xy'[i % 2]}" for i in range(12)]


def csv_of(folder: Path, lines: list[str] = LINES, head: str = HEAD) -> Path:
    path = folder / "table.csv"
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def changed(number: int, line: str) -> list[str]:
    return [line if i == number else each for i, each in enumerate(LINES)]


def test_a_csv_is_read_with_its_classes_in_order(tmp_path: Path) -> None:
    table = load(csv_of(tmp_path), target="kind")
    assert (table.columns, table.classes, table.task) == (("a", "b"), ("x", "y"), "classification")
    np.testing.assert_array_equal(table.x[:3], [[0, 0.5], [1, 1.5], [2, 2.5]])
    np.testing.assert_array_equal(table.y[:3], [0, 1, 0])


def test_the_task_follows_from_the_target_unless_it_is_said(tmp_path: Path) -> None:
    few = csv_of(tmp_path, [f"{i % 2},{i}.5,{i % 3}" for i in range(12)])
    assert load(few, target="b").task == "regression"
    numbers = load(few, target="kind")
    assert (numbers.task, numbers.classes) == ("classification", ("0", "1", "2"))
    said = load(few, target="kind", task="regression")
    assert (said.task, said.classes) == ("regression", ())
    many = load(csv_of(tmp_path, [f"{i % 2},{i}.5,{i}" for i in range(21)]), target="kind")
    assert many.task == "regression"


def test_classes_of_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    table = load(csv_of(tmp_path, [f"1,{i},{(i % 3) * 5}" for i in range(12)]), target="kind")
    assert table.classes == ("0", "5", "10")
    np.testing.assert_array_equal(table.y[:3], [0, 1, 2])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (changed(4, "4,oops,x"), r"line 6, column 'b': 'oops' is not a number"),
        (changed(0, ",1,x"), r"line 2, column 'a' is empty: fill it in"),
        (changed(2, "2,nan,x"), r"line 4, column 'b' is nan: fill it in"),
        (changed(2, "inf,2,x"), r"line 4, column 'a' is inf"),
        (changed(2, "1e39,2,x"), r"line 4, column 'a': 1e\+39 is too large, 1e\+30 is the limit"),
        (changed(7, "7,1"), r"line 9 has 2 cells, but the header names 3 columns"),
        (changed(11, "11,1, "), r"line 13, column 'kind' is empty: every row needs its target"),
        ([f"{i},1,x" for i in range(12)], r"column 'kind' is x in every row: one class only"),
        (changed(3, "3,1,z"), r"line 5, column 'kind': no other row has the class 'z'; at least 2 rows"),
        (changed(3, "3,1,nan"), r"line 5, column 'kind' is nan: every row needs its target"),
        (changed(3, "3,1_000,x"), r"line 5, column 'b': '1_000' is not a number"),
        (changed(3, "3,2024-01-02,x"), r"line 5, column 'b': '2024-01-02' is not a number"),
        (changed(3, '3,"1,x'), r"line 5 cannot be read as CSV: unexpected end of data"),
        (changed(3, f"3,{'9' * 140_000},x"), r"line 5 cannot be read as CSV: field larger than"),
        (changed(3, "3,1,\x1b[31m"), r"line 5, column 'kind': a class is called by .* not '\\x1b\[31m'"),
        (changed(3, f"3,1,{'k' * 600}"), r"line 5, column 'kind': a class is called by at most 512"),
        ([f"{i},1,{i}.5" for i in range(11)] + ["3,1,x"], r"and mend .* line 13: 'x' is not a number"),
        (LINES[:9], r"has 9 rows; at least 10 are needed"),
        ([], r"has 0 rows; at least 10 are needed"),
    ],
)
def test_what_is_wrong_is_named_with_row_and_column(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(DataInvalid, match=words):
        load(csv_of(tmp_path, lines), target="kind")


@pytest.mark.parametrize(
    ("head", "target", "words"),
    [
        (HEAD, "kimd", r"has no column 'kimd'; did you mean 'kind'\?"),
        (HEAD, "zzz", r"has no column 'zzz'; there are a, b, kind"),
        ("a,a,kind\n", "kind", "two columns are called 'a'"),
        ("a,,kind\n", "kind", "a column has no name"),
        ("a;b;kind\n", "kind", "the columns are separated by semicolons; save the table with commas"),
        ("a\tb\tkind\n", "kind", "the columns are separated by tabs"),
        ("\x1b[31ma,b,kind\n", "kind", r"none a control character; not '\\x1b\[31ma'"),
        (f"{'a' * 300},b,kind\n", "kind", "a column is called by at most 256 characters"),
    ],
)
def test_wrong_headers_are_named(tmp_path: Path, head: str, target: str, words: str) -> None:
    with pytest.raises(DataInvalid, match=words):
        load(csv_of(tmp_path, head=head), target=target)


def test_a_byte_order_mark_spaces_and_quotes_are_no_part_of_names(tmp_path: Path) -> None:
    path = csv_of(
        tmp_path, [f' {i} , {i}, "x"' if i % 2 else f"{i},{i}, y " for i in range(12)], "a , b,kind\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b' "x"', b'"x"'))
    table = load(path, target="kind")
    assert (table.columns, table.classes) == (("a", "b"), ("x", "y"))


def test_classes_beyond_the_whole_numbers_of_float64_stay_apart(tmp_path: Path) -> None:
    table = load(csv_of(tmp_path, [f"{i},1,{2**53 + i % 2}" for i in range(12)]), target="kind")
    assert table.classes == ("9007199254740992", "9007199254740993")


def test_other_encodings_are_refused_with_the_line(tmp_path: Path) -> None:
    path = csv_of(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"5,2.5,y", b"5,2.5,\xe9"))
    with pytest.raises(DataInvalid, match=r"line 7 is not UTF-8 text: save the table as UTF-8"):
        load(path, target="kind")


def test_a_constant_or_textual_target_is_no_regression(tmp_path: Path) -> None:
    path = csv_of(tmp_path, [f"{i},{i},1.5" for i in range(12)])
    with pytest.raises(DataInvalid, match=r"column 'kind' is 1.5 in every row: there is nothing to learn"):
        load(path, target="kind", task="regression")
    with pytest.raises(DataInvalid, match=r"line 2, column 'kind': 'x' is not a number"):
        load(csv_of(tmp_path), target="kind", task="regression")


def test_lines_are_counted_as_an_editor_does_with_line_breaks_in_cells(tmp_path: Path) -> None:
    lines = ['0,1,"x\nx"', *LINES[1:5], "5,bad,x", *LINES[6:]]
    with pytest.raises(DataInvalid, match=r"line 8, column 'b': 'bad'"):
        load(csv_of(tmp_path, lines), target="kind")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"a table is .csv, .npz, .parquet, not .xls"):
        load(tmp_path / "a.xls", target="a")
    with pytest.raises(DataInvalid, match="No such file"):
        load(tmp_path / "a.csv", target="a")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataInvalid, match="not UTF-8"):
        load(tmp_path / "b.csv", target="a")
    (tmp_path / "c.csv").write_bytes(b"")
    with pytest.raises(DataInvalid, match="is empty"):
        load(tmp_path / "c.csv", target="a")


def test_arrays_of_an_npz_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.arange(24.0).reshape(12, 2), y=np.array([0, 1] * 6))
    table = load(path, target="y")
    assert (table.columns, table.classes) == (("x[0]", "x[1]"), ("0", "1"))
    np.testing.assert_array_equal(table.x[1], [2, 3])
    np.savez(path, x=np.where(np.arange(12) == 5, np.nan, 1.0), y=np.array([0, 1] * 6))
    with pytest.raises(DataInvalid, match="row 5, column 'x' is nan"):
        load(path, target="y")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(DataInvalid, match="cannot be read as NPZ"):
        load(path, target="y")


def test_npz_arrays_must_be_rows_of_one_length(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.zeros(12), y=np.zeros(11))
    with pytest.raises(DataInvalid, match="'y' has 11 rows, 'x' has 12"):
        load(path, target="y")
    np.savez(path, x=np.zeros(12), y=np.float64(3))
    with pytest.raises(DataInvalid, match="'y' is a single number"):
        load(path, target="y")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataInvalid, match="cannot be read as NPZ: it is a single array"):
        load(path, target="y")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": np.arange(12) * 1j}, r"row 0, column 'x' is of the type complex128"),
        ({"x": np.arange(12).astype("M8[D]")}, r"row 0, column 'x' is of the type datetime64\[D\]"),
        ({"x": np.zeros(12, [("p", "f4")])}, r"row 0, column 'x' is of the type \[\('p', '<f4'\)\]"),
        ({"x": np.array([1, None] * 6)}, r"the array 'x' holds Python objects, which are not loaded"),
        ({"x": np.array(["1", "b"] * 6)}, r"row 1, column 'x': 'b' is not a number"),
        ({"x": np.zeros((12, 2)), "x[0]": np.zeros(12)}, r"two columns are called 'x\[0\]'"),
        ({"x": np.zeros((12, 4097))}, "has 4097 columns to learn from; at most 4096 are taken"),
    ],
)
def test_arrays_that_are_no_columns_of_numbers_are_refused(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, y=np.array([0, 1] * 6), **columns)
    with pytest.raises(DataInvalid, match=words):
        load(path, target="y")


def test_bytes_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.array([b"1", b"2.5"] * 6), y=np.array([b"p", b"q"] * 6))
    table = load(path, target="y")
    assert (table.classes, table.x[1, 0]) == (("p", "q"), 2.5)


def test_an_npz_that_claims_more_than_memory_or_holds_no_arrays_is_refused(tmp_path: Path) -> None:
    path, header = tmp_path / "t.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(80))
    with pytest.raises(DataInvalid, match="does not fit into memory"):
        load(path, target="y")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataInvalid, match=r"'readme.txt' is not an array"):
        load(path, target="y")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([("a", "date")], r"row 0, column 'a' is of the type date32\[day\]"),
        ([("a", "list")], r"row 0, column 'a' is of the type list"),
        ([("a", "text")], r"row 1, column 'a': 'b' is not a number"),
        ([("a", "int"), ("a", "int")], "two columns are called 'a'"),
    ],
)
def test_parquet_columns_of_other_types_are_refused(
    tmp_path: Path, columns: list[tuple[str, str]], words: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    makers = {
        "date": pa.array([datetime.date(2024, 1, day + 1) for day in range(12)]),
        "list": pa.array([[1]] * 12),
        "text": pa.array(["1", "b"] * 6).dictionary_encode(),
        "int": pa.array(range(12)),
        "y": pa.array(["x", "y"] * 6),
    }
    names = [*columns, ("kind", "y")]
    made = pa.Table.from_arrays([makers[kind] for _, kind in names], names=[name for name, _ in names])
    parquet.write_table(made, tmp_path / "t.parquet")
    with pytest.raises(DataInvalid, match=words):
        load(tmp_path / "t.parquet", target="kind")


def test_parquet_is_read_and_its_gaps_are_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"a": list(range(12)), "kind": ["x", "y"] * 6}), path)
    table = load(path, target="kind")
    assert (table.columns, table.classes, len(table.x)) == (("a",), ("x", "y"), 12)
    parquet.write_table(
        pa.table({"a": [None if i == 3 else i for i in range(12)], "kind": ["x", "y"] * 6}), path
    )
    with pytest.raises(DataInvalid, match="row 3, column 'a' is empty"):
        load(path, target="kind")
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(DataInvalid, match="cannot be read as Parquet"):
        load(path, target="kind")


def test_without_pyarrow_a_parquet_file_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataInvalid, match=r"pip install 'lonja\[parquet\]'"):
        load(tmp_path / "t.parquet", target="a")


def table_of(y: Any, task: Any, classes: tuple[str, ...] = ()) -> Table:
    x = np.column_stack([np.arange(len(y)) * 10.0 + 5000, np.full(len(y), 7.0)])
    return Table(x, np.asarray(y), ("a", "b"), "t", task, classes)


def test_a_split_keeps_the_classes_shares_and_scales_by_the_training_rows() -> None:
    made = split(
        table_of([0] * 90 + [1] * 10, "classification", ("x", "y")), validation=0.2, scale=True, seed=1
    )
    assert made.validation is not None
    assert np.bincount(made.train[1]).tolist() == [72, 8]
    assert np.bincount(made.validation[1]).tolist() == [18, 2]
    np.testing.assert_allclose(made.train[0][:, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(made.train[0][:, 0].std(), 1, atol=1e-5)
    assert not made.train[0][:, 1].any(), "a constant column becomes zeros, not NaN"
    again = split(
        table_of([0] * 90 + [1] * 10, "classification", ("x", "y")), validation=0.2, scale=True, seed=1
    )
    np.testing.assert_array_equal(made.validation_rows, again.validation_rows)


def test_every_class_keeps_a_row_to_learn_from() -> None:
    made = split(
        table_of([0] * 20 + [1, 1], "classification", ("x", "y")), validation=0.9, scale=False, seed=0
    )
    assert (made.train[1] == 1).any()


def test_a_split_without_validation_learns_from_all() -> None:
    made = split(table_of(np.arange(20.0), "regression"), validation=0, scale=True, seed=0)
    assert made.validation is None
    assert len(made.train[0]) == 20
    with pytest.raises(PlanInvalid, match=r"from 0 to 0\.9"):
        split(table_of(np.arange(20.0), "regression"), validation=1.5, scale=True, seed=0)
