"""CSV: what separates the columns, what their names are, and cells of every kind."""

from __future__ import annotations

import gzip
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_helpers import csv, read

from gpureg.data import load_dataset
from gpureg.data.csv_cells import Cells
from gpureg.data.csv_decimals import MARGIN
from gpureg.data.csv_files import parse_csv
from gpureg.data.csv_header import read_header
from gpureg.data.csv_matrix import SPAN, csv_matrix
from gpureg.data.limits import UNLIMITED, machine_limit
from gpureg.errors import DataError


def names_of(path):
    return read_header(path, machine_limit()).names


@pytest.mark.parametrize(
    ("text", "names", "delimiter"),
    [
        ('"a,b";"c";y\n1;2;x\n3;4;z\n', ("a,b", "c", "y"), ";"),
        ('"a;b","c",y\n1,2,x\n', ("a;b", "c", "y"), ","),
        ("price, EUR;weight, kg;y\n1;2;x\n3;4;z\n", ("price, EUR", "weight, kg", "y"), ";"),
        ("a,b,c\tx\ty\n1\t2\tz\n", ("a,b,c", "x", "y"), "\t"),
        ("a;b;y\n1,5;2,5;x\n", ("a", "b", "y"), ";"),
        ('"a\nb","c\r\nd",y\n1,2,x\n3,4,z\n', ("a\nb", "c\r\nd", "y"), ","),
        ("\ufeffa,y\n1,x\n", ("a", "y"), ","),
        ('\ufeff"a",y\n1,x\n', ("a", "y"), ","),
        ('"a ""b""",y\n1,x\n', ('a "b"', "y"), ","),
        (" a , y \n1,x\n", ("a", "y"), ","),
        ("a,y\r1,x\r2,z\r", ("a", "y"), ","),
        ("a,y\n1,x,\n", ("a", "y"), ","),
        ("a,y", ("a", "y"), ","),
        ("a\n1\n", ("a",), ","),
        ("1_1,1_2,y\n1,2,x\n", ("1_1", "1_2", "y"), ","),
        ("01,02,y\n1,2,x\n", ("01", "02", "y"), ","),
        ("e5,E10,y\n1,2,x\n", ("e5", "E10", "y"), ","),
        ("nan,inf,y\n1,2,x\n", ("nan", "inf", "y"), ","),
        ("0,1,2\n5,6,x\n", ("0", "1", "2"), ","),
        ("1,2,y\n5,6,x\n", ("1", "2", "y"), ","),
    ],
)
def test_headers(tmp_path, text, names, delimiter):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    header = read_header(path, machine_limit())
    assert (header.names, header.delimiter) == (names, delimiter)
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert names_of(packed) == names


def test_a_tsv_has_tabs_whatever_its_names_hold(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("last, first, middle, more\tage, years\ty\n" + "".join(f"{i}\t{i}\t{i % 2}\n" for i in range(4)))
    assert names_of(path) == ("last, first, middle, more", "age, years", "y")
    np.testing.assert_array_equal(read(path).features.X, [[i, i] for i in range(4)])
    path.write_text("a;b;y\n1;2;0\n3;4;1\n")
    assert names_of(path) == ("a", "b", "y")


@given(
    names=st.lists(
        st.text(alphabet='ab ,;\t"\n\r', min_size=1, max_size=5).map(lambda name: f"n{name}n"),
        min_size=2,
        max_size=4,
        unique=True,
    ),
    delimiter=st.sampled_from(",;\t"),
    rows=st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_any_names_in_quotes(tmp_path_factory, names, delimiter, rows):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    quoted = delimiter.join('"' + name.replace('"', '""') + '"' for name in names)
    lines = [quoted, *(delimiter.join([f"{row}.5"] * len(names)) for row in range(rows))]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    header = read_header(path, machine_limit())
    assert (header.names, header.delimiter) == (tuple(names), delimiter)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1.5,2,3\n4,5,6\n", "seems to have no header"),
        ("1e5,2,a\n4,5,b\n", "seems to have no header"),
        ("-1,2.50,a\n4,5,b\n", "seems to have no header"),
        ("a" * 200_000 + ",y\n1,2\n", "more than 131,072 characters"),
        ('"a,y\n' + "1,2\n" * 100, "a quoted cell that does not end"),
        ("a" * ((1 << 24) + 10), "its first line has more than"),
    ],
)
def test_headers_that_cant_be_used(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        load_dataset(csv(tmp_path, text))


def test_text_in_another_encoding(tmp_path):
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "t.csv").write_bytes("größe,y\n1,2\n".encode(encoding))
        with pytest.raises(DataError, match="not UTF-8 text"):
            load_dataset(tmp_path / "t.csv")


