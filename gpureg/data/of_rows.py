"""Features that stay in their file, and the pass over them that checks what a reader of arrays checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.array_rows import ArrayRows
from gpureg.data.kept import Kept
from gpureg.data.notices import FEW_ROWS, may_be_ids
from gpureg.data.raw import Features, RawData, check_features
from gpureg.data.streamed import Part, Source, Streamed, row_pieces
from gpureg.data.uses import Uses
from gpureg.errors import UsageError, named

PIECE_NUMBERS = 1 << 17  # of the rows that are checked at once
MOST_IDS = 4  # columns whose values are all held, to see whether they are all different


def refuse_held_only(uses: Uses) -> None:
    """Raise UsageError for what is made of the rows that are held."""
    for option, value, usual in (
        ("categorical", "one-hot", uses.one_hot),
        ("missing", uses.missing, uses.keeps_missing),
    ):
        if usual:
            raise UsageError(
                f"{named(option, value)} makes features of rows that are held, and {named('stream', True)} reads rows "
                f"that are numbers already. Make them once, when the file is written; or leave out {named('stream')}."
            )


def rows_of(source: Source, kept: Kept) -> Streamed:
    """The kept rows of a source."""
    return Streamed((Part(source, kept.rows),))


def of_rows(source: ArrayRows, kept: Kept, uses: Uses) -> Features:
    """An array's rows as features; columns are chosen by number, images can't be cut."""
    pixel_max = None
    if source.image_shape is not None:
        uses.refuse_choice(f"{source.where}, images,")
        pixel_max = 255.0 if source.stored == np.uint8 else None
    positions = uses.positions(source.width, source.where)
    chosen = source if positions is None else source.of(positions)
    X: Any = rows_of(chosen, kept)
    return Features(X, None, None, source.image_shape, pixel_max, source.width, positions)


def column_of(source: ArrayRows, column: int) -> npt.NDArray[Any]:
    """One column of an array `(N,)`: a pass over its file."""
    found = np.empty(source.shape[0], source.dtype)
    start = 0
    for piece in row_pieces(rows_of(source.of([column]), Kept()), PIECE_NUMBERS):
        found[start : start + len(piece)] = piece[:, 0]
        start += len(piece)
    return found


def surveyed(raw: RawData) -> RawData:
    """The data, whose features stay in their file, checked by a pass over it: `ids` are the columns of whole numbers
    that are all different in the training rows, at most the first few.

    Raises DataError for values that are not finite, with their row and feature.
    """
    features = raw.features
    names = features.names or tuple(map(str, features.positions or range(features.X.shape[1])))
    if raw.X_val is not None:
        _Survey(raw.X_val, names, ()).made()
    X: Any = features.X
    image = features.image_shape is not None
    candidates = () if image or len(X) < FEW_ROWS or X.dtype == np.uint8 else tuple(range(X.shape[1]))
    return replace(raw, ids=_Survey(X, names, candidates).made())


class _Survey:
    """A pass over streamed rows; `candidates`: the columns that may hold numbers that are all different."""

    def __init__(self, X: Any, names: tuple[str, ...], candidates: Sequence[int]) -> None:
        self.X, self.names, self.candidates = X, names, list(candidates)
        self.values: dict[int, list[npt.NDArray[Any]]] = {}

    def made(self) -> tuple[int, ...]:
        """The candidates that hold whole numbers that are all different. Raises DataError."""
        start = 0
        for piece in row_pieces(self.X, max(1, PIECE_NUMBERS // self.X.shape[1])):
            if piece.dtype.kind == "f":
                self._check(piece, start)
            self._narrow(piece)
            start += len(piece)
        return tuple(c for c in self.candidates if len(np.unique(np.concatenate(self.values[c]))) == start)

    def _check(self, piece: npt.NDArray[Any], start: int) -> None:
        if np.isfinite(piece.sum(dtype=np.float64)):  # a sum of finite numbers may overflow, but not the other way
            return
        for row in np.flatnonzero(~np.isfinite(piece).all(axis=1))[:1].tolist():
            where, number = self.X.place(start + row)
            check_features(piece[row : row + 1], where, self.names, Kept(np.array([number])))

    def _narrow(self, piece: npt.NDArray[Any]) -> None:
        """Drop the candidates that can't be, and keep the values of the others."""
        if not self.candidates:
            return
        maybe = may_be_ids(piece[:, self.candidates])
        self.candidates = [c for c, stays in zip(self.candidates, maybe.tolist(), strict=True) if stays][:MOST_IDS]
        for column in self.candidates:
            self.values.setdefault(column, []).append(piece[:, column].copy())
