"""From a `Dataset` to a `Problem`: row weights, storage order, and the way to the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling, default_scaling, design_matrix, fit_scaling
from gpureg.data.pieces import in_pieces
from gpureg.data.scaling import sparse_design
from gpureg.data.sparse import is_sparse
from gpureg.data.split import group_folds
from gpureg.distributed import spread
from gpureg.distributed.scaling import standard
from gpureg.errors import UsageError
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.defaults import is_weighted, row_weights
from gpureg.fitting.folds import class_shares, normalised, row_weight_table, stratified_folds
from gpureg.fitting.memory import Sizes
from gpureg.kernels.protocol import Kernels
from gpureg.rows.ahead import HostRows
from gpureg.rows.csr import CsrRows
from gpureg.rows.dense import DenseRows
from gpureg.rows.protocol import Rows
from gpureg.rows.samples import CsrSamples
from gpureg.solvers.problem import Problem
from gpureg.types import Floats, Ints, ModelTable

A = TypeVar("A", bound=Any)
Placeable = Callable[[Ints | None], np.ndarray] | CsrSamples | spread.Placeable
HELD_OF_A_ROW = 16  # bytes of a row that lies elsewhere: its label, and where it is


def prepare(
    data: Dataset,
    config: FitConfig,
    kernels: Kernels,
    table: ModelTable,
    scaling: Scaling,
    assignments: Sequence[Ints] = (),
    blocking: Blocking | None = None,
) -> Problem:
    """Place the data, for the models of a table; `assignments` names the fold in which each row is held out, `(N,)`
    each; `blocking`: how the rows are cut in blocks, None for one piece."""
    base = base_weights(data, config)
    weights = None if base is None else base[:, None]
    if assignments:
        weights = row_weight_table(base, list(assignments), config.cv or 1)
        if base is not None or table.column.max() == weights.shape[1]:  # behind the folds' columns, for refits
            base = np.ones(len(weights)) if base is None else base
            weights = np.concatenate([weights, base[:, None]], axis=1)
    fold = assignments[0] if assignments else None
    rows = HostRows(data.X_train, data.y_train, weights, data.sample_weight, fold)
    train, val = rows_of(kernels, rows, scaling, config.dtype, blocking), None
    if len(data.y_val):
        rows = HostRows(data.X_val, data.y_val, None, data.val_weight)
        val = rows_of(kernels, rows, scaling, config.dtype, blocking)
    held_out = {
        a * (config.cv or 1) + fold: train.subset(np.flatnonzero(assignment == fold))
        for a, assignment in enumerate(assignments)
        for fold in range(config.cv or 1)
    }
    shares = class_shares(data.y_train, weights, len(data.classes))
    sizes = (train.n, train.features, train.weighted)
    return Problem(train, val, held_out, table, *sizes, score=config.score, shares=shares)


def rows_of(kernels: Kernels, rows: HostRows, scaling: Scaling, dtype: str, blocking: Blocking | None = None) -> Rows:
    """Samples on the device, scaled and with a bias column: in blocks, or in one piece."""
    if blocking is not None:
        return blocking.place(kernels, rows, scaling, dtype)
    return place(kernels, designed(rows.X, scaling, dtype), rows.y, rows.weights, rows.fold, rows.sample_weight)


def place(
    kernels: Kernels,
    rows: Placeable,
    y: Ints,
    weights: Floats | None,
    fold: Ints | None = None,
    sample_weight: Floats | None = None,
) -> Rows:
    """Samples on the device, in the order in which these kernels store them.

    `rows(order)` makes the matrix that the products run over, its rows in that order (None: as they are); sparse
    samples stay in their own. Class indices `y (N,)`, row weights `(N, F)` or None, the fold in which a row is held out
    `fold (N,)`, and what a row counts in losses and scores `sample_weight (N,)` are in the order of the data.
    """
    if isinstance(rows, spread.Placeable):
        return rows.place(kernels, y, weights, fold, sample_weight)
    if isinstance(rows, CsrSamples):
        return CsrRows.place(kernels, rows, y, weights, sample_weight)
    order = kernels.storage_order(y, fold)
    y, weights, sample_weight = _ordered(y, order), _ordered(weights, order), _ordered(sample_weight, order)
    return DenseRows.place(kernels, rows(order), y, weights, order, sample_weight)


def refit_problem(problem: Problem, data: Dataset, config: FitConfig, l2: float, lr: float) -> Problem:
    """One model on all training rows, to stop as `train` does, on the rows that a cross-validation has placed."""
    weighted = is_weighted(data, config)
    alone = ModelTable.plain(np.array([l2]), np.array([lr]))
    column = config.seeds * (config.cv or 1) if weighted else 0
    return replace(problem, held_out={}, table=replace(alone, column=alone.column + column), weighted=weighted)


def scaling_of(data: Dataset, config: FitConfig) -> Scaling:
    """The scaling of a fit, from its training rows, wherever they are. Raises as `fit_scaling`."""
    kind = config.scale or default_scaling(data)
    if kind == "standard" and isinstance(data.X_train, spread.Spread):
        return standard(data.X_train, data.sample_weight)
    return fit_scaling(kind, data, data.sample_weight)


def sizes_of(data: Dataset, config: FitConfig, models: int, columns: int, blocking: Blocking | None = None) -> Sizes:
    """What the memory of a fit depends on: `models` that have work arrays, and columns of row weights
    (0: as many as the folds and weights need).
    """
    folds = config.seeds * config.cv if config.cv is not None else 0
    return Sizes(
        models,
        len(data.y_train),
        len(data.y_val),
        data.X_train.shape[1] + 1,
        max(folds + is_weighted(data, config), columns),
        config.seeds if folds else 0,
        row_bytes=bytes_of_a_row(data.X_train, config.dtype),
        streamed=blocking.bytes_of(data, config.dtype) if blocking is not None and blocking.streams else None,
    )


def bytes_of_a_row(X: Any, dtype: str) -> int | None:
    """Of sparse samples, on average, in the type of the arithmetic; None for dense ones. Of those that lie elsewhere,
    what is held here.
    """
    if in_pieces(X):
        return HELD_OF_A_ROW
    if not is_sparse(X):
        return None
    stored = X.nnz * (np.dtype(dtype).itemsize + X.indices.itemsize)
    return int(stored // max(1, X.shape[0])) + X.indptr.itemsize


def base_weights(data: Dataset, config: FitConfig) -> Floats | None:
    """Sample x class weights `(N,)` with mean 1, or None if every sample weighs the same."""
    weights = row_weights(data, config)
    return None if weights is None else normalised(weights, "the training rows")


def assignments_of(data: Dataset, config: FitConfig, folds: Ints | None) -> list[Ints]:
    """The fold in which each row is held out, `(N,)` for every seed of a cross-validation: those that `folds (N,)` or
    `(seeds, N)` or the data name, or drawn ones. Groups of the data are in one fold each. Raises UsageError.
    """
    if config.cv is None:
        return []
    if folds is None and data.folds is not None:
        return [np.unique(data.folds, return_inverse=True)[1].reshape(-1).astype(np.int64)]
    if folds is None and data.groups is not None:
        return [
            group_folds(data.y_train, data.groups, config.cv, config.seed + number) for number in range(config.seeds)
        ]
    if folds is None:
        return [stratified_folds(data.y_train, config.cv, config.seed + number) for number in range(config.seeds)]
    given = np.atleast_2d(np.asarray(folds))
    if given.shape != (config.seeds, len(data.y_train)) or set(np.unique(given).tolist()) != set(range(config.cv)):
        raise UsageError(
            f"folds has the shape {np.shape(folds)}; expected ({config.seeds}, {len(data.y_train)}) (seeds, training "
            f"rows) of the numbers 0 to {config.cv - 1}, each at least once."
        )
    groups = data.groups
    for assignment in given:
        if groups is not None and len(np.unique(np.stack([groups, assignment]), axis=1).T) > len(np.unique(groups)):
            raise UsageError("folds puts rows of one group in different folds; expected the same fold for them.")
    return list(given)


def designed(X: Any, scaling: Scaling, dtype: str) -> Placeable:
    """Samples `X (N, F)` as they are placed: scaled, with a bias column."""
    if isinstance(X, spread.Spread):
        return spread.Placeable(X, partial(_held, scaling=scaling, dtype=dtype))
    if is_sparse(X):
        return CsrSamples(*sparse_design(X, scaling, dtype))
    return _held(X, scaling, dtype)


def _held(X: np.ndarray, scaling: Scaling, dtype: str) -> Callable[[Ints | None], np.ndarray]:
    """`designed` of samples that are held."""
    return partial(_design, X, scaling, dtype)


def _design(X: np.ndarray, scaling: Scaling, dtype: str, order: Ints | None) -> np.ndarray:
    """The matrix that the products run over, its rows in an order (None: as they are)."""
    return design_matrix(X, scaling, dtype, order)


def _ordered(values: A, order: Ints | None) -> A:
    return values if order is None or values is None else values[order]
