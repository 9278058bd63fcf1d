"""Newton's method for a single model of one column, its steps by conjugate gradients that end early.

A step solves `H d = -∇` only as far as it pays: to a tenth, and further where that reaches the tolerance. Along it the
objective is known without a product, so the end of a step is sought as exactly as is useful: from weights of 0, where
classes are apart, Newton's own steps add 1 to every logit, and the search is for the logarithm of the slope. A fit
takes some seven steps of two to eight products (L-BFGS: some twenty passes, and more arithmetic around each). The
gradients are scaled by the diagonal of H and, once they have cost as much as its factor, by the whole of an H.
Sources: Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.1; Lin, Weng and Keerthi, Trust Region Newton
Method for Large-Scale Logistic Regression, 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log, sqrt

import numpy as np

from gpureg.kernels.one_model import CurvedModel
from gpureg.solvers.lbfgs.metric import Kronecker, build_iterations
from gpureg.solvers.lbfgs.sight import GAINED, ROUNDED
from gpureg.solvers.lbfgs.trials import Trial, Trials
from gpureg.types import Array, Floats

SOLVED, LEAST_SOLVED = 0.2, 1e-3  # of the gradient that a step leaves, as a rule and in the last one at least
NEARLY = 0.4  # of what the tolerance allows, where that is in reach
MOST_PRODUCTS = 100  # of a step
TRIES = 25  # of its end
FLAT = 0.2  # of the slope may be left there
FURTHER = 10.0  # times a step that is too short is the longest that is tried next
WITHIN = 0.1  # of an interval from its ends is the next trial
FALL = 1e-14  # of the bound where the model was settled, after which it is settled again


def truncated(trials: Trials, W: Floats, room: int) -> None:
    """Go from the point `W (1, D)` towards the optimum in at most `room` iterations; `trials.met` says whether it was
    reached. Nothing is done if the model has no Hessian as a product, or no penalty.
    """
    model = trials.goal.model.curved() if len(W) == 1 and trials.goal.l2 > 0.0 else None
    if model is not None:
        _Newton(trials, model).run(W, room)


@dataclass(frozen=True)
class _Line:
    """The objective along a step, at t: the model has the costs; the penalty has the slope and the curvature `slope`
    and `curvature` at t = 0.
    """

    n: int
    model: CurvedModel
    slope: float
    curvature: float

    def at(self, t: float) -> tuple[float, float, float, float]:
        """Loss, change of the penalty, and the slope of the objective; and the next t to try."""
        loss, first, second = (value / self.n for value in self.model.trial(t))
        pull = self.slope + t * self.curvature
        slope, curvature = first + pull, second + self.curvature
        following = t - slope / curvature if curvature > 0.0 else np.inf
        if slope < 0.0 < pull:  # the losses' slope falls as exp(-t): Newton's method on logarithms
            following = t + log(-first / pull) / (self.curvature / pull - second / first)
        return loss, t * (self.slope + 0.5 * t * self.curvature), slope, following


class _Newton:
    """The loop."""

    def __init__(self, trials: Trials, model: CurvedModel) -> None:
        self.trials, self.goal, self.model = trials, trials.goal, model
        self.squares = self.goal.model.squares() / self.goal.n
        self.decay = np.full(len(self.squares), 2.0 * self.goal.l2)
        self.decay[-1] *= self.goal.centre is None
        self.soft = (self.decay * self.goal.n).astype(model.dtype)
        self.whole: Array | None = None  # a metric
        self.parts = np.empty((MOST_PRODUCTS + 1, len(self.decay)), model.dtype)  # of a step
        self.spent, self.build = 0, 2.0 * build_iterations(self.goal.n, len(self.decay), 1)
        self.known, self.exact, self.going = np.inf, False, True

    def run(self, W: Floats, room: int) -> None:
        """From the point W, as far as the method can."""
        trials, last = self.trials, len(self.trials.course) + room
        at = self._begun(W)
        if trials.met:
            trials.accept()
        while self.going and not trials.met and len(trials.course) < last:
            there = self._next(at)
            if there is not None:
                trials.pass_by(there)
                at = self._settled(there.W) if self._met(there) or there.bound <= FALL * self.known else there
                trials.accept()
            elif self.exact:
                return
            else:
                at = self._settled(at.W)
        if not self.exact:
            self._settled(at.W)

    def _begun(self, W: Floats) -> Trial:
        """The first point; where the weights are 0 it need not be known exactly: the next is far from it."""
        if W[0, : -1 if self.goal.centre is not None else None].any():
            return self._settled(W)
        at = self.goal.trial(W, *self.model.start(W))
        self.trials.pass_by(at)
        self.going, self.known = isfinite(at.objective), at.bound
        return self._settled(W) if self._met(at) else at

    def _settled(self, W: Floats) -> Trial:
        """The point as it is. It is worth going on if it is nearer than the last that was seen as it is."""
        at = self.goal.trial(W, *self.model.settle(W))
        self.trials.keep(at, met=self._met(at))
        self.going = isfinite(at.objective) and bool(at.bound <= GAINED * self.known)
        self.known, self.exact = at.bound, True
        return at

    def _met(self, at: Trial) -> bool:
        """Whether it is near enough, a free bias by its own curvature: the goal's is that at logits of 0."""
        goal = self.goal
        bias = float(at.gradient[0, -1])
        free = goal.centre is not None
        return goal.met(at) and not (free and bias**2 > 2.0 * self.model.bend / goal.n * goal.attainable(at))

    def _next(self, at: Trial) -> Trial | None:
        """The next point; None if there is none that is better."""
        d = self._direction(at)
        slope = float(at.gradient[0] @ d)
        if not slope < 0.0:
            return None
        soft = self.decay * d
        found = self._end(at, slope, _Line(self.goal.n, self.model, float(at.W[0] @ soft), float(d @ soft)))
        if found is None:
            return None
        t, loss, objective = found
        self.exact, W, gradient = False, at.W + t * d, self.model.move(t)
        gradient /= self.goal.n
        gradient += self.decay * W
        return Trial(W, loss, objective, gradient, self.goal.bound(gradient))

    def _end(self, at: Trial, slope: float, line: _Line) -> tuple[float, float, float] | None:
        """Where the step ends, as a multiple of it, the loss there and the objective; None if nothing is better."""
        low, high, t = 0.0, np.inf, 1.0
        allowed = at.objective + ROUNDED * abs(at.objective)
        for _ in range(TRIES):
            loss, penalty, own, following = line.at(t)
            self.trials.evaluations += 1
            objective = loss + (at.objective - at.loss + penalty)
            falls = objective <= allowed
            if falls and abs(own) <= -FLAT * slope:
                return t, loss, objective
            if falls and own < 0.0:
                low, following = t, min(following, FURTHER * t)
            else:
                high = t
            if not low < following < high:
                following = 0.5 * (low + high)
            t = following
        return None

    def _direction(self, at: Trial) -> Floats:
        """About `-H^-1 ∇` `(D,)`, by conjugate gradients."""
        model, soft, P = self.model, self.soft, self.parts
        metric, lengths = self._metric(), []
        size = float(np.abs(at.gradient).max()) or 1.0
        residual = (at.gradient[0] / -size).astype(P.dtype)
        goal = NEARLY * sqrt(self.goal.attainable(at) / at.bound)
        least = (goal if LEAST_SOLVED <= goal < SOLVED else SOLVED) ** 2
        s = metric(residual)
        P[0] = s
        first = rs = float(residual @ s)
        for k in range(MOST_PRODUCTS):
            p = P[k]
            Hp = model.product(p)
            Hp += soft * p
            curved = float(p @ Hp)
            if not curved > 0.0:
                break
            a = rs / curved
            lengths.append(a)
            model.extend(a * size * self.goal.n)
            Hp *= a
            residual -= Hp
            s = metric(residual)
            rs, before = float(residual @ s), rs
            if not rs > least * first:
                break
            np.multiply(p, rs / before, out=P[k + 1])
            P[k + 1] += s
        self.spent += len(lengths)
        found = np.array(lengths, P.dtype) @ P[: len(lengths)]
        return found.astype(np.float64) * (size * self.goal.n)

    def _metric(self) -> Callable[[Array], Array]:
        """About `H^-1`, of the scale of the products."""
        if self.spent >= self.build:
            self.build *= 2.0
            found = Kronecker.of(self.goal)
            self.whole = self.whole if found is None else found.features.astype(self.model.dtype)
        whole = self.whole
        if whole is not None:
            return lambda g: whole @ g
        inverse = (1.0 / (self.model.bend / self.goal.n * self.squares + self.decay)).astype(self.model.dtype)
        return lambda g: g * inverse
