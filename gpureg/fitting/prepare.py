"""From a `Dataset` to a `Problem`: scaling, row weights, storage order, and the way to the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling, class_weights, default_scaling, design_matrix, fit_scaling
from gpureg.errors import OutOfMemoryError, UsageError, size_text
from gpureg.fitting.folds import normalised, row_weight_table, stratified_folds
from gpureg.kernels.cpu.evaluation import TILE
from gpureg.kernels.protocol import Kernels
from gpureg.rows.dense import DenseRows
from gpureg.rows.moments import moments_bytes
from gpureg.solvers.problem import Problem
from gpureg.solvers.sgd.solver import MOST_PENDING
from gpureg.types import Floats, Ints, ModelTable, RunShape


@dataclass(frozen=True)
class Prepared:
    """A data set on the device: the problem of a table of models, and of a model that is trained on all rows."""

    problem: Problem
    refit: Problem
    scaling: Scaling


def prepare(
    data: Dataset, config: FitConfig, kernels: Kernels, table: ModelTable, folds: Ints | None = None
) -> Prepared:
    """Place the data. `folds (N,)` or `(seeds, N)` names the fold in which each row is held out; by default they are
    drawn."""
    scaling = fit_scaling(config.scale or default_scaling(data), data, data.sample_weight)
    base = _base_weights(data, config)
    assignments = _assignments(data, config, folds)
    order = kernels.storage_order(data.y_train, assignments[0] if assignments else None)
    weights = None if base is None else base[:, None]
    if assignments:
        weights = row_weight_table(base, assignments, config.cv or 1)
        if base is not None:
            weights = np.concatenate([weights, base[:, None]], axis=1)
    train = DenseRows.place(
        kernels,
        _design(data.X_train, order, scaling, config.dtype),
        _ordered(data.y_train, order),
        None if weights is None else _ordered(weights, order),
        order,
    )
    val = None
    if len(data.y_val):
        val_order = kernels.storage_order(data.y_val, None)
        X_val = _design(data.X_val, val_order, scaling, config.dtype)
        val = DenseRows.place(kernels, X_val, _ordered(data.y_val, val_order), None, val_order)
    held_out = {
        a * (config.cv or 1) + fold: train.subset(np.flatnonzero(assignment == fold))
        for a, assignment in enumerate(assignments)
        for fold in range(config.cv or 1)
    }
    n, D = len(data.y_train), data.X_train.shape[1] + 1
    problem = Problem(train, val, held_out, table, n, D, weights is not None)
    column = (weights.shape[1] - 1) if weights is not None and base is not None else 0
    alone = ModelTable.plain(np.zeros(1), np.ones(1))
    alone = ModelTable(alone.l2, alone.lr, alone.fold, alone.seed, alone.column + column, alone.stream)
    return Prepared(problem, Problem(train, val, {}, alone, n, D, base is not None), scaling)


def check_memory(
    data: Dataset, config: FitConfig, kernels: Kernels, bytes_per_model: int, models: int, at_once: int
) -> None:
    """Refuse a run that what is free can't hold, before it starts. Raises OutOfMemoryError with what is needed.

    `models` in all, `at_once` in the largest chunk; `bytes_per_model` the solver's account of its work arrays.
    """
    backend, item = kernels.backend, np.dtype(config.dtype).itemsize
    free = backend.free_memory()
    n, D = len(data.y_train), data.X_train.shape[1] + 1
    weighted = data.sample_weight is not None or config.class_weight is not None
    table = config.seeds * config.cv if config.cv is not None else 0
    full_batch = config.solver == "lbfgs"
    pending = 1 if full_batch else MOST_PENDING
    shape = RunShape(n, max(n, len(data.y_val)), D, at_once, pending, weighted or table > 0, full_batch)
    work = kernels.run_bytes(shape)
    copies = config.seeds if config.cv is not None else 0  # of the training rows, to be evaluated fold by fold
    if work is None:  # NumPy: the folds of the first assignment lie together
        copies = max(0, copies - 1)
    if work is None or full_batch:
        work = (work or 0) + min(models * bytes_per_model, config.memory)
    if full_batch:
        work += moments_bytes(n, D)
    rows = n * (1 + copies) + len(data.y_val)
    samples = rows * (D * item + 4) + n * (table + weighted) * item
    if free is not None and samples + work > free:
        raise OutOfMemoryError(
            f"This run needs about {size_text(samples + work)} on {backend.device} ({size_text(samples)} for {rows:,} "
            f"rows, {size_text(work)} to work in), and {size_text(free)} are free. Use --dtype float32, a smaller "
            "--train-size, or a smaller --memory."
        )


def bytes_per_model(config: FitConfig, D: int, K: int, n: int, pending: int = MOST_PENDING) -> int:
    """Bytes of work arrays that one model adds: weights, gradient, snapshots, their stack, and the logits of a tile."""
    item = np.dtype(config.dtype).itemsize
    columns = D * K * (4 + 2 * pending) + K * (2 * TILE + 2 * min(config.batch_size, n))
    history = 8 * max(1, n // min(config.batch_size, n)) * config.epochs
    return item * columns + history


def _base_weights(data: Dataset, config: FitConfig) -> Floats | None:
    """Sample x class weights `(N,)` with mean 1, or None where every sample weighs the same."""
    if data.sample_weight is None and config.class_weight is None:
        return None
    weights = np.ones(len(data.y_train)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    weights = (
        weights * class_weights(config.class_weight, data.y_train, len(data.classes), data.sample_weight)[data.y_train]
    )
    return normalised(weights, "the training rows")


def _assignments(data: Dataset, config: FitConfig, folds: Ints | None) -> list[Ints]:
    if config.cv is None:
        return []
    if folds is None:
        return [stratified_folds(data.y_train, config.cv, config.seed + number) for number in range(config.seeds)]
    given = np.atleast_2d(np.asarray(folds))
    if given.shape != (config.seeds, len(data.y_train)) or set(np.unique(given).tolist()) != set(range(config.cv)):
        raise UsageError(
            f"folds has the shape {np.shape(folds)}; wanted ({config.seeds}, {len(data.y_train)}) (seeds, training "
            f"rows) of the numbers 0 to {config.cv - 1}, each at least once."
        )
    return list(given)


def _design(X: np.ndarray, order: Ints | None, scaling: Scaling, dtype: str) -> np.ndarray:
    """Reordered while the images are still a byte a pixel."""
    return design_matrix(_ordered(X, order), scaling, dtype)


def _ordered(values: np.ndarray, order: Ints | None) -> np.ndarray:
    return values if order is None else values[order]
