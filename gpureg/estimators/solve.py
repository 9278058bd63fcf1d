"""From samples and values of C to fitted weights, for models of all classes and for those whose rows lack some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.estimators.inputs import Samples
from gpureg.estimators.optimum import optimum
from gpureg.estimators.task import Looks, Task
from gpureg.events import Event
from gpureg.losses import Logistic, Loss, Softmax
from gpureg.types import Floats, Ints

Mask = npt.NDArray[np.bool_]
Weights = tuple[Floats, Floats]  # of one model: coef (K, F), intercept (K,)


def _unseen(event: Event) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Audience:
    """The observers of a fit: `observe` sees its events; `iterated` is called after each iteration of a single model,
    with the number of iterations and a function that gives its weights at that moment.
    """

    observe: Callable[[Event], None] = _unseen
    iterated: Callable[[int, Callable[[], Weights]], None] | None = None


@dataclass(frozen=True)
class Batch:
    """L models on the samples: `C (L,)`, `column (L,)` into `weights (N, T)`, the row weights as scikit-learn sums
    them (None: all 1); `fold (L,)` a model's fold, -1 for none. `start (L, K, F + 1)`: weights to begin at, or None.
    """

    C: Floats
    weights: Floats | None
    column: Ints
    fold: Ints
    start: Floats | None = None


@dataclass(frozen=True)
class Solution:
    """Fitted models: `coef (L, K, F)`, `intercept (L, K)` (0 if there is none), `n_iter (L,)` of at least 1.

    `present (T, classes)`: the classes that each column of the batch's weights has rows of. A class without any has the
    intercept -inf, and so the probability 0.
    """

    coef: Floats
    intercept: Floats
    n_iter: Ints
    present: Mask

    def parted(self, count: int) -> tuple[Solution, Solution]:
        """The first `count` models, and the others."""
        first, rest = (
            Solution(self.coef[some], self.intercept[some], self.n_iter[some], self.present)
            for some in (slice(count), slice(count, None))
        )
        return first, rest


def solve(estimator: Any, samples: Samples, batch: Batch, audience: Audience | None = None) -> Solution:
    """Fit the batch to its optimum with the estimator's tol, max_iter, fit_intercept and device; see `optimum.optimum`.

    Rows without weight are left out of the arithmetic. A model whose rows lack a class has only the classes that are
    there: the objective of all classes tends to this as the intercept of the missing one falls without bound.
    """
    F, K = samples.X.shape[1], len(samples.classes)
    present = np.ones((1, K), bool)
    if batch.weights is not None:
        present = np.stack([np.bincount(samples.label[w > 0], minlength=K) > 0 for w in batch.weights.T])
    columns = 1 if samples.binary else K
    coef, intercept = np.zeros((len(batch.C), columns, F)), np.zeros((len(batch.C), columns))
    n_iter = np.full(len(batch.C), min(1, estimator.max_iter), np.int64)
    kinds, kind = (present, np.zeros(1, np.int64)) if len(present) == 1 else _kinds(present)
    for number, mask in enumerate(kinds):
        models = np.flatnonzero(kind[batch.column] == number)
        if not len(models):
            continue
        place = partial(_placed, mask=mask, columns=columns, F=F)
        weights = np.zeros((len(models), F, int(mask.sum())))
        if mask.sum() > 1:
            looks = _looks(audience or Audience(), place)
            weights, n_iter[models] = optimum(estimator, _task(samples, batch, models, mask), looks)
        coef[models], intercept[models] = place(weights)
    return Solution(coef, intercept, n_iter, present)


def _kinds(present: Mask) -> tuple[Mask, Ints]:
    """The different rows of `present (T, classes)`, and which of them each is `(T,)`."""
    kinds, kind = np.unique(present, axis=0, return_inverse=True)
    return kinds, kind.reshape(-1)


def _placed(weights: Floats, *, mask: Mask, columns: int, F: int) -> Weights:
    """Coefficients `(L, columns, F)` and intercepts `(L, columns)` of weights `(L, D, k)` for the classes of a mask."""
    L = len(weights)
    coef, intercept = np.zeros((L, columns, F)), np.zeros((L, columns))
    if mask.sum() > 1:
        own = _columns(mask, columns)
        coef[:, own] = np.swapaxes(weights[:, :F], 1, 2)
        if weights.shape[1] > F:
            intercept[:, own] = weights[:, F]
    if not mask.all():
        intercept[:, _columns(~mask, columns)] = _never(mask, columns)
    return coef, intercept


def _looks(audience: Audience, place: Callable[[Floats], Weights]) -> Looks:
    """What a task tells an audience: weights as `place` makes them."""
    told = audience.iterated
    if told is None:
        return Looks(audience.observe)

    def of_one(weights: Callable[[], Floats]) -> Weights:
        coef, intercept = place(weights()[None])
        return coef[0], intercept[0]

    return Looks(audience.observe, lambda iterations, weights: told(iterations, lambda: of_one(weights)))


def _columns(mask: Mask, columns: int) -> Ints:
    """The columns of weights that the classes of a mask have; two classes share one."""
    return np.flatnonzero(mask) if columns > 1 else np.zeros(1, np.int64)


def _never(mask: Mask, columns: int) -> float:
    """The intercept of a missing class; with one column that of a model whose only class is the first or the second."""
    return np.inf if columns == 1 and mask[1] else -np.inf


def _task(samples: Samples, batch: Batch, models: Ints, mask: Mask) -> Task:
    """Some models and the rows that have weight in them, which are of the classes of `mask (K,)`."""
    X, label, weights, column = samples.X, samples.label, batch.weights, batch.column[models]
    if weights is not None:
        used, column = np.unique(column, return_inverse=True)
        if len(used) < weights.shape[1]:
            weights = weights[:, used]
        kept = weights.any(axis=1)
        if not kept.all():
            X, label, weights = X[kept], label[kept], weights[kept]
    loss: Loss = Logistic() if samples.binary else Softmax()
    place = np.cumsum(mask) - 1
    label = 1 - label if samples.binary else place[label]  # a logistic model's class 0 is positive
    start = None
    if batch.start is not None:
        own = batch.start[models] if samples.binary else batch.start[models][:, mask]
        start = np.swapaxes(np.where(np.isfinite(own), own, 0.0), 1, 2)
    column, fold = column.reshape(-1), batch.fold[models]
    mean = samples.mean if weights is None else None
    return Task(X, label, int(mask.sum()), loss, batch.C[models], weights, column, fold, start, samples.home, mean)
