"""`RawData`: what a reader hands on, before rows and classes are chosen; and the checks that all readers share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpureg.data.labels import Codes, Label, listed
from gpureg.errors import DataError, UsageError

_CHECK_ROWS_BYTES = 1 << 22


@dataclass(frozen=True)
class RawData:
    """Rows as a file has them. Shapes: `X (N, F)`, `codes (N,)` indices into `labels` (sorted), `weights (N,)`;
    `X_val (M, F)` and `codes_val (M,)` where the data have a validation part of their own."""

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


def as_features(
    X: npt.NDArray[np.generic], where: str
) -> tuple[npt.NDArray[np.generic], tuple[int, int] | None, float | None]:
    """Features as a checked matrix: (X (N, F), image shape, largest pixel).

    Images (N, H, W) are flattened; those of uint8 have 255 as their largest pixel. Booleans become 0 and 1.

    Raises DataError for what is no finite real matrix with rows and features.
    """
    if X.dtype == np.bool_:
        X = X.view(np.uint8)
    image_shape, pixel_max = None, None
    if X.ndim == 3:
        image_shape = (X.shape[1], X.shape[2])
        pixel_max = 255.0 if X.dtype == np.uint8 else None
        X = X.reshape(len(X), X.shape[1] * X.shape[2])
    check_features(X, where)
    return X.astype(X.dtype.newbyteorder("="), copy=False), image_shape, pixel_max


def check_features(X: npt.NDArray[np.generic], where: str, names: tuple[str, ...] | None = None) -> None:
    """Raise DataError unless `X (N, F)` has rows, features, and finite real values only."""
    if X.dtype.kind not in "biuf":
        raise DataError(f"{where} has type {X.dtype}; features are real numbers.")
    if X.ndim != 2:
        raise DataError(f"{where} has shape {X.shape}; wanted (rows, features), or (rows, height, width) for images.")
    if 0 in X.shape:
        raise DataError(f"{where} has shape {X.shape}: there is nothing to fit. Give at least one row and one feature.")
    if X.dtype.kind != "f":
        return
    step = max(1, _CHECK_ROWS_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        bad = ~np.isfinite(X[start : start + step])
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            name = repr(names[column]) if names else str(column)
            raise DataError(
                f"{where}: row {start + row} (counted from 0), feature {name} is {X[start + row, column]}. "
                "Remove or fill in missing and infinite values."
            )


def check_weights(weights: npt.NDArray[np.generic], n_rows: int, where: str) -> npt.NDArray[np.float64]:
    """Sample weights as float64 (N,). Raises DataError unless they are finite, not negative, and not all zero."""
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        raise DataError(f"{where} has type {weights.dtype} and shape {weights.shape}; wanted {n_rows} numbers.")
    values = weights.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        row = int(bad[0])
        raise DataError(f"{where}: row {row} (counted from 0) is {values[row]}; weights are finite and not negative.")
    if not values.any():
        raise DataError(f"{where}: every weight is 0, so no row counts. Give at least one positive weight.")
    return values


def check_lengths(n_rows: int, n_labels: int, where: str) -> None:
    """Raise DataError unless there is one label for each row."""
    if n_rows != n_labels:
        raise DataError(f"{where}: {n_rows} rows but {n_labels} labels. Wanted one label for each row.")


def pick_column(named: str | None, columns: tuple[str, ...], option: str) -> int:
    """The position of the column that an option names; without a name the last. Raises UsageError, listing them."""
    if named is None:
        return len(columns) - 1
    if named not in columns:
        raise UsageError(f"{option} {named!r}: there is no such column; the columns are {listed(columns, 40)}.")
    return columns.index(named)
