"""Newton's method for one logistic model of fewer samples than features, from weights of 0, in a number per sample.

The optimum lies in the span of the samples: `w = X' a`, features less their mean if the bias is free. With residuals r
and curvatures h of the sum of the losses, and c = 2 n λ, the gradient is `X' (c a + r)`, and Newton's step `X' δ`, and
β of the bias, solves

    (X X' + c / h) δ + β = -(c a + r) / h,    Σ δ = 0,

by conjugate gradients with the diagonal of that matrix. Where samples differ more in their curvatures than in anything
else, that takes fewer products than steps in the weights (`truncated`): 13 in place of 17 for 300 samples of 1,000
features of one kind, 21 in place of 35 if the classes are hardly apart (measured). Where features differ in scale or
depend on each other it takes more; the first products show that, and the model is left to `truncated`. What is in
float32, and when a point is settled in float64, is as there.
Source: Chapelle, Training a Support Vector Machine in the Primal, Neural Computation 19, 2007, for Newton's steps in a.
"""

from __future__ import annotations

from math import isfinite, sqrt

import numpy as np

from gpureg.kernels.one_model import DualModel
from gpureg.solvers.lbfgs.line import Line
from gpureg.solvers.lbfgs.trials import Trial, Trials
from gpureg.solvers.lbfgs.truncated import FALL, FLOOR, GAINED, LEAST_SOLVED, MOST_PRODUCTS, NEARLY, SOLVED
from gpureg.types import Array, Floats

SLOW = 6  # products of a step, at which another method is faster,
SLOW_FIRST = 4, 0.35  # and those of the first, or what one of them leaves of the square of the gradient
STALLED = 0.9  # of a bound before a step is more than what it should be after it
FLATTEST = 1e-10  # of the largest curvature: the smallest that is told from 0


def dual(trials: Trials, W: Floats, room: int) -> None:
    """Go from the point `W (1, D)` towards the optimum in at most `room` iterations; `trials.met` says whether it was
    reached. Nothing is done if the method is not for the model.
    """
    goal, F = trials.goal, W.shape[1] - (trials.goal.centre is not None)
    if goal.K > 1 or goal.n >= F or not goal.l2 > 0.0 or room < 1:
        return
    model = None if W[:, :F].any() else goal.model.dual()
    if model is not None:
        _Newton(trials, model, W).run(room)


