"""Readers of NumPy's npz and npy files. Pickled objects in them are refused: loading one can run any code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpureg.data.labels import Codes, Label, encode_labels, listed
from gpureg.data.raw import RawData, as_features, check_features, check_lengths, check_weights, pick_column
from gpureg.errors import DataError, UsageError

Array = npt.NDArray[np.generic]


def read_npz_data(file: Path, *, target: str | None, weights: str | None) -> RawData:
    """Read `X (N, F)` or images `(N, H, W)`, `y (N,)`, and, where they are there, `X_val`, `y_val`.

    `target` names another array than `y`, `weights` one of sample weights (N,).

    Raises UsageError for an array that is not there, DataError for arrays that can't be used.
    """
    label = target or "y"
    arrays = _load_npz(file, ("X", label, "X_val", "y_val", *([weights] if weights else [])))
    for option, key in (("", "X"), ("--target ", label), ("--weights ", weights)):
        if key is not None and key not in arrays:
            given = option if option and (key != "y" or target) else ""
            raise UsageError(
                f"{given}{key!r}: {file} has no such array; it has {listed(_keys(file), 40)}. "
                "Wanted X (rows, features) and y (rows), as np.savez(path, X=X, y=y) writes them."
            )
    if ("X_val" in arrays) != ("y_val" in arrays):
        raise DataError(f"{file} has one of X_val and y_val. Store both or neither.")
    X, image_shape, pixel_max = as_features(arrays["X"], f"X in {file}")
    X_val = None
    if "X_val" in arrays:
        X_val, _, _ = as_features(arrays["X_val"], f"X_val in {file}")
        if X_val.shape[1] != X.shape[1]:
            raise DataError(f"{file}: X has {X.shape[1]} features, X_val {X_val.shape[1]}. Wanted the same features.")
    codes, codes_val, labels = _encode(file, X, arrays[label], X_val, arrays.get("y_val"), label)
    return RawData(
        name=file.stem,
        X=X,
        codes=codes,
        labels=labels,
        X_val=X_val,
        codes_val=codes_val,
        weights=check_weights(arrays[weights], len(X), f"{weights} in {file}") if weights else None,
        image_shape=image_shape,
        pixel_max=pixel_max,
    )


def read_npy_data(file: Path, *, target: str | None, weights: str | None) -> RawData:
    """Read one matrix (N, F + 1) whose last column is the label; `target` and `weights` name columns by number, from 0.

    Raises UsageError for a column that is not there, DataError for an array that can't be used.
    """
    matrix = load_npy(file)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise DataError(
            f"{file} has shape {matrix.shape}; wanted (rows, features + 1), the label in the last column. "
            "Images and separate labels go into an npz: np.savez(path, X=X, y=y)."
        )
    columns = tuple(str(index) for index in range(matrix.shape[1]))
    label = pick_column(target, columns, "--target")
    kept = [index for index in range(len(columns)) if index != label]
    row_weights = None
    if weights is not None:
        column = pick_column(weights, columns, "--weights")
        if column == label:
            raise UsageError(f"--weights {weights!r} is the label column. Name another column.")
        row_weights = check_weights(matrix[:, column], len(matrix), f"column {weights} of {file}")
        kept.remove(column)
    X = matrix[:, kept]
    check_features(X, str(file), tuple(columns[index] for index in kept))
    codes, labels = encode_labels(matrix[:, label], f"column {columns[label]} (the label) of {file}")
    return RawData(name=file.stem, X=X, codes=codes, labels=labels, weights=row_weights)


def load_npy(file: Path) -> Array:
    """The array of an npy file. Raises DataError where it can't be read or holds pickled objects."""
    try:
        with file.open("rb") as stream:  # ours: np.load leaves a file of its own open where it fails
            array = np.load(stream, allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises what it meets, down to tokenize's errors
        raise _unreadable(file, error) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is an npz archive under another name. Rename it to .npz.")
    return array


def load_npz_features(file: Path) -> Array:
    """`X` of an npz as (N, F), without its labels. Raises UsageError if there is none, DataError as `read_npz_data`."""
    arrays = _load_npz(file, ("X",))
    if "X" not in arrays:
        raise UsageError(f"{file} has no array X; it has {listed(_keys(file), 40)}.")
    return as_features(arrays["X"], f"X in {file}")[0]


def _load_npz(file: Path, wanted: tuple[str, ...]) -> dict[str, Array]:
    """Those of the wanted arrays that the archive has."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in wanted if key in archive}
    except Exception as error:  # as above, and zipfile's and zlib's
        raise _unreadable(file, error) from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{file}: {key!r} is no NumPy array. Write the file with np.savez(path, X=X, y=y).")
    return arrays


def _keys(file: Path) -> list[str]:
    with np.load(file, allow_pickle=False) as archive:
        return list(archive)


def _encode(
    file: Path, X: Array, y: Array, X_val: Array | None, y_val: Array | None, label: str
) -> tuple[Codes, Codes | None, tuple[Label, ...]]:
    """Labels of both parts in one numbering."""
    y = _column(y, f"{label} in {file}")
    check_lengths(len(X), len(y), f"{file}, X and {label}")
    if X_val is None or y_val is None:
        codes, labels = encode_labels(y, f"{label} in {file}")
        return codes, None, labels
    y_val = _column(y_val, f"y_val in {file}")
    check_lengths(len(X_val), len(y_val), f"{file}, X_val and y_val")
    if (y.dtype.kind in "US") != (y_val.dtype.kind in "US"):
        raise DataError(f"{file}: {label} has type {y.dtype}, y_val {y_val.dtype}. Wanted the same labels in both.")
    codes, labels = encode_labels(np.concatenate([y, y_val]), f"{label} and y_val in {file}")
    return codes[: len(y)], codes[len(y) :], labels


def _column(y: Array, where: str) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{where} has shape {y.shape}; wanted one label for each row, not one-hot columns.")
    return y


def _unreadable(file: Path, error: Exception) -> DataError:
    if "allow_pickle" in str(error):
        return DataError(
            f"{file} holds pickled Python objects, which gpureg does not load: they can run any code. "
            "Store plain arrays of numbers or fixed-width words."
        )
    cause = (
        "Check its permissions" if isinstance(error, PermissionError) else "It is damaged or cut off; write it again"
    )
    return DataError(f"can't read {file}: {str(error) or type(error).__name__}. {cause}.")
