"""The design matrix that a fit works on: scaled features and a column of ones; whole, or some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.scaling import Scaling, beyond, block_rows
from gpureg.errors import DataError, UsageError

Matrix = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EXACT_IN_FLOAT32 = ("float32", "uint8", "int8", "uint16", "int16")
NEAR = 16.0  # scales: an offset that is not farther from 0 loses nothing that counts when it is rounded to float32

FOLDED_NEAR = 4.0  # scales: an offset that is not farther from 0 costs the products of rows as they are two bits
FOLDED_FACTORS = (2.0**-20, 2.0**20)  # float32 holds what such factors make of weights, and its products with rows


def design_matrix(
    X: npt.NDArray[np.generic], scaling: Scaling, dtype: npt.DTypeLike, order: Index | None = None
) -> npt.NDArray[np.generic]:
    """The matrix that the products run over: `(X - offset) / scale`, 0 if constant, and a last column of ones.

    Shapes: `X (N, F)` of any real type, result `(N, F + 1)`, C-contiguous, of `dtype` (float32 or float64), its rows in
    the order `(N,)` or as they are. The scaling is computed in float64 and rounded once. Memory: N (F + 1) itemsize
    bytes for the result and about 1 MiB for one block of rows (never a copy of X).

    Raises UsageError if the numbers of features differ, DataError if a value overflows `dtype`.
    """
    if X.ndim != 2 or X.shape[1] != scaling.offset.size:
        raise UsageError(
            f"X has shape {X.shape}, but the scaling is for (N, {scaling.offset.size}): the features differ."
        )
    n_rows, n_features = X.shape
    result = np.empty((n_rows, n_features + 1), dtype=dtype)
    result[:, n_features] = 1
    block, designer = block_rows(n_features), Designer(scaling, np.dtype(dtype).name, quick=False)
    work = designer.work(min(block, n_rows))
    for start in range(0, n_rows, block):
        stop = min(start + block, n_rows)
        rows = X[start:stop] if order is None else X[order[start:stop]]
        designer.write(rows, result[:, :-1], slice(start, stop), work)
    return result


@dataclass(frozen=True)
class Designer:
    """Rows of `design_matrix` for a type of numbers, written where they are wanted.

    If float32 numbers become float32, and no feature lies farther than `NEAR` scales from 0, the arithmetic is that of
    float32, which is several times as fast: the values differ from those of `design_matrix` in their last digits.
    """

    scaling: Scaling
    dtype: str
    quick: bool

    @classmethod
    def of(cls, scaling: Scaling, dtype: str, stored: np.dtype[Any]) -> Designer:
        """For features that are stored as numbers of a type."""
        near = bool((np.abs(scaling.offset) <= NEAR * scaling.scale).all())
        return cls(scaling, dtype, dtype == "float32" and stored.name in EXACT_IN_FLOAT32 and near)

    @property
    def width(self) -> int:
        """D = F + 1."""
        return len(self.scaling.offset) + 1

    @cached_property
    def folded(self) -> tuple[Floats, Floats] | None:
        """The factor and the shift `(F,)` of `x' = factor x - shift`, if products of rows as they are with weights that
        hold the scaling are as good as those of scaled rows; None if not.
        """
        scaling = self.scaling
        factor = 1.0 / scaling.scale
        if not self.quick or (np.abs(scaling.offset) > FOLDED_NEAR * scaling.scale).any():
            return None
        if factor.min() < FOLDED_FACTORS[0] or factor.max() > FOLDED_FACTORS[1]:
            return None
        if scaling.constant is not None:
            factor = np.where(scaling.constant, 0.0, factor)
        return factor, scaling.offset * factor

    def work(self, rows: int) -> Matrix:
        """Where pieces of at most this number of rows are worked on."""
        return np.empty((rows, self.width - 1), np.float32 if self.quick else np.float64)

    def copy(self, rows: Matrix, out: Matrix, places: Index | slice, work: Matrix) -> None:
        """`write` without the scaling: what `folded` is for."""
        if rows.dtype != out.dtype:  # chosen places of another type are slow
            own = work[: len(rows)]
            own[...] = rows
            rows = own
        out[places] = rows

    def check(self, rows: Matrix, work: Matrix) -> None:
        """Raise DataError if `write` would."""
        self.write(rows, work, slice(0, len(rows)), work)

    def write(self, rows: Matrix, out: Matrix, places: Index | slice, work: Matrix) -> None:
        """Write `rows (b, F)` to the `places` of `out (n, F)`. Raises DataError if a value overflows. `work` may be the
        rows themselves.
        """
        scaling, scaled = self.scaling, work[: len(rows)]
        try:
            with np.errstate(over="raise"):
                if self.quick:
                    scaled = self._quickly(rows, scaled)
                elif self._leaves:
                    scaled = rows
                else:
                    np.subtract(rows, scaling.offset, out=scaled, dtype=np.float64)
                    scaled /= scaling.scale
                    if scaling.constant is not None:
                        scaled[:, scaling.constant] = 0
                out[places] = scaled
        except FloatingPointError as error:
            raise DataError(beyond(self.dtype)) from error

    def _quickly(self, rows: Matrix, scaled: Matrix) -> Matrix:
        """The scaled rows in float32; as they are where nothing changes."""
        if self._moves:
            rows = np.subtract(rows, self._offset, out=scaled, dtype=np.float32)
        if self._scales:
            rows = np.multiply(rows, self._factor, out=scaled, dtype=np.float32)
        return rows

    @cached_property
    def _leaves(self) -> bool:
        """Whether the scaling changes nothing."""
        scaling = self.scaling
        constant = scaling.constant is not None and bool(scaling.constant.any())
        return not (constant or scaling.offset.any() or (scaling.scale != 1).any())

    @cached_property
    def _moves(self) -> bool:
        return bool(self._offset.any())

    @cached_property
    def _scales(self) -> bool:
        return bool((self._factor != 1).any())

    @cached_property
    def _offset(self) -> Matrix:
        return self.scaling.offset.astype(np.float32)

    @cached_property
    def _factor(self) -> Matrix:
        factor = (1.0 / self.scaling.scale).astype(np.float32)
        if self.scaling.constant is not None:
            factor[self.scaling.constant] = 0
        return factor
