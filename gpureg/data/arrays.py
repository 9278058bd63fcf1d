"""Readers of NumPy's npz and npy files. Pickled objects in them are refused: loading one can run any code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.array_rows import ArrayRows, npz_rows
from gpureg.data.array_streams import numpy_errors
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Found, find_labels, listed, settle
from gpureg.data.limits import Limit
from gpureg.data.marks import Marks
from gpureg.data.npy_matrix import NpyMatrix
from gpureg.data.of_rows import of_rows
from gpureg.data.opening import refuse_special
from gpureg.data.raw import Features, RawData, as_features, check_features, check_lengths, check_weights, pick_column
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named

Array = npt.NDArray[Any]

_TRAINING, _VALIDATION, _TEST = ("X", "X_train", "x_train"), ("X_val", "x_val"), ("X_test", "x_test")
_SAVEZ = "np.savez(path, X=X, y=y)"


@dataclass(frozen=True)
class _Keys:
    """The names of an archive's arrays, None for what it does not have."""

    X: str
    y: str
    X_val: str | None
    y_val: str | None
    weights: str | None
    weights_val: str | None

    @property
    def taken(self) -> list[str]:
        """Those that can't name groups or folds too."""
        return [key for key in (self.X, self.y, self.weights) if key is not None]

    @property
    def features(self) -> list[str]:
        """Those of features."""
        return [self.X] if self.X_val is None else [self.X, self.X_val]

    def given(self) -> list[str]:
        found = (self.X, self.y, self.X_val, self.y_val, self.weights, self.weights_val)
        return [key for key in found if key is not None]


def read_npz_data(file: Path, uses: Uses, limit: Limit) -> RawData:
    """Read `X (N, F)` or images `(N, H, W)` and `y (N,)` (or `X_train` and `y_train`; `x_` for `X_`), and, where they
    are there, `X_val` and `y_val`.

    The target names another array than `y`, with `<target>_val` for validation; the weights one of sample weights (N,).

    Raises UsageError for an array that is not there, DataError for arrays that can't be used.
    """
    with _archive(file) as archive:
        there = archive.files
        keys = _keys(file, there, uses.target, uses.weights)
        marks = uses.marked(there, keys.taken, str(file))
        named_ones = [*dict.fromkeys((*keys.given(), *marks.values()))]
        arrays = _load(file, archive, named_ones, limit, keys.features if uses.stream else ())
    row_weights, rows = None, _rows(arrays[keys.X])
    if keys.weights is not None:
        row_weights = check_weights(arrays[keys.weights], rows, f"{keys.weights} in {file}")
    kept = Kept.of_weights(row_weights)
    check_lengths(rows, _rows(arrays[keys.y]), f"{file}, {keys.X} and {keys.y}")
    features = _features(arrays[keys.X], f"{keys.X} in {file}", kept, uses)
    columns = [_labels(kept.of(arrays[keys.y]), f"{keys.y} in {file}", kept)]
    X_val = weights_val = None
    if keys.X_val is not None and keys.y_val is not None:
        own = _features(arrays[keys.X_val], f"{keys.X_val} in {file}", ALL, uses)
        if own.width != features.width:
            raise DataError(
                f"{file}: {keys.X} has {features.width} features, {keys.X_val} {own.width}. Expected the same number."
            )
        X_val = own.X
        columns.append(_labels(arrays[keys.y_val], f"{keys.y_val} in {file}"))
        check_lengths(len(X_val), len(columns[1].codes), f"{file}, {keys.X_val} and {keys.y_val}")
        if keys.weights_val is not None:
            weights_val = check_weights(arrays[keys.weights_val], len(X_val), f"{keys.weights_val} in {file}")
    codes, labels = settle(columns)
    return RawData(
        name=file.stem,
        features=features,
        codes=codes[0],
        labels=labels,
        X_val=X_val,
        codes_val=None if X_val is None else codes[1],
        weights_val=weights_val,
        weights=None if row_weights is None else kept.of(row_weights),
        target=keys.y,
        marks=Marks.of({option: arrays[name] for option, name in marks.items()}, rows, str(file), kept),
        has_test=any(name in there for name in _TEST),
    )


