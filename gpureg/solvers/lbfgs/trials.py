"""The points that a loop over a single model tries: their objectives, how near the optimum they are, and the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.one_model import OneModel
from gpureg.losses import Loss
from gpureg.solvers.lbfgs.certificate import SLACK
from gpureg.types import Floats


@dataclass(frozen=True)
class Trial:
    """A point `W (K, D)`, the data's part of its objective (`loss`), the objective, its gradient `(K, D)`, and the
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

    `model` has the sum. `centre (D - 1,)`: what the features are less, if the bias is free, else None; points and
    gradients are then those of the model about its centre (`inside`, `outside`). A point is near enough if its bound is
    at most `tolerance`, or `resolution` times its objective if that is larger, or if its objective is at most the
    `target`, unless that is None.
    """

    model: OneModel
    loss: Loss
    n: int
    K: int
    l2: float
    centre: Floats | None
    tolerance: float
    resolution: float
    target: float | None = None

    @property
    def curvature(self) -> float:
        """That of the loss in one logit at logits of 0."""
        return self.loss.curvature(self.K)

    def inside(self, W: Floats) -> Floats:
        """The point of weights `(K, D)`."""
        V = np.array(W, np.float64, order="C")
        if self.centre is not None:
            V[:, -1] += V[:, :-1] @ self.centre
        return V

    def outside(self, V: Floats) -> Floats:
        """The weights of a point `(K, D)`."""
        W = V.copy()
        if self.centre is not None:
            W[:, -1] -= W[:, :-1] @ self.centre
        return W

    def slope_outside(self, gradient: Floats) -> Floats:
        """The gradient `(K, D)` in the weights."""
        if self.centre is None:
            return gradient
        found = gradient.copy()
        found[:, :-1] += gradient[:, -1:] * self.centre
        return found

    def at(self, W: Floats) -> Trial:
        """A trial at the point `(K, D)`: one pass."""
        return self.trial(W, *self.model.value(W))

    def trial(self, W: Floats, cost: float, gradient: Floats) -> Trial:
        """That of the sums of a pass at the point. Its bound is that of strong convexity (`objective.gap_bound`), and
        with it a free bias's own share.
        """
        gradient /= self.n
        loss, l2 = cost / self.n, self.l2
        if self.loss.shift_invariant:
            gradient -= gradient.mean(axis=0)  # 0 but for rounding
        if self.centre is None:
            gradient += 2.0 * l2 * W
            penalty = l2 * float(np.vdot(W, W))
        else:
            w = W[:, :-1]
            gradient[:, :-1] += 2.0 * l2 * w
            penalty = l2 * float(np.vdot(w, w))
        return Trial(W, loss, loss + penalty, gradient, self.bound(gradient))

    def met(self, trial: Trial, decrement: float = np.inf) -> bool:
        """Whether the trial is near enough; `decrement` estimates twice the gap, and decides if there is no penalty."""
        near = (trial.bound if self.l2 > 0 else decrement) <= self.attainable(trial)
        return near or (self.target is not None and trial.objective <= self.target)

    def attainable(self, trial: Trial) -> float:
        """What a trial's bound should be at most."""
        return SLACK * max(self.tolerance, self.resolution * abs(trial.objective))

    def bound(self, gradient: Floats) -> float:
        """The bound on the gap to the optimum at a point with that gradient `(K, D)`; NaN without a penalty."""
        if not self.l2 > 0:
            return np.nan
        total = float(np.vdot(gradient, gradient)) / (4.0 * self.l2)
        if self.centre is None:
            return total
        bias = gradient[:, -1]
        return total + float(bias @ bias) / self.curvature


class Trials:
    """A loop's trials: the `last`, the `best` (None before the first), whether that is near enough, and objective and
    bound after each iteration (`course`). `before`: the iterations that led to the start. `watch` is told of each: its
    number, the best point so far, and whether that is near enough.
    """

    def __init__(self, goal: Goal, before: int, watch: Callable[[int, Trial, bool], None] | None) -> None:
        self.goal, self.before, self._watch = goal, before, watch
        self.evaluations, self.met = 0, False
        self.best: Trial | None = None
        self._shown: Trial | None = None
        self.course: list[tuple[float, float]] = []

    def again(self, goal: Goal, before: int) -> Trials:
        """Those of another goal, with the same observer."""
        return Trials(goal, before, self._watch)

    @property
    def watched(self) -> bool:
        """Whether someone looks at the weights of each iteration."""
        return self._watch is not None

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
        self._shown = self.best

    def pass_by(self, trial: Trial) -> None:
        """Count a trial whose numbers are rounded: it is shown, but never the best."""
        self.evaluations += 1
        self.last = self._shown = trial

    def accept(self) -> None:
        """An iteration is over, at the last trial."""
        self.course.append((self.last.objective, self.last.bound))
        if self._watch is not None and self._shown is not None:
            self._watch(self.iterations, self._shown, self.met)