# --- cells


@pytest.mark.parametrize(("no", "yes"), [("False", "True"), ("false", "true"), ("FALSE", "TRUE")])
def test_columns_of_true_and_false_are_0_and_1(tmp_path, no, yes):
    rows = [f"{i}.5,{yes if i % 3 else no},{'ab'[i % 2]}" for i in range(20)]
    raw = read(csv(tmp_path, "x,t,y\n" + "\n".join(rows)))
    np.testing.assert_array_equal(raw.features.X[:, 1], [i % 3 > 0 for i in range(20)])
    late = [f"{i}.5,,{'ab'[i % 2]}" for i in range(100)]
    with pytest.raises(DataError, match="column 't' has 100 missing values, the first in row 0"):
        read(csv(tmp_path, "x,t,y\n" + "\n".join([*late, *rows])))


def test_true_and_false_after_many_numbers(tmp_path):
    """Not seen at the beginning: a column may hold 0, 1, True and False."""
    rows = [f"{i}.5,{i % 2},{'ab'[i % 2]}" for i in range(100)] + ["1.5,True,a", "2.5,False,b"]
    with pytest.raises(DataError, match=r"do not hold numbers: t \('True'\)"):
        read(csv(tmp_path, "x,t,y\n" + "\n".join(rows)))


def test_words_far_down_are_named_with_all_their_columns(tmp_path):
    n = 100_000
    rows = [f"{i},{i},{i % 2}" for i in range(n)] + ["oh,1,0", "1,dear,1", " 2 ,na,1"]
    with pytest.raises(DataError, match=r"do not hold numbers: a \('oh'\), b \('dear'\)\."):
        read(csv(tmp_path, "a,b,y\n" + "\n".join(rows)))


def test_numbers_as_they_are_written(tmp_path):
    cells = ["1", " 2 ", "-3.5", "+4", "5e3", ".5", "6.", '"7"', "8E-1"]
    raw = read(csv(tmp_path, "x,y\n" + "\n".join(f"{cell},{'ab'[i % 2]}" for i, cell in enumerate(cells))))
    np.testing.assert_array_equal(raw.features.X[:, 0], [1, 2, -3.5, 4, 5000, 0.5, 6, 7, 0.8])
    for cell in ("1_0", "0x10", "1,5", "١"):
        with pytest.raises(DataError, match="do not hold numbers"):
            read(csv(tmp_path, f'x;y\n1;a\n"{cell}";b\n'))


def test_cells_with_line_breaks_and_long_cells(tmp_path):
    label = "two\nlines"
    rows = "".join(f'{i}.5,"{label if i % 2 else "one"}"\n' for i in range(200_000))
    raw = read(csv(tmp_path, "x,y\n" + rows))
    assert raw.labels == ("one", label)
    assert len(raw.features.X) == 200_000
    long = "w" * 3_000_000
    raw = read(csv(tmp_path, f"x,y\n1,a\n2,{long}\n3,a\n"))
    assert raw.labels == ("a", long)


def test_a_table_under_another_name(tmp_path):
    """gzip is told by its first bytes."""
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(b"x,y\n1,a\n2,b\n"))
    assert read(path).labels == ("a", "b")
    (tmp_path / "u.csv.gz").write_bytes(b"x,y\n1,a\n2,b\n")
    assert read(tmp_path / "u.csv.gz").labels == ("a", "b")


