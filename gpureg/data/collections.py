"""Dask's arrays and data frames, by their own methods: rows whose partitions are computed where they are needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.opening import first_words
from gpureg.data.pieces import Pieces
from gpureg.data.raw import Features, check_features, refuse_absent, refuse_twice
from gpureg.data.uses import Uses, not_numbers
from gpureg.errors import DataError, UsageError, named

Matrix = npt.NDArray[Any]
FEW = ("y", "y_val", "weights", "weights_val", "groups")  # a number a row
Delayed = Any  # dask.delayed.Delayed; Dask has no types


def is_dask(X: Any) -> bool:
    """Whether X is one of Dask's collections."""
    return hasattr(X, "__dask_graph__") and hasattr(X, "dask")


def computed(values: Any) -> Any:
    """The values of a Dask collection, which are few enough to be held; anything else as it is."""
    return values.compute() if is_dask(values) else values


@dataclass(frozen=True)
class Partition:
    """The rows from `start` to `stop` of a partition `number` of a collection, an array or a frame; see `Piece`.

    `delayed` computes the partition, on whichever worker; it is None on the way to the worker that takes the result.
    """

    where: str
    number: int
    start: int
    stop: int
    dtype: np.dtype[Any]
    delayed: Delayed = None

    @property
    def rows(self) -> int:
        """See `Piece`."""
        return self.stop - self.start

    @property
    def identity(self) -> str:
        """See `Piece`: Dask's key, which names the computation."""
        return f"{self.delayed.key}[{self.start}:{self.stop}]"

    def part(self, start: int, stop: int) -> Partition:
        """See `Piece`."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    def read(self) -> Matrix:
        """See `Piece`."""
        return self.taken(self.delayed.compute())

    def told(self) -> Partition:
        """The same without the computation."""
        return replace(self, delayed=None)

    def taken(self, held: Any) -> Matrix:
        """The rows of the computed partition `held`. Raises DataError for what is not finite numbers."""
        where = f"{self.where}, partition {self.number}"
        try:
            found = held.to_numpy(self.dtype) if hasattr(held, "columns") else np.asarray(held)
        except Exception as error:  # whatever the partition's type objects to
            raise DataError(f"{where} can't be turned into an array ({first_words(error)}).") from error
        rows = found[self.start : self.stop]
        if len(rows) != self.rows:
            raise DataError(
                f"{where} has {len(found)} rows now, but had {self.stop} or more when its rows were counted. Expected "
                "the same rows each time it is computed; persist the collection first."
            )
        check_features(rows, where)
        return rows


def without_dask(given: Any, uses: Uses) -> Any:
    """The arguments of `make_dataset` (`in_memory.Arrays`) with everything in this process but the features of Dask's
    collections, which become `Features` in pieces. Raises as `dask_features`.
    """
    here = replace(given, **{name: computed(getattr(given, name)) for name in FEW})
    if not is_dask(given.X):
        return replace(here, X_val=computed(given.X_val))
    X = dask_features(given.X, "X", uses)
    own = dask_features(given.X_val, "X_val", Uses(), X.names) if is_dask(given.X_val) else given.X_val
    return replace(here, X=X, X_val=own)


def dask_features(X: Any, where: str, uses: Uses, names: tuple[str, ...] | None = None) -> Features:
    """Features of a Dask array `(N, F)` or data frame, in pieces; the rows of unknown partitions are counted. `names`:
    the columns of a frame that are taken, in this order.

    Raises UsageError for options that need all values at once, DataError for what does not hold numbers.
    """
    if uses.one_hot or uses.keeps_missing:
        option = named("categorical", "one-hot") if uses.one_hot else named("missing", uses.missing)
        raise UsageError(
            f"{option}: {where} is a Dask collection, whose columns are numbers without gaps. Encode words and fill "
            f"gaps in with Dask first, and leave out {named('categorical' if uses.one_hot else 'missing')}."
        )
    if hasattr(X, "columns"):
        X, names = _chosen(X, where, uses, names)
        sizes = [int(size) for size in X.map_partitions(len, meta=(None, "int64")).compute()]
        dtype = np.result_type(*(np.dtype(np.uint8) if kind.kind == "b" else kind for kind in X.dtypes))
        delayed = X.to_delayed()
    else:
        uses.refuse_choice(f"{where}, a Dask array,")
        names = None
        X = _of_rows(X, where)
        sizes, dtype, delayed = [int(size) for size in X.chunks[0]], X.dtype, X.to_delayed()[:, 0]
    width = len(names) if names is not None else int(X.shape[1])
    if not sum(sizes) or not width:
        raise DataError(f"{where} has shape ({sum(sizes)}, {width}): there is nothing to fit.")
    pieces = [
        Partition(where, number, 0, size, dtype, one)
        for number, (size, one) in enumerate(zip(sizes, delayed, strict=True))
        if size
    ]
    found = Pieces.of(pieces, width, dtype)
    return Features(found, names)


def _of_rows(X: Any, where: str) -> Any:
    """A Dask array whose chunks are whole rows, and of known sizes."""
    if X.ndim != 2:
        raise DataError(f"{where} is a Dask array of {X.ndim} dimensions; expected (rows, features).")
    if X.dtype.kind not in "biuf":
        raise DataError(f"{where} has type {X.dtype}; features are real numbers.")
    if X.dtype == np.bool_:
        X = X.astype(np.uint8)
    if any(np.isnan(size) for sizes in X.chunks for size in sizes):
        X = X.compute_chunk_sizes()
    return X if len(X.chunks[1]) == 1 else X.rechunk({1: -1})


def _chosen(X: Any, where: str, uses: Uses, taken: tuple[str, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """The columns of a frame that are features. Raises DataError for those that do not hold numbers."""
    by_text = {str(name): name for name in X.columns}
    names = tuple(by_text)
    if taken is not None:
        refuse_absent(where, taken, names)
        names, X = taken, X[[by_text[name] for name in taken]]
    refuse_twice(list(map(str, X.columns)), where)
    if uses.chooses:
        names = uses.chosen(names, (), where)
        X = X[[by_text[name] for name in names]]
    other = [f"{name} ({kind})" for name, kind in zip(names, X.dtypes, strict=True) if not _is_number(kind)]
    if other:
        raise not_numbers(where, other, one_hot=False)
    return X, names


def _is_number(kind: Any) -> bool:
    return isinstance(kind, np.dtype) and kind.kind in "biuf"
