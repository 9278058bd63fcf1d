"""`RawData`: what a reader hands on, before rows and classes are chosen; and the checks that all readers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Codes, listed
from gpureg.data.spelling import Label
from gpureg.errors import DataError, UsageError, named

_CHECK_ROWS_BYTES = 1 << 22


@dataclass(frozen=True)
class RawData:
    """Rows as a file has them, without those of weight 0. Shapes: `X (N, F)`, `codes (N,)` indices into `labels`
    (sorted), `weights (N,)`; `X_val (M, F)` and `codes_val (M,)` where the data have a validation part of their own.
    `target` is the label column's name where it has one."""

    name: str
    X: npt.NDArray[np.generic]
    codes: Codes
    labels: tuple[Label, ...]
    X_val: npt.NDArray[np.generic] | None = None
    codes_val: Codes | None = None
    weights: npt.NDArray[np.float64] | None = None
    image_shape: tuple[int, int] | None = None
    pixel_max: float | None = None
    feature_names: tuple[str, ...] | None = None
    source: dict[str, str] = field(default_factory=dict)
    target: str | None = None


def as_features(
    X: npt.NDArray[Any], where: str, kept: Kept = ALL
) -> tuple[npt.NDArray[np.generic], tuple[int, int] | None, float | None]:
    """Features as a checked matrix: (X (N, F), image shape, largest pixel).

    Images (N, H, W) are flattened; those of uint8 have 255 as their largest pixel. Booleans become 0 and 1.

    Raises DataError for what is not a finite real matrix with rows and features.
    """
    if X.dtype == np.bool_:
        X = X.view(np.uint8)
    image_shape, pixel_max = None, None
    if X.ndim == 3 and 0 not in X.shape:
        image_shape = (X.shape[1], X.shape[2])
        pixel_max = 255.0 if X.dtype == np.uint8 else None
        X = X.reshape(len(X), X.shape[1] * X.shape[2])
    if X.dtype.kind == "f" and X.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # what float64 does not hold becomes infinite, and is refused
            X = X.astype(np.float64)
    check_features(X, where, kept=kept)
    return X.astype(X.dtype.newbyteorder("="), copy=False), image_shape, pixel_max


def check_features(
    X: npt.NDArray[np.generic], where: str, names: tuple[str, ...] | None = None, kept: Kept = ALL
) -> None:
    """Raise DataError unless `X (N, F)` has rows, features, and finite real values only."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"{where} has type {X.dtype}; features are real numbers.")
    if X.ndim != 2:
        raise DataError(f"{where} has shape {X.shape}; expected (rows, features), or (rows, height, width) for images.")
    if 0 in X.shape:
        raise DataError(f"{where} has shape {X.shape}: there is nothing to fit. Give at least one row and one feature.")
    if X.dtype.kind != "f":
        return
    step = max(1, _CHECK_ROWS_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        bad = ~np.isfinite(X[start : start + step])
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            name = repr(listed(names[column : column + 1])) if names else str(column)
            raise DataError(
                f"{where}: row {kept.number(start + row)} (counted from 0), feature {name} is "
                f"{X[start + row, column]}. Remove or fill in missing and infinite values."
            )


def check_weights(weights: npt.NDArray[Any], n_rows: int, where: str) -> npt.NDArray[np.float64]:
    """Sample weights as float64 (N,). Raises DataError unless they are finite, not negative, and not all zero."""
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        raise DataError(f"{where} has type {weights.dtype} and shape {weights.shape}; expected {n_rows} numbers.")
    values = weights.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        row = int(bad[0])
        raise DataError(f"{where}: row {row} (counted from 0) is {values[row]}; weights are finite and not negative.")
    if not values.any():
        raise DataError(f"{where}: every weight is 0, so no row counts. Give at least one positive weight.")
    with np.errstate(over="ignore"):
        total = values.sum()
    if not np.isfinite(total):
        raise DataError(f"{where}: the sum of the weights overflows float64. Divide them by the largest.")
    return values


def check_lengths(n_rows: int, n_labels: int, where: str) -> None:
    """Raise DataError unless there is one label for each row."""
    if n_rows != n_labels:
        raise DataError(f"{where}: {n_rows} rows but {n_labels} labels. Expected one label for each row.")


def pick_column(column: str | None, columns: tuple[str, ...], option: str, others: tuple[str, ...] = ()) -> str:
    """The column that an option names, which may be one of `others`; without a name the last of `columns`.

    Raises UsageError, listing them.
    """
    if column is None:
        return columns[-1]
    if column not in columns and column not in others:
        raise UsageError(f"{named(option, column)}: there is no such column; the columns are {listed(columns, 40)}.")
    return column


def refuse_absent(where: str | Path, expected: tuple[str, ...], there: tuple[str, ...]) -> None:
    """Raise UsageError for features of a model that a table lacks."""
    present = set(there)
    absent = [name for name in expected if name not in present]
    if absent:
        raise UsageError(
            f"{where} lacks columns that the model was trained on: {listed(absent)}; it has {listed(there)}."
        )