Q = '"'
QUICK = {
    "numbers": [f"{i / 7},{i},{'ab'[i % 2]}\n" for i in range(500)],
    "quoted words": [f'{i / 7},{i},"{"ab"[i % 2]}"\n' for i in range(500)],
    "words with line breaks": [f'{i / 7},{i},"a\n{"ab"[i % 2]}"\n' for i in range(500)],
    "missing": [f"{'' if i == 300 else i},{'nan' if i == 301 else i},{i % 2}\n" for i in range(500)],
    "missing spelled otherwise": [f"{'NA' if i == 300 else i},{i},{i % 2}\n" for i in range(500)],
    "a word late": [f"{'word' if i == 450 else i},{i},{i % 2}\n" for i in range(500)],
    "truths late": [f"{i % 3 == 0},{i},{i % 2}\n" for i in range(500)],
    "a row that is too short": [f"{i},{i}{'' if i == 400 else ',1'}\n" for i in range(500)],
    "rows that become longer": [f"{i if i < 50 else i + 0.123456789012},{i},{i % 2}\n" for i in range(500)],
    "rows that become shorter": [f"{i if i > 50 else i + 0.123456789012},{i},{i % 2}\n" for i in range(500)],
    "carriage returns": [f"{i},{i},{i % 2}\r\n" for i in range(500)],
    "lines without a row": [f"{i},{i},{i % 2}\n" + ("" if i % 90 else "\n") for i in range(500)],
    "a last line without an end": [f"{i},{i},{i % 2}" + ("" if i == 499 else "\n") for i in range(500)],
    "infinity": [f"{'inf' if i == 300 else i},{i},{i % 2}\n" for i in range(500)],
    "no label": [f"{i},{i},{'' if i == 300 else 1}\n" for i in range(500)],
    "words with delimiters": [f'{i},{i},"a,{i % 2}"\n' for i in range(500)],
    "words with quotes": [f'{i},{i},"a""{i % 2}"\n' for i in range(500)],
    "quotes around some": [f"{i},{i},{Q if i % 3 else ''}a{Q if i % 3 else ''}\n" for i in range(500)],
    "quoted numbers": [f'"{i}",{i},{i % 2}\n' for i in range(500)],
    "space": [f" {i} ,\t{i}, {i % 2} \n" for i in range(500)],
    "a return in a word": [f"{i},{i},{'a' if i % 90 else 'a' + chr(13) + 'b'}\n" for i in range(500)],
    "returns at some ends": [f"{i},{i},{i % 2}{'' if i % 9 else chr(13)}\n" for i in range(500)],
}
# the columns x and kind are read, y is not
UNREAD = {
    "words": [f"{i},w{i},{i % 2}\n" for i in range(500)],
    "quoted words": [f'{i},"w{i}","{i % 2}"\n' for i in range(500)],
    "delimiters": [f'{i},"w,{i}",{i % 2}\n' for i in range(500)],
    "line breaks": [f'{i},"w,{i}\n{i},w",{i % 2}\n' for i in range(500)],
    "a return": [f"{i},{'w' if i % 90 else 'w' + chr(13) + 'w'},{i % 2}\n" for i in range(500)],
}
PLAIN = "1,2.5,a\n-3,,bc\n"
NOT_PLAIN = {
    "a cell more": "1,2,a\n1,2,a,b\n",
    "cells less and more": "1,2\n1,2,a,b\n",
    "a line without cells": "1,2,a\n\n",
    "no lines": "",
    "delimiters in quotes": '1,2,"a,b"\n',
    "a line break in quotes": '1,2,"a\n3,4,b"\n',
    "quotes in a word": '1,2,"a""b"\n',
    "two spellings of a word": '1,2,"a"\n3,4,a\n',
    "a return in a word": "1,2,a\rb\n",
    "returns at some ends": "1,2,a\r\n3,4,b\n",
    "a word for a number": "1,b,a\n",
    "space around a number": "1, 2,a\n",
    "quotes around a number": '1,"2",a\n',
    "bytes that are not text": b"1,2,\xff\n",
}


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("\n", "\r\n"), PLAIN.replace("a", '"a"').replace("bc", '"bc"')])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_cells_of_plain_text(text, delimiter):
    cells = Cells.of(memoryview(text.replace(",", delimiter).encode() + bytes(MARGIN)), 2, 3, delimiter)
    assert cells is not None
    assert not cells.hidden([2])
    for columns, expected in ((slice(2), [[1, 2.5], [-3, np.nan]]), ([1, 0], [[2.5, 1], [np.nan, -3]])):
        X = np.empty((2, 2))
        assert not cells.numbers(columns, X)
        np.testing.assert_array_equal(X, expected)
    (words,) = cells.words([2])
    assert words.to_pylist() == ["a", "bc"]


