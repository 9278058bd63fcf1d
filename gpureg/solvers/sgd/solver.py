"""`Sgd`: minibatch gradient descent as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import UsageError, named
from gpureg.history import History
from gpureg.kernels.choice import fallback_notices
from gpureg.kernels.cpu.rows import TILE
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem
from gpureg.solvers.sgd.advice import remarks
from gpureg.solvers.sgd.descent import MOST_QUEUED, SgdDescent
from gpureg.types import Ints, ModelTable


@dataclass(frozen=True)
class Sgd:
    """Minibatch gradient descent with early stopping; see `gpureg.solvers.protocol.Solver`."""

    config: FitConfig

    name = "sgd"
    minibatches = True
    resumable = True
    light = True
    factorises = False
    queued = MOST_QUEUED

    @property
    def wants_validation(self) -> bool:
        """Early stopping and the best weights depend on the validation loss."""
        return self.config.patience > 0 or self.config.keep == "best"

    refits_along = False

    def members(self, table: ModelTable) -> Ints:
        """See the protocol: each its own."""
        return np.arange(len(table))

    def bytes_per_model(self, n: int, D: int, K: int) -> int:
        """Weights, gradient, snapshots, their stack, the logits of a tile and of a batch, and the step losses."""
        item, batch = np.dtype(self.config.dtype).itemsize, min(self.config.batch_size, n)
        columns = D * K * (4 + 2 * self.queued) + K * (2 * TILE + 2 * batch)
        history = 8 * max(1, n // batch) * self.config.epochs
        return item * columns + history

    def shared_bytes(self, n: int, D: int, K: int, members: int, measured: int, *, dense: bool) -> int:
        """None: what the models share is the samples."""
        return 0

    def notices(self, kernels: Kernels, n: int, D: int) -> list[str]:
        """A batch that was cut, kernels that do not take it, steps that are nearly unstable.

        Raises UsageError for unstable ones: gradient steps on λ Σ w² alone multiply w by `1 - 2 lr λ`, which is stable
        if lr λ < 1; above 0.5 w changes sign at every step.
        """
        found = _stability(max(self.config.rates), max(self.config.lambdas))
        if self.config.batch_size > n:
            found.append(f"The batch size {self.config.batch_size} was reduced to {n}, the number of training rows.")
        return found + fallback_notices(kernels, self.config.kernels, D, min(self.config.batch_size, n))

    def remarks(self, table: ModelTable, outcome: Outcome, history: History, constant: float) -> list[str]:
        """See the protocol."""
        return remarks(table, outcome, history, constant, self.config.epochs)

    def in_double(self) -> None:
        """See the protocol: none."""
        return

    def on(self, problem: Problem, kernels: Kernels) -> SgdDescent:
        """See the protocol."""
        return SgdDescent(problem, kernels, self.config)


def _stability(lr: float, l2: float) -> list[str]:
    said = f"λ = {l2:g} with the learning rate {lr:g}: lr x λ = {lr * l2:g}"
    remedy = f"a smaller {named('lr')} (below {0.5 / l2:.3g})" if l2 else ""
    lbfgs = named("solver", "lbfgs")
    if lr * l2 >= 1:
        raise UsageError(f"{said}; plain gradient steps are stable only below 1. Use {remedy} or {lbfgs}.")
    if lr * l2 >= 0.5:
        return [f"{said}; from 0.5 the weights overshoot at every step. {remedy.capitalize()} or {lbfgs} helps."]
    return []
