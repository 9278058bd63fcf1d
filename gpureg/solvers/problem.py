"""`Problem`: what a solver is given. `Outcome`: what it returns. Measuring models on their rows, shared by the solvers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpureg.kernels import Kernels, Rows
from gpureg.results import StopReason
from gpureg.types import Array, Floats, Ints, ModelTable

COLUMNS_AT_ONCE = 1024  # of the last measurement of all models, which is done once


@dataclass(frozen=True)
class Problem:
    """L models and their samples on the device.

    `train` and `val` are placed by the same kernels, `val` is None where there is no validation set; `held_out` has the
    rows that each fold's column of the row-weight table leaves out. `n`, `D` as in `gpureg.types`; `weighted` tells whether `train` has a row-weight table.
    """

    train: Rows
    val: Rows | None
    held_out: dict[int, Rows]
    table: ModelTable
    n: int
    D: int
    weighted: bool = False


@dataclass(frozen=True)
class Measured:
    """Mean cross-entropy (nats) and accuracy of M models, each `(M,)`; NaN where a model has none."""

    train_loss: Floats
    train_accuracy: Floats
    val_loss: Floats
    val_accuracy: Floats


@dataclass(frozen=True)
class Outcome:
    """L models at their final weights.

    `weights (L, D, K)` host, bias row last, NaN where a model diverged; `steps (L,)` updates; `reasons`; `epochs` the epoch of
    a stop by patience or divergence, else None; `measured`; per-model optimality certificates where the solver gives them.
    """

    weights: Floats
    steps: Ints
    reasons: tuple[StopReason, ...]
    epochs: tuple[int | None, ...]
    measured: Measured
    certificates: tuple[dict[str, float | bool | None], ...] | None = None
    warnings: tuple[str, ...] = field(default=())


def measure(kernels: Kernels, problem: Problem, W: Array, models: Ints, *, train_loss: bool) -> Measured:
    """Losses and accuracies of `W (D, M*K)`, the weights of `models (M,)` (a model may come several times, as snapshots).

    A model of a fold is measured on its held-out rows, and with `train_loss` on its own training rows: their sum is that of
    all rows less that of the held-out ones.
    """
    M = len(models)
    values = [np.full(M, np.nan) for _ in range(4)]
    column = problem.table.column[models]
    folds = problem.table.fold[models]
    plain = np.flatnonzero(folds < 0)
    if len(plain):
        part = W if len(plain) == M else kernels.select(W, plain)
        loss, hits = kernels.evaluate(part, problem.train, with_loss=train_loss)
        values[0][plain] = loss / problem.train.n if train_loss else np.nan
        values[1][plain] = hits / problem.train.n
        if problem.val is not None:
            loss, hits = kernels.evaluate(part, problem.val, with_loss=True)
            values[2][plain], values[3][plain] = loss / problem.val.n, hits / problem.val.n
    for key in np.unique(column[folds >= 0]):
        mine = np.flatnonzero((folds >= 0) & (column == key))
        part, rows = kernels.select(W, mine), problem.held_out[int(key)]
        loss, hits = kernels.evaluate(part, rows, with_loss=True)
        values[2][mine], values[3][mine] = loss / rows.n, hits / rows.n
        if train_loss:
            total, _ = kernels.evaluate(part, problem.train, with_loss=True)
            values[0][mine] = (total - loss) / (problem.train.n - rows.n)
    return Measured(*values)


def measure_final(kernels: Kernels, problem: Problem, weights: Floats) -> Measured:
    """`measure` of all L models at `weights (L, D, K)`, a bounded number of columns at a time; NaN weights give NaN."""
    L, D, K = weights.shape
    at_once = max(1, COLUMNS_AT_ONCE // K)
    parts = []
    for start in range(0, L, at_once):
        models = np.arange(start, min(start + at_once, L))
        block = np.moveaxis(weights[models], 0, 1).reshape(D, -1)
        parts.append(measure(kernels, problem, kernels.weights(block), models, train_loss=True))
    names = Measured.__dataclass_fields__
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    finite = np.isfinite(weights).all(axis=(1, 2))
    return Measured(**{name: np.where(finite, values, np.nan) for name, values in joined.items()})
