"""`Task`: samples of which every class has some with weight, and the models that are fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpureg.backend import Backend, choose_backend, numpy_backend
from gpureg.data.sparse import is_sparse
from gpureg.distributed.scaling import moments
from gpureg.distributed.spread import Spread
from gpureg.estimators.arrays import Home, HostArray, cuda_index
from gpureg.estimators.inputs import mean_of
from gpureg.events import Event
from gpureg.losses import Loss
from gpureg.solvers.lbfgs.watching import Watch
from gpureg.types import Floats, Ints

PLAIN_WORK = 1 << 20  # multiply-adds of a pass below which the plain kernels' smaller overhead decides
DEVICE_WORK = 1 << 23  # and below which starting a GPU takes longer than the work on the CPU
ROWS_AT_ONCE = 4096  # of a weighted mean


@dataclass(frozen=True)
class Task:
    """L models of one loss on n samples.

    `X (n, F)` on the host, an array or CSR, in the type of the arithmetic; `label (n,)` class indices of K `classes`;
    `C (L,)` and `column (L,)` into `weights (n, T)`, the row weights as scikit-learn sums them (None: all 1); `fold
    (L,)` a model's fold, -1 for none. `start (L, F + 1, K)`: weights to begin at, the last row an intercept's, or None.
    `home`: where the caller's samples lie. `mean (F,)`: that of all of them without weights, or None if it is not
    known.
    """

    X: Any
    label: Ints
    classes: int
    loss: Loss
    C: Floats
    weights: Floats | None
    column: Ints
    fold: Ints
    start: Floats | None
    home: Home
    mean: Floats | None = None

    @property
    def work(self) -> int:
        """The multiply-adds of a pass over the data."""
        return self.X.size * self.loss.columns(self.classes) * len(self.C)

    def take(self, models: Ints) -> Task:
        """The same samples for `models (A,)` alone."""
        start = None if self.start is None else self.start[models]
        return replace(self, C=self.C[models], column=self.column[models], fold=self.fold[models], start=start)


@dataclass(frozen=True)
class Looks:
    """The observers of a task: `observe` sees its events, `watch` the iterations of a single model."""

    observe: Callable[[Event], None]
    watch: Watch | None = None

    def about(self, centre: HostArray | None) -> Looks:
        """The same, for weights of features less their `centre`."""
        watch = self.watch
        if watch is None:
            return self
        return replace(
            self, watch=lambda iterations, weights: watch(iterations, lambda: moved(weights()[None], centre, -1)[0])
        )


def centre_of(task: Task) -> HostArray:
    """About the weighted mean of the features `(F,)`, in X's type.

    If the intercept is free, any shift of the features is exact, and this one, made before X is rounded to the type
    of the arithmetic, keeps the digits that an offset would cost: float32 has three left at 1000 +- 1.
    """
    if isinstance(task.X, Spread):
        weight = None if task.weights is None else task.weights.mean(axis=1)
        return moments(task.X, weight).mean.astype(task.X.dtype)
    if is_sparse(task.X):  # not shifted: most of its entries are 0
        return np.zeros(task.X.shape[1], task.X.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if task.weights is None:
            mean = mean_of(task.X) if task.mean is None else task.mean
            return mean.astype(task.X.dtype)
        weight = task.weights.mean(axis=1)
        parts = range(0, len(task.X), ROWS_AT_ONCE)
        total = sum(weight[at : at + ROWS_AT_ONCE] @ task.X[at : at + ROWS_AT_ONCE].astype(np.float64) for at in parts)
        return np.asarray(total / weight.sum()).astype(task.X.dtype)


def moved(weights: Floats, centre: HostArray | None, sign: int) -> Floats:
    """Weights `(L, D, K)` for features less their centre (`sign` 1), or back from them (-1): only the bias moves."""
    if centre is None:
        return weights
    weights = weights.copy()
    weights[:, -1] += sign * np.einsum("f,lfk->lk", centre.astype(np.float64), weights[:, :-1])
    return weights


def backend_for(device: str, task: Task, dtype: str | None = None) -> Backend:
    """The device that was asked for. `auto`: the GPU that holds the samples, else the first, unless the samples are too
    few for a GPU to pay off.

    The smallest data are fitted in float64 whatever their type: it costs nothing there, and float32 can't certify what
    it finds if features differ much in scale.
    """
    dtype = dtype or ("float64" if task.work < PLAIN_WORK else task.X.dtype.name)
    if isinstance(task.X, Spread):
        return numpy_backend(dtype, why="the rows lie on Dask's workers", requested=device)
    if device == "auto" and task.work < DEVICE_WORK:
        return numpy_backend(dtype, why="few samples: a GPU would take longer", requested=device)
    near, sparse = cuda_index(task.home) or 0, is_sparse(task.X)
    return choose_backend(device, dtype, factorises=True, near=near, sparse=sparse)