def read_npy_data(file: Path, uses: Uses, limit: Limit) -> RawData:
    """Read one matrix (N, F + 1) whose last column is the label, of a file or of the npy files of a folder; options
    name columns by number, from 0.

    Raises UsageError for a column that is not there, DataError for an array that can't be used.
    """
    matrix = NpyMatrix.of(file, None if uses.stream else partial(load_npy, limit=limit))
    if len(matrix.shape) != 2 or matrix.shape[1] < 2:
        raise DataError(
            f"{file} has shape {matrix.shape}; expected (rows, features + 1), the label in the last column. Name a "
            f"file of labels with {named('labels')}, or store an npz: {_SAVEZ}."
        )
    columns = tuple(str(index) for index in range(matrix.shape[1]))
    label = pick_column(uses.target, columns, "target")
    weights, row_weights, every = None, None, Kept(None, matrix.files)
    if uses.weights is not None:
        weights = pick_column(uses.weights, columns, "weights")
        if weights == label:
            raise UsageError(f"{named('weights', weights)} is the label column. Name another column.")
        row_weights = check_weights(matrix.column(weights), matrix.shape[0], f"column {weights} of {file}", every)
    kept = Kept.of_weights(row_weights, matrix.files)
    taken = [name for name in (label, weights) if name is not None]
    marks = uses.marked(columns, taken, str(file))
    marked = {option: matrix.column(name) for option, name in marks.items()}
    taken += marks.values()
    others = [name for name in columns if name not in taken]
    chosen = uses.chosen(others, taken, str(file), label=label)
    X = matrix.features([int(name) for name in chosen], kept)
    if not uses.stream:
        check_features(X, str(file), chosen, kept, missing=uses.keeps_missing)
    found = find_labels(kept.of(matrix.column(label)), f"column {label} (the label) of {file}", kept)
    (codes,), labels = settle([found])
    positions = None if len(chosen) == len(others) else tuple(others.index(name) for name in chosen)
    return RawData(
        name=file.stem,
        features=Features(X, width=len(others), positions=positions),
        codes=codes,
        labels=labels,
        weights=None if row_weights is None else kept.of(row_weights),
        target=label,
        marks=Marks.of(marked, matrix.shape[0], str(file), kept),
    )


def load_npy(file: Path, limit: Limit) -> Array:
    """The array of an npy file. Raises DataError if it can't be read or holds pickled objects."""
    refuse_special(file)
    with numpy_errors(file), file.open("rb") as stream:  # opened here: np.load leaves its own file open if it fails
        limit.check(2 * file.stat().st_size, file)  # the matrix, and its features without the label
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is an npz archive under another name. Rename it to .npz.")
    return array


def npz_arrays(file: Path, keys: Callable[[list[str]], list[str | None]], limit: Limit) -> dict[str, Array]:
    """Those arrays of an archive that `keys(names there are)` names. Raises DataError."""
    with _archive(file) as archive:
        return _load(file, archive, [key for key in keys(archive.files) if key is not None], limit)


@contextmanager
def _archive(file: Path) -> Iterator[Any]:
    refuse_special(file)
    with numpy_errors(file), file.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{file} is an npy file under another name. Rename it to .npy.")
        with archive:
            yield archive


def _load(file: Path, archive: Any, keys: list[str], limit: Limit, streamed: Collection[str] = ()) -> dict[str, Any]:
    """The arrays of these names, of which the `streamed` ones stay in the file. The archive's directory bounds what
    each unpacks to.
    """
    rows = {key: npz_rows(file, key) for key in keys if key in streamed}
    keys = [key for key in keys if key not in streamed]
    members = {name.removesuffix(".npy"): name for name in archive.zip.namelist()}
    found = [archive.zip.getinfo(members[key]) for key in keys]
    limit.check(sum(info.file_size for info in found), file, sum(info.compress_size for info in found))
    arrays: dict[str, Any] = {key: archive[members[key]] for key in keys}
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{file}: {key!r} is not a NumPy array. Write the file with {_SAVEZ}.")
    return arrays | rows


def _keys(file: Path, there: list[str], target: str | None, weights: str | None) -> _Keys:
    """Which arrays to read. Raises UsageError for those that are not there."""
    features = _one_of(file, there, _TRAINING)
    validation = _one_of(file, there, _VALIDATION)
    y = target or ("y" if features in (None, "X") else "y_train")
    y_val = y.removesuffix("_train") + "_val"
    for option, key in (("", features), ("target" if target else "", y), ("weights", weights)):
        if key not in there and not (option == "weights" and key is None):
            given = f"{named(option, key)}: " if option else f"{key or 'X'!r}: "
            raise UsageError(
                f"{given}{file} has no such array; it has {listed(there, 40)}. Expected X (rows, features) and y "
                f"(rows), as {_SAVEZ} writes them."
            )
    if (validation is not None) != (y_val in there):
        raise DataError(
            f"{file} has only one of X_val and {y_val}; it has {listed(there, 40)}. Store both, for the same label, "
            "or neither."
        )
    weights_val = f"{(weights or '').removesuffix('_train')}_val"
    own = weights_val if weights is not None and validation is not None and weights_val in there else None
    return _Keys(str(features), y, validation, None if validation is None else y_val, weights, own)


def _one_of(file: Path, there: list[str], names: tuple[str, ...]) -> str | None:
    found = [name for name in names if name in there]
    if len(found) > 1:
        raise DataError(f"{file} has {' and '.join(found)}: which are the features? Store one of them.")
    return found[0] if found else None


def _rows(array: Any) -> int:
    return int(array.shape[0]) if array.shape else 1


def _features(X: Any, where: str, kept: Kept, uses: Uses) -> Features:
    """The kept rows of an array, or of one that stays in its file."""
    return of_rows(X, kept, uses) if isinstance(X, ArrayRows) else as_features(kept.of(X), where, kept, uses)


def _labels(y: Array, where: str, kept: Kept | None = None) -> Found:
    return find_labels(label_column(y, where), where, kept or Kept())


def label_column(y: Array, where: str) -> Array:
    """Labels as (N,), of which a column is another form. Raises DataError for any other shape."""
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise DataError(
            f"{where} has shape {y.shape}; expected one label for each row, not one-hot columns: y.argmax(axis=1) "
            "turns those into labels."
        )
    return y
