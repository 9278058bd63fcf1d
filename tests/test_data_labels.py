"""Labels are what is written, the same from every format, and never merged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_helpers import csv, npz, read

import gpureg
from gpureg.data.labels import encode_labels, find_class, find_labels, settle
from gpureg.data.spelling import exact_numbers, plain_number, reads_as_number, spelled
from gpureg.errors import DataError, UsageError

REPEATS = 6  # so that a split leaves every class a row


def as_read(classes: tuple[Any, ...], codes: np.ndarray) -> list[Any]:
    return [classes[code] for code in codes]


def from_file(path: Path) -> list[Any]:
    raw = read(path)
    return as_read(raw.labels, raw.codes)


def from_arrays(y: Any) -> list[Any]:
    X = np.arange(2.0 * len(y)).reshape(len(y), 2) + 0.5
    data = gpureg.make_dataset(X, y, X, y)
    return as_read(data.classes, data.y_train)


def written(tmp_path: Path, words: list[str], packed: bool = False) -> Path:
    text = "x,y\n" + "".join(f'{i}.5,"{word}"\n' for i, word in enumerate(words))
    if packed:
        (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(text.replace(",", "\t").encode()))
        return tmp_path / "t.tsv.gz"
    return csv(tmp_path, text)


def table(tmp_path: Path, column: Any) -> Path:
    pq.write_table(pa.table({"x": np.arange(len(column)) + 0.5, "y": column}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


WORD_FORMATS: dict[str, Callable[[Path, list[str]], list[Any]]] = {
    "csv": lambda tmp, words: from_file(written(tmp, words)),
    "tsv.gz": lambda tmp, words: from_file(written(tmp, words, packed=True)),
    "npz": lambda tmp, words: from_file(npz(tmp, X=np.ones((len(words), 2)), y=np.array(words))),
    "npz bytes": lambda tmp, w: from_file(npz(tmp, X=np.ones((len(w), 2)), y=np.array([x.encode() for x in w]))),
    "parquet": lambda tmp, words: from_file(table(tmp, pa.array(words))),
    "parquet large": lambda tmp, words: from_file(table(tmp, pa.array(words, pa.large_string()))),
    "parquet view": lambda tmp, words: from_file(table(tmp, pa.array(words, pa.string_view()))),
    "parquet binary": lambda tmp, words: from_file(table(tmp, pa.array([w.encode() for w in words], pa.binary()))),
    "parquet dictionary": lambda tmp, words: from_file(table(tmp, pa.array(words).dictionary_encode())),
    "list": lambda tmp, words: from_arrays(words),
    "array": lambda tmp, words: from_arrays(np.array(words)),
    "objects": lambda tmp, words: from_arrays(np.array(words, dtype=object)),
    "bytes": lambda tmp, words: from_arrays([word.encode() for word in words]),
    "column": lambda tmp, words: from_arrays(np.array(words)[:, None]),
    "string type": lambda tmp, words: from_arrays(np.array(words, dtype=np.dtypes.StringDType())),
    "series": lambda tmp, words: from_arrays(pd.Series(words)),
    "series of objects": lambda tmp, words: from_arrays(pd.Series(words, dtype=object)),
    "series string": lambda tmp, words: from_arrays(pd.Series(words, dtype="string")),
    "series category": lambda tmp, words: from_arrays(pd.Series(words, dtype="category")),
    "frame": lambda tmp, words: from_arrays(pd.DataFrame({"y": words})),
    "arrow": lambda tmp, words: from_arrays(pa.array(words)),
}
WORDS: list[tuple[list[str], list[Any]]] = [
    (["cat", "dog"], ["cat", "dog"]),
    (["1_1", "1_2", "2_1"], ["1_1", "1_2", "2_1"]),
    (["1_0", "10", "2"], ["1_0", "10", "2"]),
    (["01", "1", "2"], ["01", "1", "2"]),
    (["1", "1.0", "2"], [1, 1, 2]),
    (["0", "-1", "10"], [0, -1, 10]),
    (["1.10", "1.1"], ["1.10", "1.1"]),
    (["1.5", "2"], [1.5, 2.0]),
    (["1e5", "100000"], ["1e5", "100000"]),
    (["+1", "1"], ["+1", "1"]),
    (["inf", "1"], ["inf", "1"]),
    (["9007199254740992", "9007199254740993"], [9007199254740992, 9007199254740993]),
    (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
    (["True", "False"], [True, False]),
    (["true", "false"], [True, False]),
    (["True", "true"], ["True", "true"]),
    (["True", "1"], ["True", "1"]),
    ([" cat", "dog"], ["cat", "dog"]),
    ([" cat", "cat"], [" cat", "cat"]),
    ([" 1", "1", "2"], [1, 1, 2]),
    (["١", "1"], ["١", "1"]),
    (["\u00e9", "e\u0301"], ["\u00e9", "e\u0301"]),
]


@pytest.mark.parametrize("format_", WORD_FORMATS)
@pytest.mark.parametrize(("words", "labels"), WORDS, ids=["/".join(words) for words, _ in WORDS])
def test_words_mean_the_same_in_every_format(tmp_path, format_, words, labels):
    found = WORD_FORMATS[format_](tmp_path, words * REPEATS)
    assert found == labels * REPEATS
    assert [type(label) for label in found] == [type(label) for label in labels] * REPEATS


NUMBERS: list[tuple[list[Any], list[Any]]] = [
    ([True, False], [True, False]),
    ([3, -1], [3, -1]),
    ([1.0, 2.0], [1, 2]),
    ([0.5, 2.0], [0.5, 2.0]),
]


@pytest.mark.parametrize(("values", "labels"), NUMBERS)
@pytest.mark.parametrize("kind", ["f4", "f8", "f2", ">f8", "i8", "u1", "O"])
def test_numbers_mean_the_same_in_every_type(tmp_path, values, labels, kind):
    y = np.array(values * REPEATS)
    y = y if (y.dtype == bool and kind != "O") or (y != y.astype(kind)).any() else y.astype(kind)
    expected = labels * REPEATS
    assert from_arrays(y) == from_arrays(y.tolist()) == from_arrays(pd.Series(y)) == expected
    assert from_file(npz(tmp_path, X=np.ones((len(y), 2)), y=np.array(y.tolist()))) == expected
    assert from_file(table(tmp_path, pa.array(y.tolist()))) == expected
    assert from_file(written(tmp_path, [str(label) for label in y.tolist()])) == expected


def test_a_narrow_float_is_the_fraction_that_it_is_written_as(tmp_path):
    y = np.array([0.1, 0.2] * REPEATS, np.float32)
    assert set(from_arrays(y)) == {0.1, 0.2}
    assert set(from_file(table(tmp_path, pa.array(y)))) == {0.1, 0.2}


def test_decimals_are_exact(tmp_path):
    from decimal import Decimal

    whole = pa.array([Decimal(10**17), Decimal(10**17 + 1)] * REPEATS, pa.decimal128(20, 0))
    assert set(from_file(table(tmp_path, whole))) == {10**17, 10**17 + 1}
    cents = pa.array([Decimal("1.00"), Decimal("1.50")] * REPEATS, pa.decimal128(5, 2))
    assert set(from_file(table(tmp_path, cents))) == {1.0, 1.5}
    fine = pa.array([Decimal("0.10000000000000000001"), Decimal(1)] * REPEATS, pa.decimal128(30, 20))
    with pytest.raises(DataError, match="more digits than a float can hold"):
        from_file(table(tmp_path, fine))


@given(st.lists(st.text(min_size=1, max_size=4, alphabet="01 .-+e_aTrue"), min_size=1, max_size=6, unique=True))
@settings(max_examples=300, deadline=None)
def test_words_never_merge_but_as_one_number(words):
    labels = spelled(words)
    for one, first in zip(words, labels, strict=True):
        for other, second in zip(words, labels, strict=True):
            if first == second and one != other:
                assert plain_number(one.strip()) == plain_number(other.strip()) is not None


def test_plain_numbers():
    for word in ("0", "7", "-7", "10", "1.0", "0.1", "-0.5", "1e-05", "1e+16"):
        assert plain_number(word) == float(word)
    for word in ("", "01", "1.", ".5", "+1", "1e5", "1_0", "1.10", "-0", "nan", "inf", "0x1", "1e999", "9" * 50):
        assert plain_number(word) is None, word
    assert [reads_as_number(w) for w in ("1.50", "1e5", ".5", "-3", "01", "1_0", "e5", "nan", "")] == [True] * 4 + [
        False
    ] * 5
    assert exact_numbers([1, 2.0]) == [1, 2]
    assert exact_numbers([2**53 + 1, 0.5]) is None
    assert exact_numbers([-1, 2**63]) is None
    assert exact_numbers([0, 2**64 - 1]) == [0, 2**64 - 1]


# --- what can't be a label


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([b"\xff", b"\xfe"], "are not UTF-8 text"),
        (np.array([b"\xff", b"a"]), "are not UTF-8 text"),
        (["a", "\ud800"], "lone surrogate"),
        (["a", ""], r"row 1 \(counted from 0\) has no label"),
        (["a", " "], "row 1 .* has no label"),
        (["a", None], "row 1 .* has no label"),
        ([1.0, None], "row 1 .* has no label"),
        ([0, np.nan], "row 1 .* has the label nan"),
        ([0, np.inf], "row 1 .* has the label inf"),
        (np.array([1, np.nan], dtype=object), "row 1 .* has no label, but nan"),
        (pd.Series(["a", None]), "row 1 .* has no label"),
        (pd.Series(["a", None], dtype="string"), "row 1 .* has no label"),
        (pd.Series(["a", None], dtype="category"), "row 1 .* has no label"),
        (pd.Series([1, None], dtype="Int64"), "row 1 .* has (no label|the label nan)"),
        (np.array(["a", 1], dtype=object), "mixes numbers and words"),
        (np.array([True, "a"], dtype=object), "mixes booleans and words"),
        (np.array([{}, "a"], dtype=object), "row 0 .* is a dict"),
        (pd.MultiIndex.from_arrays([[0, 1], [0, 1]]), "row 0 .* is a tuple"),
        (pd.period_range("2020", periods=2), "row 0 .* is a Period"),
        (np.zeros(2, dtype=[("a", "i4")]), "labels are numbers or words"),
        (np.array(["2020-01-01", "2021-01-01"], dtype="M8[D]"), "type datetime64"),
        (pd.Series(pd.to_datetime(["2020", "2021"])), "type datetime64"),
        ([1j, 2j], "type complex128"),
        (np.array([2**70, 1], dtype=object), "beyond 64 bits"),
        (np.eye(2), "not one-hot columns"),
        (pd.DataFrame(np.eye(2)), "expected one label for each row"),
        (np.zeros((2, 1, 1)), "expected one label for each row"),
        (1, "is a single value"),
        ("ab", "is a single value"),
        (None, "is a single value"),
        ({0, 1}, "is a single value"),
        ([[0], [1, 2]], "can't be turned into an array"),
        ([0, 1, 0], "2 rows but 3 labels"),
    ],
)
def test_labels_that_cant_be_used(y, says):
    with pytest.raises(UsageError, match=says):
        gpureg.make_dataset(np.ones((2, 2)), y)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([b"\xff", b"a"], pa.binary()), "are not UTF-8 text"),
        (pa.array([b"\xff", b"a"], pa.binary(1)), "are not UTF-8 text"),
        (pa.array(["a", None]), "row 1 .* has no label"),
        (pa.array([None, None], pa.null()), "row 0 .* has no label"),
        (pa.array(["a", ""]), "row 1 .* has no label"),
        (pa.array([[1], [2]]), "labels are numbers or words"),
        (pa.array([{"a": 1}, {"a": 2}]), "labels are numbers or words"),
        (pa.array([0, 1], pa.timestamp("s")), "labels are numbers or words"),
        (pa.array([0, 1], pa.date32()), "labels are numbers or words"),
    ],
)
def test_parquet_labels_that_cant_be_used(tmp_path, column, says):
    with pytest.raises(DataError, match=says):
        read(table(tmp_path, column))


def test_words_of_arrow_that_are_not_utf8(tmp_path):
    offsets, data = pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xffa")
    with pytest.raises(DataError, match="UTF-8"):
        read(table(tmp_path, pa.StringArray.from_buffers(2, offsets, data)))


def test_characters_that_there_are_not(tmp_path):
    y = np.array(["a", "b"] * REPEATS)
    y.view(np.uint32)[3] = 0x110000
    with pytest.raises(DataError, match=r"row 3 \(counted from 0\) holds numbers that are not characters"):
        read(npz(tmp_path, X=np.ones((len(y), 2)), y=y))
    swapped = np.array(["a", "b"] * REPEATS).astype(">U1")
    assert encode_labels(swapped, "y")[1] == ("a", "b")


def test_two_parts_have_one_numbering():
    X = np.arange(8.0).reshape(4, 2) + 0.5
    for y, y_val, meant in (
        (["1", "2"], [1, 2], [1, 2]),
        ([1.0, 2.0], ["1", "2.0"], [1, 2]),
        (["1", "a"], ["a", "1"], ["1", "a"]),
        (["2", "01"], ["2", "01"], ["2", "01"]),
        ([True, False], ["True", "False"], [True, False]),
        ([b"a", b"b"], ["b", "a"], ["a", "b"]),
    ):
        classes = tuple(sorted(meant))
        data = gpureg.make_dataset(X, y * 2, X, y_val * 2)
        assert data.classes == classes
        assert data.y_train.tolist() == [classes.index(label) for label in meant] * 2
    for y, y_val in (([1, 2], ["a", "b"]), ([1, 2], ["01", "2"]), ([True, False], ["yes", "no"])):
        with pytest.raises(DataError, match=r"y holds (numbers|booleans), y_val holds words"):
            gpureg.make_dataset(X, y * 2, X, y_val * 2)


def test_what_one_part_spells_is_decided_by_both():
    first, second = find_labels(np.array(["1", "2"]), "y"), find_labels(np.array(["1", "x"]), "y_val")
    codes, labels = settle([first, second])
    assert labels == ("1", "2", "x")
    assert [c.tolist() for c in codes] == [[0, 1], [0, 2]]


def test_classes_are_found_as_users_name_them():
    assert find_class("2", (1, 2)) == find_class(2.0, (1, 2)) == find_class("2.0", (1, 2)) == 1
    assert find_class(" b", ("a", "b")) == 1
    assert find_class(" b", ("b", " b")) == 1
    assert find_class("1_1", (11, 12)) is None
    assert find_class("01", (1, 2)) is None
    for name in (True, "True", "true", 1, "1", np.True_):
        assert find_class(name, (False, True)) == 1
        assert name in ("True", "true") or find_class(name, (0, 1)) == 1


def test_a_measurement_is_not_a_label_however_it_is_written(tmp_path):
    values = np.arange(200) / 7
    for y in (values, values.astype(np.float32), [f"{value:.2f}" for value in values]):
        with pytest.raises(DataError, match="a measurement, not a class"):
            gpureg.make_dataset(np.ones((200, 2)), y)
    with pytest.raises(DataError, match="a measurement, not a class"):
        read(written(tmp_path, [f"{value:.2f}" for value in values]))
