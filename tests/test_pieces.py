"""Rows in pieces are indexed as an array is; their mean and deviation are those of the whole."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from gpureg.data.pieces import HeldPiece, Pieces
from gpureg.distributed.scaling import joined, moments_of
from gpureg.types import Ints

X = np.arange(60.0).reshape(20, 3)


def in_pieces(*cuts: int) -> Pieces:
    bounds = [0, *cuts, len(X)]
    pieces = [HeldPiece(X, start, stop) for start, stop in itertools.pairwise(bounds)]
    return Pieces.of(pieces, 3, X.dtype)


def held(pieces: Pieces) -> np.ndarray:
    parts = [p.read() if rows is None else p.read()[rows] for p, rows in zip(pieces.pieces, pieces.picked, strict=True)]
    return np.concatenate([np.zeros((0, 3)), *parts])


ROWS = {
    "all": slice(None),
    "none": slice(0),
    "a slice": slice(3, 17),
    "every third": slice(1, None, 3),
    "a mask": np.arange(20) % 4 == 1,
    "numbers": np.array([0, 6, 7, 8, 19]),
    "no numbers": np.zeros(0, np.int64),
}


@pytest.mark.parametrize("cuts", [(), (7,), (1, 2, 11)])
@pytest.mark.parametrize("name", ROWS)
def test_they_are_indexed_as_an_array(cuts: tuple[int, ...], name: str) -> None:
    rows = ROWS[name]
    found = in_pieces(*cuts)[rows]
    assert found.shape == X[rows].shape == (len(found), 3)
    np.testing.assert_array_equal(held(found), X[rows])
    again = np.flatnonzero(np.arange(len(found)) % 2)
    np.testing.assert_array_equal(held(found[again]), X[rows][again])


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("rows", [slice(None), np.array([2, 3, 9, 14])], ids=["all", "some"])
def test_cutting_changes_no_row(most: int, rows: slice | Ints) -> None:
    found = in_pieces(7, 9)[rows].cut(most)
    np.testing.assert_array_equal(held(found), X[rows])
    assert all(piece.rows <= most for piece in found.pieces)


def test_the_same_rows_have_one_identity() -> None:
    def identity(pieces: Pieces) -> list[bytes]:
        return list(pieces.identity())

    assert identity(in_pieces(7)) == identity(in_pieces(7))
    changed = np.where(np.arange(60).reshape(20, 3) == 31, -1.0, X)
    other = Pieces.of([HeldPiece(changed, 0, 7), HeldPiece(changed, 7, 20)], 3, X.dtype)
    assert identity(in_pieces(7)) != identity(other)
    assert identity(in_pieces(7)[1:]) != identity(in_pieces(7))


def test_only_its_own_rows_travel_with_a_piece() -> None:
    large = np.zeros((100_000, 3))
    sent = pickle.dumps(HeldPiece(large, 10, 20))
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent).read(), large[10:20])


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        in_pieces(7)[np.array([3, 1])]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_joined_moments_are_those_of_all_rows(weighted: bool, offset: float) -> None:
    random = np.random.RandomState(0)
    rows = random.randn(1000, 4) + offset
    rows[:, 2] = 5.0
    weights = random.choice([0.0, 1.0, 3.0], 1000) if weighted else None
    parts = [slice(0, 1), slice(1, 400), slice(400, 1000)]
    total = moments_of(rows[parts[0]], None if weights is None else weights[parts[0]])
    for part in parts[1:]:
        total = joined(total, moments_of(rows[part], None if weights is None else weights[part]))
    v = np.ones(1000) if weights is None else weights
    mean = np.average(rows, axis=0, weights=v)
    np.testing.assert_allclose(total.mean, mean, rtol=1e-14, atol=1e-15)
    deviation = np.average((rows - mean) ** 2, axis=0, weights=v)
    np.testing.assert_allclose(total.square / total.mass, deviation, rtol=1e-7 if offset else 1e-13, atol=1e-30)
    assert total.low[2] == total.high[2] == 5.0