@pytest.mark.parametrize("content", NOT_PLAIN)
def test_text_that_is_not_plain_is_left_to_a_parser(content):
    text = NOT_PLAIN[content]
    text = text if isinstance(text, bytes) else text.encode()
    rows = text.count(b"\n")
    cells = Cells.of(memoryview(text + bytes(MARGIN)), rows, 3, ",")
    if cells is not None:
        with suppress(pa.ArrowInvalid):
            words, numbers = cells.words([2]), cells.numbers(slice(2), np.empty((rows, 2)))
            assert words is None, (words, numbers)


@pytest.mark.parametrize("content", UNREAD)
def test_columns_that_are_not_read_do_not_shift_the_others(tmp_path, content):
    path = csv(tmp_path, "x,y,kind\n" + "".join(UNREAD[content]))
    header = read_header(path, UNLIMITED)
    found = csv_matrix(path, header, ("x",), ("kind",), UNLIMITED, missing=False, span=1 << 11, block=1 << 10)
    assert (found is not None) == (content != "a return" and content != "line breaks")
    if found is not None:
        np.testing.assert_array_equal(found.X[:, 0], np.arange(500))
        assert found.others.column("kind").to_pylist() == [str(i % 2) for i in range(500)]


@pytest.mark.parametrize("missing", ["refuse", "mean"])
@pytest.mark.parametrize("content", QUICK)
def test_the_quick_way_reads_what_the_usual_one_does(tmp_path, content, missing):
    path = csv(tmp_path, "x,y,kind\n" + "".join(QUICK[content]))
    header = read_header(path, UNLIMITED)
    found = csv_matrix(
        path, header, ("x", "y"), ("kind",), UNLIMITED, missing=missing == "mean", span=1 << 11, block=1 << 10
    )
    other = {"words with line breaks", "missing spelled otherwise", "a word late", "truths late"}
    other |= {"a row that is too short", "a return in a word"} | ({"missing"} if missing == "refuse" else set())
    assert (found is None) == (content in other)
    if found is None:
        return
    usual = parse_csv(path, header, ("x", "y"), ("kind",), UNLIMITED)
    np.testing.assert_array_equal(found.X[:, 0], usual.column("x").to_numpy())
    np.testing.assert_array_equal(found.X[:, 1], usual.column("y").to_numpy())
    assert found.finite == bool(np.isfinite(found.X).all())
    assert found.others.column("kind").to_pylist() == usual.column("kind").to_pylist()


def test_large_files_are_read_the_quick_way_with_weights(tmp_path):
    """Over the size from which it is taken: the same as the smaller halves, row by row."""
    rng = np.random.default_rng(0)
    rows = 450_000
    weights, labels = rng.integers(0, 3, rows), rng.integers(0, 2, rows)
    table = {"w": weights, "a": rng.normal(size=rows), "b": rng.normal(size=rows), "y": labels}
    lines = [
        f"{w},{a!r},{b!r},{y}\n" for w, a, b, y in zip(*(column.tolist() for column in table.values()), strict=True)
    ]
    path = csv(tmp_path, "w,a,b,y\n" + "".join(lines))
    assert path.stat().st_size > SPAN
    raw = read(path, weights="w")
    counted = table["w"] > 0
    np.testing.assert_array_equal(raw.features.X, np.column_stack([table["a"], table["b"]])[counted])
    np.testing.assert_array_equal(raw.weights, table["w"][counted])
    np.testing.assert_array_equal(raw.codes, table["y"][counted])
    lines[140_000] = "1,nan,2,1\n"
    with pytest.raises(DataError, match="column 'a' has 1 missing values, the first in row 140000"):
        read(csv(tmp_path, "w,a,b,y\n" + "".join(lines)))
