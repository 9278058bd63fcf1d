"""The points that a loop over a single model tries: their objectives, how near the optimum they are, and the best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gpureg.kernels.protocol import OneModel
from gpureg.losses import Loss
from gpureg.solvers.lbfgs.certificate import SLACK, Accuracy
from gpureg.solvers.lbfgs.watching import Finishing, Watch, tell
from gpureg.solvers.problem import Problem
from gpureg.types import Floats


@dataclass(frozen=True)
class Trial:
    """Weights `(K, D)`, the data's part of their objective (`loss`), the objective, its gradient `(K, D)`, and the
    bound on the gap to the optimum (NaN without a penalty).
    """

    W: Floats
    loss: float
    objective: float
    gradient: Floats
    bound: float


@dataclass(frozen=True)
class Goal:
    """One model's objective, `J(W) = (1/n) Σ s_i loss_i(W) + λ Σ w²`, and when a point is near enough to its optimum.

    `model` has the sum. `centre (D - 1,)`: the features' if the bias is free, else None. `target`: an objective that is
    near enough whatever its bound, or None.
    """

    model: OneModel
    loss: Loss
    n: int
    K: int
    l2: float
    centre: Floats | None
    accuracy: Accuracy
    target: float | None

    @classmethod
    def of(cls, problem: Problem, loss: Loss, K: int, accuracy: Accuracy, target: Floats | None, *, free: bool) -> Goal:
        """That of a problem's one model; `free`: its bias carries no penalty."""
        model = problem.train.one_model(int(problem.table.column[0]) if problem.weighted else None)
        centre = problem.train.mean()[:-1] if free else None
        aim = None if target is None else float(target[0])
        return cls(model, loss, problem.n, K, float(problem.table.l2[0]), centre, accuracy, aim)

    @property
    def curvature(self) -> float:
        """That of the loss in one logit at logits of 0."""
        return self.loss.curvature(self.K)

    def at(self, W: Floats) -> Trial:
        """A trial at weights `(K, D)`: one pass. Its bound is that of strong convexity (`objective.gap_bound`), and
        with it a free bias's own share.
        """
        cost, slope = self.model.value(W)
        loss, gradient = cost / self.n, slope / self.n
        if self.loss.shift_invariant:
            gradient -= gradient.mean(axis=0)  # 0 but for rounding
        free = self.centre is not None
        penalised = W[:, :-1] if free else W
        gradient[:, : penalised.shape[1]] += 2.0 * self.l2 * penalised
        return Trial(W, loss, loss + self.l2 * float(np.vdot(penalised, penalised)), gradient, self._bound(gradient))

    def met(self, trial: Trial, decrement: float = np.inf) -> bool:
        """Whether the trial is near enough; `decrement` estimates twice the gap, and decides if there is no penalty."""
        near = (trial.bound if self.l2 > 0 else decrement) <= self.tolerance(trial)
        return bool(near or (self.target is not None and trial.objective <= self.target))

    def tolerance(self, trial: Trial) -> float:
        """What a trial's bound should be at most."""
        return SLACK * float(self.accuracy.attainable(np.zeros(1, np.int64), np.array([trial.objective]))[0])

    def _bound(self, gradient: Floats) -> float:
        if not self.l2 > 0:
            return np.nan
        if self.centre is None:
            return float(np.vdot(gradient, gradient)) / (4.0 * self.l2)
        bias = gradient[:, -1]
        own, share = gradient[:, :-1] - bias[:, None] * self.centre, float(bias @ bias)
        return (float(np.vdot(own, own)) + share) / (4.0 * self.l2) + share / self.curvature


class Trials:
    """A loop's trials: the `last`, the `best` (None before the first), whether that is near enough, and objective and
    bound after each iteration (`course`). `before`: the iterations that led to the start.
    """

    def __init__(self, goal: Goal, before: int, watch: tuple[Watch, Finishing] | None) -> None:
        self.goal, self.before, self._watch = goal, before, watch
        self.evaluations, self.met = 0, False
        self.best: Trial | None = None
        self.course: list[tuple[float, float]] = []

    @property
    def iterations(self) -> int:
        """Those so far, with the ones before the start."""
        return self.before + len(self.course)

    def keep(self, trial: Trial, *, met: bool) -> None:
        """Count a trial; it is the best so far if no other is better, or if it is near enough."""
        self.evaluations += 1
        self.last, self.met = trial, met
        if met or self.best is None or not trial.objective > self.best.objective:
            self.best = trial

    def accept(self) -> None:
        """An iteration is over, at the last trial."""
        self.course.append((self.last.objective, self.last.bound))
        if self._watch is not None and self.best is not None:
            watch, descent = self._watch
            tell(watch, descent, self.iterations, partial(getattr, self.best, "W"), near=self.met)
