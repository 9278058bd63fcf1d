"""`RawData`: what a reader hands on, before rows and classes are chosen; and the checks that all readers share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.encoding import Categories
from gpureg.data.kept import ALL, Kept
from gpureg.data.labels import Codes, listed
from gpureg.data.marks import Marks
from gpureg.data.spelling import Label
from gpureg.data.uses import Uses, advice_missing
from gpureg.errors import DataError, UsageError, named

_CHECK_ROWS_BYTES = 1 << 22


@dataclass(frozen=True)
class Features:
    """Columns as a matrix `X (N, R)`; a column of words holds indices into its `words[r]`, NaN where one is missing.

    `words` is None if there are none, `names` if the columns have none; then `positions` are those that were chosen of
    `width` (None: all). `index_base`: the number from which an svmlight file counts its indices, else None.
    """

    X: Any  # an array, SciPy's csr_array, or rows that stay in their file (`streamed.Streamed`)
    names: tuple[str, ...] | None = None
    words: Categories | None = None
    image_shape: tuple[int, int] | None = None
    pixel_max: float | None = None
    width: int = 0
    positions: tuple[int, ...] | None = None
    index_base: int | None = None


@dataclass(frozen=True)
class RawData:
    """Rows as a file has them, without those of weight 0. Shapes: `codes (N,)` indices into `labels` (sorted),
    `weights (N,)`; `X_val (M, R)`, with words as in the `features`, `codes_val (M,)` and `weights_val (M,)` where the
    data have a validation part of their own. `target` is the label column's name where it has one; `has_test`: the
    file has a part for testing too. `read`: its arrays were made here. `left_out`: number of rows that were left out
    for missing values. `marks`: groups and folds. `ids`: columns of whole numbers that are all different, if they are
    known.
    """

    name: str
    features: Features
    codes: Codes
    labels: tuple[Label, ...]
    X_val: npt.NDArray[np.generic] | None = None
    codes_val: Codes | None = None
    weights: npt.NDArray[np.float64] | None = None
    weights_val: npt.NDArray[np.float64] | None = None
    source: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    has_test: bool = False
    left_out: int = 0
    read: bool = False
    marks: Marks = Marks()  # noqa: RUF009  # it is frozen
    ids: tuple[int, ...] | None = None

    def complete(self) -> RawData:
        """Without the rows in which a value is missing. Raises DataError if none is left."""
        X = self.features.X
        rows, raw = _complete(X), self
        if rows is not None:
            if not len(rows):
                raise DataError(
                    f"{self.name!r}: every row has a missing value, and {named('missing', 'drop')} leaves such rows "
                    f"out. Leave out the columns that lack values with {named('drop')}, or fill them in with "
                    f"{named('missing', 'mean')}."
                )
            raw = replace(
                self,
                features=replace(self.features, X=X[rows]),
                codes=self.codes[rows],
                weights=None if self.weights is None else self.weights[rows],
                left_out=len(X) - len(rows),
                marks=self.marks.take(rows),
            )
        rows = None if self.X_val is None else _complete(self.X_val)
        if rows is not None and self.X_val is not None and self.codes_val is not None:
            own = None if self.weights_val is None else self.weights_val[rows]
            raw = replace(raw, X_val=self.X_val[rows], codes_val=self.codes_val[rows], weights_val=own)
        return raw


def _complete(X: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """The rows without NaN, None if those are all."""
    if X.dtype.kind != "f":
        return None
    absent = np.zeros(len(X), bool)
    step = max(1, _CHECK_ROWS_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        absent[start : start + step] = np.isnan(X[start : start + step]).any(axis=1)
    return np.flatnonzero(~absent) if absent.any() else None


def as_features(
    X: npt.NDArray[Any],
    where: str,
    kept: Kept = ALL,
    uses: Uses = Uses(),  # noqa: B008  # it is frozen
) -> Features:
    """Features as a checked matrix; columns are chosen by number.

    Images (N, H, W) are flattened; those of uint8 have 255 as their largest pixel. Booleans become 0 and 1.

    Raises DataError for what is not a real matrix with rows and features, finite but for missing values if `uses` keeps
    them.
    """
    if X.dtype == np.bool_:
        X = X.view(np.uint8)
    image_shape, pixel_max = None, None
    if X.ndim == 3 and 0 not in X.shape:
        uses.refuse_choice(f"{where}, images,")
        image_shape = (X.shape[1], X.shape[2])
        pixel_max = 255.0 if X.dtype == np.uint8 else None
        X = X.reshape(len(X), X.shape[1] * X.shape[2])
    if X.dtype.kind == "f" and X.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # what float64 does not hold becomes infinite, and is refused
            X = X.astype(np.float64)
    width, positions, names = X.shape[-1] if X.ndim == 2 else 0, None, None
    if width and (positions := uses.positions(width, where)) is not None:
        X = X[:, list(positions)]
        names = tuple(str(position) for position in positions)
    check_features(X, where, names, kept, missing=uses.keeps_missing)
    native = X.astype(X.dtype.newbyteorder("="), copy=False)
    return Features(native, None, None, image_shape, pixel_max, width, positions)


def check_features(
    X: npt.NDArray[np.generic],
    where: str,
    names: tuple[str, ...] | None = None,
    kept: Kept = ALL,
    *,
    missing: bool = False,
) -> None:
    """Raise DataError unless `X (N, F)` has rows, features, and finite real values only; NaN too if `missing`."""
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
        bad = np.isinf(X[start : start + step]) if missing else ~np.isfinite(X[start : start + step])
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            name = repr(listed(names[column : column + 1])) if names else str(column)
            raise DataError(
                f"{where}: row {kept.number(start + row)} (counted from 0), feature {name} is "
                f"{X[start + row, column]}. {_advice(float(X[start + row, column]))}"
            )


def _advice(value: float) -> str:
    return "Remove or replace infinite values." if np.isinf(value) else advice_missing()


def check_weights(weights: npt.NDArray[Any], n_rows: int, where: str, kept: Kept = ALL) -> npt.NDArray[np.float64]:
    """Sample weights as float64 (N,). Raises DataError unless they are finite, not negative, and not all zero."""
    if weights.dtype.kind not in "biuf" or weights.shape != (n_rows,):
        raise DataError(f"{where} has type {weights.dtype} and shape {weights.shape}; expected {n_rows} numbers.")
    values = weights.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{where}: row {kept.number(row)} (counted from 0) is {values[row]}; weights are finite and not negative."
        )
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


def refuse_twice(names: list[str], where: str) -> None:
    """Raise DataError for columns with the same name."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{where}: columns with the same name: {listed(twice)}. Rename them.")


def refuse_absent(where: str | Path, expected: tuple[str, ...], there: tuple[str, ...]) -> None:
    """Raise UsageError for features of a model that a table lacks."""
    present = set(there)
    absent = [name for name in expected if name not in present]
    if absent:
        raise UsageError(
            f"{where} lacks columns that the model was trained on: {listed(absent)}; it has {listed(there)}."
        )