class _Newton:
    """The loop: `a (n,)`, and the part of it, `since`, that is not in the weights `W (1, D)`, which were settled."""

    def __init__(self, trials: Trials, model: DualModel, W: Floats) -> None:
        self.trials, self.goal, self.model, self.W = trials, trials.goal, model, W
        self.free, n = self.goal.centre is not None, self.goal.n
        self.c, self.bias = 2.0 * n * self.goal.l2, float(W[0, -1]) if self.free else 0.0
        self.squares = model.squares.astype(np.float64)
        self.a, self.since = np.zeros((2, n))
        self.part, self.sums = np.empty((2, 3, n), model.dtype)

    def run(self, room: int) -> None:
        """From the start, as far as the method can."""
        trials, last = self.trials, len(self.trials.course) + room
        loss = self.model.start(self.bias) / self.goal.n
        at = self._passed(loss, loss)
        known, going, exact = at.bound, isfinite(at.objective), True
        while going and not trials.met and len(trials.course) < last:
            found = self._next(at)
            if found is None:
                break
            before, at, exact = at.bound, self._passed(*found), False
            if at.bound <= max(self.goal.attainable(at), FALL * known) or not at.bound <= STALLED * before:
                at, exact = self._settled(bias=True), True
                known, going = at.bound, bool(at.bound <= GAINED * known)
            trials.accept()
        if not exact:
            self._settled(bias=False)

    def _passed(self, loss: float, objective: float) -> Trial:
        """The point as the steps know it, without its gradient."""
        W = self._weights() if self.trials.watched else self.W
        at = Trial(W, loss, objective, np.empty(0), self._estimate())
        self.trials.pass_by(at)
        return at

    def _estimate(self) -> float:
        """About the bound at the point."""
        own = float(self.model.r.sum()) / self.goal.n if self.free else 0.0
        return self._bound(self.c * self.a + self.model.r) + own * own / self.goal.curvature

    def _bound(self, u: Floats) -> float:
        """That of a gradient `X' u`, if samples were at right angles to each other."""
        return float((self.squares * u) @ u) / (2.0 * self.c * self.goal.n)

    def _weights(self) -> Floats:
        W = np.empty_like(self.W)
        F = W.shape[1] - self.free
        W[0, :F] = self.W[0, :F] + self.model.weights(self.since)
        W[0, F:] = self.bias
        return W

    def _settled(self, *, bias: bool) -> Trial:
        """The point as it is, but for a bias that is brought to its optimum."""
        W = self._weights()
        cost, slope, self.bias = self.model.settle(W, bias=bias)
        if self.free:
            W[0, -1] = self.bias
        self.W = W
        self.since[:] = 0.0
        at = self.goal.trial(W, cost, slope)
        self.trials.keep(at, met=self.goal.met(at))
        return at

    def _next(self, at: Trial) -> tuple[float, float] | None:
        """The loss and the objective at the next point; None if there is none that is better, or it takes too long."""
        step = self._direction(at)
        if step is None:
            return None
        (delta, q, beta), model, n = step, self.model, self.goal.n
        line = Line(n, model, self.c / n * float(self.a @ q), self.c / n * float(delta @ q))
        np.add(q, beta, out=model.step)
        slope = line.slope + float(model.r @ model.step) / n
        found = line.end(self.trials, at.loss, at.objective, slope) if slope < 0.0 else None
        if found is None:
            return None
        t, loss, objective = found
        model.move(t)
        for total in (self.a, self.since):
            total += t * delta
        self.bias += t * beta
        return loss, objective

    def _direction(self, at: Trial) -> tuple[Floats, Floats, float] | None:
        """δ, `X X' δ` and β."""
        model, goal, dtype = self.model, self.goal, self.model.dtype
        h = np.maximum(model.h, FLATTEST * float(model.h.max()))
        want = (self.c * self.a + model.r) / h
        size = sqrt(float(want @ want) / len(want)) or 1.0
        soft = (self.c / h).astype(dtype)
        scale = 1.0 / (soft + model.squares)
        share = scale / scale.sum()
        near = sqrt(goal.attainable(at) / at.bound) > LEAST_SOLVED if at.bound > 0.0 else True
        enough = NEARLY**2 * goal.attainable(at) / size**2 if near else np.inf
        slow, leave = (SLOW, np.inf) if self.a.any() else SLOW_FIRST
        part, sums = self.part, self.sums  # of δ, of X X' δ and of the gradient of the system
        sums[:2], sums[2] = 0.0, want / size
        (p, v, Kp), gradient = part, sums[2]
        np.multiply(scale, self._level(gradient, share), out=p)
        first = rs = float(gradient @ p)
        for products in range(1, MOST_PRODUCTS + 1):
            model.product(p, v)
            np.multiply(soft, p, out=Kp)
            Kp += v
            curved = float(p @ Kp)
            if not curved > 0.0:
                break
            sums -= part * dtype.type(rs / curved)
            s = scale * self._level(gradient, share)
            rs, before = float(gradient @ s), rs
            if not rs > FLOOR**2 * first or (rs <= SOLVED**2 * first and (not near or self._left(h) <= enough)):
                break
            if not near and (products == slow or rs > leave * first):
                return None
            p *= rs / before
            p += s
        delta, q, rest = sums * size
        return delta, q, -float(h @ rest) / float(h.sum()) if self.free else 0.0

    def _left(self, h: Floats) -> float:
        """What the step leaves of the bound, if nothing were curved, in its own scale."""
        return self._bound(h * self._level(self.sums[2], h / h.sum()))

    def _level(self, u: Array, share: Array) -> Array:
        """Less its mean, each sample with a share of 1, if the bias is free."""
        return u - share @ u if self.free else u
