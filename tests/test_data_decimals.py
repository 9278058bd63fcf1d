"""Cells of text: short decimals are read bit for bit as Arrow reads them, and nothing else is; words are told apart."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpureg.data.csv_cells import Cells
from gpureg.data.csv_decimals import MARGIN, short_decimals

DECIMAL = st.from_regex(r"-?([0-9]{1,7}\.[0-9]{0,7}|\.[0-9]{1,7}|[0-9]{1,8})", fullmatch=True)
LONGER = st.from_regex(r"[-+]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
REFUSED = ["-", ".", "-.", "++1", "--1", "1.2.3", "1-2", "1/2", "1 ", " 1", "1:2", "x", "12345.x", "\0001", "½"]


def short(cells: list[bytes], after: bytes = b"9" * MARGIN):
    """What `short_decimals` reads of cells, and which ones it does."""
    text = b",".join(cells) + b"," + after
    ends = np.cumsum([len(cell) + 1 for cell in cells]) - 1
    X = np.full(len(cells), np.nan)
    left = short_decimals(memoryview(text), ends - [len(cell) for cell in cells], ends, X)
    read = np.ones(len(cells), bool)
    read[left] = False
    return X, read


def by_arrow(cells: list[bytes]):
    return pa.array(cells, pa.binary()).cast("string").cast("float64").to_numpy()


def assert_as_by_arrow(cells: list[bytes], X):
    np.testing.assert_array_equal(X.view(np.int64), by_arrow(cells).view(np.int64))  # bit for bit: -0.0 too


@settings(max_examples=100, deadline=None)
@given(st.lists(DECIMAL, min_size=1, max_size=40))
def test_short_decimals_are_read_exactly(cells):
    cells = [cell.encode() for cell in cells]
    X, read = short(cells)
    short_enough = np.array([len(cell.lstrip(b"-")) <= 8 and not cell.endswith(b".") for cell in cells])
    if 2 * np.count_nonzero([len(cell.lstrip(b"-")) > 8 for cell in cells]) <= len(cells):
        np.testing.assert_array_equal(read, short_enough)
    assert_as_by_arrow([cell for cell, there in zip(cells, read, strict=True) if there], X[read])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_nothing_else_is_read_of_all_texts_of_some_characters(length):
    cells = ["".join(letters).encode() for letters in itertools.product("05.-+e/", repeat=length)]
    X, read = short(cells)
    assert read.any()
    assert_as_by_arrow([cell for cell, there in zip(cells, read, strict=True) if there], X[read])


@pytest.mark.parametrize("number", [b"1", b"12345678", b"-1234.678", b".1234567"])
def test_a_byte_that_is_not_a_digit_is_found_anywhere(number):
    cells = [
        number[:place] + bytes([byte]) + number[place + 1 :] for place in range(len(number)) for byte in range(256)
    ]
    X, read = short(cells)
    digits = [cell for cell in cells if cell.translate(None, b"-.0123456789") == b""]
    assert {cell for cell, there in zip(cells, read, strict=True) if there} <= set(digits)
    assert_as_by_arrow([cell for cell, there in zip(cells, read, strict=True) if there], X[read])


@settings(max_examples=100, deadline=None)
@given(st.lists(DECIMAL | LONGER | st.just(""), min_size=1, max_size=40), st.sampled_from(["\n", "\r\n"]))
def test_a_column_of_numbers_is_read_as_by_arrow(numbers, newline):
    numbers = [*numbers, "7"]
    text = "".join(f"{cell},w{newline}" for cell in numbers).encode() + bytes(MARGIN)
    cells = Cells.of(memoryview(text), len(numbers), 2, ",")
    assert cells is not None
    X = np.empty((len(numbers), 1))
    finite = cells.numbers([0], X)
    expected = by_arrow([(cell or "nan").encode() for cell in numbers])
    np.testing.assert_array_equal(X[:, 0], expected)
    assert finite == bool(np.isfinite(expected).all())


@pytest.mark.parametrize("cell", REFUSED)
def test_what_is_not_a_number_is_refused(cell):
    text = "".join(f"{number}\n" for number in ["1", "-2.5", cell, "3"]).encode() + bytes(MARGIN)
    cells = Cells.of(memoryview(text), 4, 1, ",")
    assert cells is not None
    with pytest.raises(pa.ArrowInvalid):
        cells.numbers(slice(1), np.empty((4, 1)))


@pytest.mark.parametrize(("least", "most"), [(1, 2), (1, 12), (3, 9), (5, 7), (6, 30)])
def test_cells_of_any_length_are_found(least, most):
    rng = np.random.default_rng(least)
    numbers = ["9" * length for length in rng.integers(least, most + 1, 600)]
    text = "".join(f"{','.join(numbers[row : row + 3])}\n" for row in range(0, 600, 3)).encode()
    cells = Cells.of(memoryview(text + bytes(MARGIN)), 200, 3, ",")
    assert cells is not None
    found = [text[start:end].decode() for start, end in zip(cells.starts.flat, cells.ends.flat, strict=True)]
    assert found == numbers


@pytest.mark.parametrize(
    "words",
    [["b", "a", "b"], ["a", "\0a", "a\0"], ["", "a"], ["eight_ch", "nine_char"], ["\u00e9", "\u00e8"], ['"b"', '"a"']],
)
def test_words_are_told_apart(words):
    text = "".join(f"{word},1\n" for word in words * 3).encode() + bytes(MARGIN)
    cells = Cells.of(memoryview(text), 3 * len(words), 2, ",")
    assert cells is not None
    (column,) = cells.words([0])
    assert column.to_pylist() == [word.strip('"') for word in words * 3]
    assert len(column.dictionary) == len(set(words))
