"""Sparse features: any of SciPy's formats, matrices and arrays, as one checked CSR array. Never made dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.data.kept import ALL, Kept
from gpureg.errors import DataError, UsageError

Csr = Any  # scipy.sparse.csr_array (N, F); SciPy is imported where it is used
_AT_ONCE = 1 << 16  # values that are checked
_FEWER = np.iinfo(np.int32).max  # stored values and features above which indices need eight bytes


def is_sparse(X: Any) -> bool:
    """Whether X is one of SciPy's or cupyx's sparse matrices or arrays, of any format."""
    return hasattr(X, "nnz") and hasattr(X, "tocsr")


def read_sparse(X: Any, where: str, kept: Kept = ALL, *, new: bool = False) -> Csr:
    """The kept rows of a sparse X `(N, F)` in CSR: sorted indices of four bytes if that is enough, no duplicates (they
    are added up), native byte order. What is so already is shared, not copied, and the caller's X is never changed.

    Raises DataError unless it has rows, features, and finite real values only. `new` rows, for a trained model, may be
    none, and values that are not finite are refused later.
    """
    from scipy import sparse

    X = X.get() if type(X).__module__.startswith("cupyx") else X
    if len(X.shape) != 2:
        raise DataError(f"{where} is sparse with shape {tuple(X.shape)}; expected (rows, features).")
    if 0 in X.shape[new:]:
        raise DataError(
            f"{where} has shape {tuple(X.shape)}: there is nothing to fit. Give at least one row and one feature."
        )
    if X.dtype.kind not in "biuf":
        raise DataError(f"{where} has type {X.dtype}; features are real numbers.")
    try:
        found = sparse.csr_array(X)
        found.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{where} is not a valid sparse matrix ({error}). Build it again, e.g. from its COO form."
        ) from error
    found = _canonical(found)
    if not new:
        check_values(found, where, kept.of(np.arange(X.shape[0])) if kept is not ALL else None)
    return found if kept is ALL else found[kept.rows]


def new_rows(X: Any, features: int, where: str) -> Csr:
    """Rows `(N, features)` for a trained model, in CSR. Raises UsageError for another number of features."""
    if len(X.shape) != 2 or X.shape[1] != features:
        raise UsageError(
            f"{where} is sparse with the shape {tuple(X.shape)}; expected (rows, {features}), the features that this "
            "model was trained on."
        )
    return read_sparse(X, where, new=True)


def check_values(X: Csr, where: str, rows: Any = None, names: tuple[str, ...] | None = None) -> None:
    """Raise DataError for NaN and infinite values among the stored ones; `rows (N',)`: those that count, None: all."""
    if all_finite(X):
        return
    bad = np.flatnonzero(~np.isfinite(X.data))
    row = np.searchsorted(X.indptr, bad, side="right") - 1
    if rows is not None:
        counted = np.isin(row, rows)
        bad, row = bad[counted], row[counted]
    if len(bad):
        column = int(X.indices[bad[0]])
        name = str(column) if names is None else repr(names[column])
        raise DataError(
            f"{where}: row {row[0]} (counted from 0), feature {name} is {X.data[bad[0]]}. Remove or fill in missing "
            "and infinite values."
        )


def all_finite(X: Csr) -> bool:
    """Whether all stored values are."""
    parts = range(0, len(X.data), _AT_ONCE)
    return X.dtype.kind != "f" or all(np.isfinite(X.data[start : start + _AT_ONCE]).all() for start in parts)


def _canonical(X: Csr) -> Csr:
    from scipy import sparse

    data, indices, indptr = X.data, X.indices, X.indptr
    if data.dtype == np.bool_:
        data = data.view(np.uint8)
    elif data.dtype.kind == "f" and data.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # what float64 does not hold becomes infinite, and is refused
            data = data.astype(np.float64)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if indptr[0] != 0 or len(data) > indptr[-1]:  # room that is not used
        data, indices = data[indptr[0] : indptr[-1]], indices[indptr[0] : indptr[-1]]
        indptr = indptr - indptr[0]
    if max(*X.shape, len(data)) < _FEWER:
        indices, indptr = indices.astype(np.int32, copy=False), indptr.astype(np.int32, copy=False)
    found = sparse.csr_array((data, indices, indptr), shape=X.shape)
    if not found.has_canonical_format:
        found = found.copy()
        found.sum_duplicates()
    return found


def sparse_parts(X: Any) -> tuple[Any, ...]:
    """The arrays that X `(N, F)` consists of, the shape of a sparse one first; of an array itself."""
    return (np.array(X.shape), X.indptr, X.indices, X.data) if is_sparse(X) else (X,)


def as_in_training(X: Any, trained: Any) -> Any:
    """Rows `X (n, F)` sparse if the training rows are, and else not."""
    from scipy import sparse

    if is_sparse(trained):
        return X if is_sparse(X) else sparse.csr_array(X)
    return X.toarray() if is_sparse(X) else X


def stacked(parts: list[Any]) -> Any:
    """Blocks of rows, all sparse or none, one after the other."""
    if not is_sparse(parts[0]):
        return np.concatenate(parts)
    from scipy import sparse

    return parts[0] if len(parts) == 1 else read_sparse(sparse.vstack(parts, format="csr"), "X", new=True)
