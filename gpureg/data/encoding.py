"""`Encoding`: how the columns of data become features. It is learnt from the training rows and is part of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.config.names import MISSINGS
from gpureg.data.labels import listed
from gpureg.errors import DataError, named

Matrix = npt.NDArray[Any]
Category = str | None
Categories = tuple[tuple[Category, ...] | None, ...]


@dataclass(frozen=True)
class Encoding:
    """From a matrix of columns `(N, R)` to features `(N, F)`.

    A column of numbers is a feature; its missing values (NaN) become `fill[r]`, the mean of the training rows, if
    `missing` is `mean`. A column of words holds indices into its `categories[r]`, and each of them is a feature that is
    1 in its rows and else 0. None among them, the last, is the category of missing words. A word that no training row
    has (UNSEEN) is 0 everywhere. NaN that is not filled in stays, in all features of its column: such rows are left out
    with `missing` `drop`.

    `names (R,)` are the columns' names, None where they have none; then `positions`, if not None, are the columns that
    are used of `width`.
    """

    width: int
    names: tuple[str, ...] | None
    positions: tuple[int, ...] | None
    categories: Categories
    missing: str
    fill: tuple[float, ...] | None = None

    @property
    def words(self) -> tuple[int, ...]:
        """The columns that hold words."""
        return tuple(index for index, found in enumerate(self.categories) if found is not None)

    @property
    def n_features(self) -> int:
        """F."""
        return sum(1 if found is None else len(found) for found in self.categories)

    def feature_names(self) -> tuple[str, ...] | None:
        """`column` of numbers, `column=category` of words; None for numbers without names."""
        if self.names is None and not self.words:
            return None
        names = self.names or tuple(str(index) for index in self.positions or range(self.width))
        return tuple(
            feature
            for name, found in zip(names, self.categories, strict=True)
            for feature in ([name] if found is None else [f"{name}={category or ''}" for category in found])
        )

    def column_of(self, feature: int) -> int:
        """The column, among all `width`, that a feature comes from."""
        widths = [1 if found is None else len(found) for found in self.categories]
        column = int(np.searchsorted(np.cumsum(widths), feature, side="right"))
        return column if self.positions is None else self.positions[column]

    def applied(self, columns: Matrix) -> Matrix:
        """Features `(N, F)` of columns `(N, width)`, words as indices into `categories`."""
        return self.of_used(columns if self.positions is None else columns[:, list(self.positions)])

    def of_used(self, X: Matrix) -> Matrix:
        """Features of the columns that are used `(N, R)`."""
        if self.fill is not None and X.dtype.kind == "f":
            absent = np.isnan(X)
            absent[:, list(self.words)] = False
            if absent.any():
                X = np.where(absent, np.asarray(self.fill, np.result_type(X, np.float32)), X)
        return X if not self.words else self._one_hot(X)

    def _one_hot(self, X: Matrix) -> Matrix:
        features = np.zeros((len(X), self.n_features), X.dtype if X.dtype.kind == "f" else np.float64)
        start = 0
        for column, found in zip(X.T, self.categories, strict=True):
            if found is None:
                features[:, start] = column
                start += 1
                continue
            absent = np.isnan(column)
            rows = np.flatnonzero(column >= 0)  # neither NaN nor unseen
            features[rows, start + column[rows].astype(np.int64)] = 1
            if absent.any() and self.missing != "mean":
                features[absent, start : start + len(found)] = np.nan
            start += len(found)
        return features

    def to_dict(self) -> dict[str, Any]:
        """As the model's file holds it: plain values."""
        return {
            "width": self.width,
            "names": None if self.names is None else list(self.names),
            "positions": None if self.positions is None else list(self.positions),
            "categories": [None if found is None else list(found) for found in self.categories],
            "missing": self.missing,
            "fill": None if self.fill is None else list(self.fill),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Encoding:
        """The inverse of `to_dict`. Raises ValueError for what does not fit."""
        names, positions = _tuple(values, "names", str), _tuple(values, "positions", int)
        fill = _tuple(values, "fill", (int, float))
        found = values.get("categories")
        width, missing = values.get("width"), values.get("missing")
        if type(width) is not int or missing not in MISSINGS or not isinstance(found, list):
            raise ValueError("encoding lacks its width, its columns, or what becomes of missing values")
        categories = tuple(None if one is None else _words(one) for one in found)
        R = len(categories)
        lengths = [len(one) for one in (names, positions, fill) if one is not None]
        inside = all(0 <= position < width for position in positions or ())
        if any(length != R for length in lengths) or not inside or (positions is None and width != R):
            raise ValueError("encoding holds lists of different lengths")
        return cls(width, names, positions, categories, missing, fill)


def _tuple(values: Mapping[str, Any], key: str, kind: Any) -> tuple[Any, ...] | None:
    found = values.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise ValueError(f"encoding: {key} is not a list of its own kind")
    return tuple(found)


def _words(found: Any) -> tuple[Category, ...]:
    if not isinstance(found, list) or not all(one is None or isinstance(one, str) for one in found):
        raise ValueError("encoding: categories are not lists of words")
    return tuple(found)


UNSEEN = -1


def learnt(
    X: Matrix,
    words: Categories | None,
    missing: str,
    weights: npt.NDArray[np.float64] | None,
    start: Encoding,
) -> Encoding:
    """The encoding of training rows `X (N, R)`, of which the columns with `words` hold indices into them (NaN where one
    is missing). `start` gives the names of the columns.

    Raises DataError for a column of numbers that no row has a value in, if means are to be taken.
    """
    names = start.names or tuple(str(index) for index in start.positions or range(start.width))
    categories: list[tuple[Category, ...] | None] = [None] * X.shape[1]
    for column, found in enumerate(words or ()):
        if found is not None:
            codes = X[:, column]
            absent = np.isnan(codes)
            seen = sorted(str(found[int(code)]) for code in np.unique(codes[~absent]))
            if _numeric(seen):
                seen.sort(key=float)
            categories[column] = (*seen, *([None] if absent.any() and missing == "mean" else []))
    fill = None
    if missing == "mean":
        fill = tuple(
            0.0 if categories[column] is not None else _mean(X[:, column], weights, names[column])
            for column in range(X.shape[1])
        )
    return replace(start, categories=tuple(categories), missing=missing, fill=fill)


def _numeric(words: Sequence[str]) -> bool:
    try:
        return all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _mean(column: Matrix, weights: npt.NDArray[np.float64] | None, name: str) -> float:
    values = column.astype(np.float64)
    there = ~np.isnan(values)
    if not there.any():
        raise DataError(
            f"column {listed([name])!r} has no value in any training row, so there is no mean to fill in. Leave it out "
            f"with {named('drop', name)}."
        )
    values, shares = values[there], None if weights is None else weights[there]
    first = values[0]  # the mean of equal values is exactly theirs
    return float(first + np.average(values - first, weights=shares))


def recoded(X: Matrix, words: Categories | None, encoding: Encoding) -> Matrix:
    """Columns whose words are indices into `words` as columns with indices into the encoding's categories."""
    if not encoding.words:
        return X
    X = X.copy()
    for column in encoding.words:
        found, known = (words or ())[column], encoding.categories[column]
        assert found is not None
        assert known is not None
        position = {word: float(index) for index, word in enumerate(known)}
        table = np.array([*(position.get(word, UNSEEN) for word in found), position.get(None, np.nan)])
        codes = X[:, column]
        X[:, column] = table[np.where(np.isnan(codes), len(found), codes).astype(np.int64)]
    return X


def unseen_notices(unseen: dict[int, int], encoding: Encoding, rows: str) -> list[str]:
    """What is said of words that no training row has, by column; one notice for all of them."""
    names = encoding.names or tuple(str(index) for index in range(encoding.width))
    found = [f"{listed([names[column]])!r} ({count:,})" for column, count in unseen.items() if count]
    if not found:
        return []
    return [
        f"{rows} hold categories that no training row has, in {listed(found, 10)}: all features of such a column are 0 "
        "in them."
    ]
