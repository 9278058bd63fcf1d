"""Newton's method for a single model, its steps by conjugate gradients that end early.

A step solves `H d = -∇` only as far as it pays: to a fifth, and further where that reaches the tolerance. Along it the
objective is known without a product (`line`). A fit takes six to ten steps, and about as many products as L-BFGS passes
with better variables, but no losses and less arithmetic around each. The gradients are scaled by the diagonal of H and,
once they have cost as much as its factor, by a Kronecker product (`metric`).
Sources: Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.1; Lin, Weng and Keerthi, Trust Region Newton
Method for Large-Scale Logistic Regression, 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, log, sqrt

import numpy as np

from gpureg.kernels.cpu.parts import HELD, Parts
from gpureg.kernels.one_model import CurvedModel
from gpureg.solvers.lbfgs.line import Line
from gpureg.solvers.lbfgs.metric import Kronecker, build_iterations
from gpureg.solvers.lbfgs.proved import WIDEST
from gpureg.solvers.lbfgs.trials import Trial, Trials
from gpureg.types import Array, Floats

SOLVED, LEAST_SOLVED = 0.2, 4e-3  # of the gradient that a step leaves, as a rule; where the tolerance is in reach
NEARLY = 0.4  # of what it allows is left then
FLOOR = 1e-4  # of the gradient, below which float32 goes round in circles
MOST_PRODUCTS, MOST_IN_ALL = 100, 1000  # of a step, and of a fit
SLOW = 6  # products of a step from which a better metric may save some (of a single column it is H itself: 2)
WORTH = 0.3  # of what a metric costs, the products to come by the diagonal that are worth it
LEAST_NOTED, SLOWER = 5, 0.6  # products by a metric, after which it is compared: the diagonal gains less as it goes on
FARTHEST = 3.0  # logits that a free bias goes in a step: where no curvature holds it, it is held
MOST_INFLATED = 1e4  # of a weight's variance by the other features
PATIENCE, GAINED_AT_LEAST = 8, 0.1  # steps, after which less than this is left of the bound
FALL, STALLED = 1e-13, 0.3  # of the bound where the model was settled it is settled again; or of a step's first
GAINED = 0.1  # of the bound where it was settled; what does not fall that far until the next time is left to others
NOISY = 1e-11  # of the bound where it was settled, below which float32 may be why a step gains little


def truncated(trials: Trials, W: Floats, room: int, most: int = MOST_IN_ALL) -> None:
    """Go from the point `W (K, D)` towards the optimum in at most `room` iterations and about `most` products;
    `trials.met` says whether it was reached. Nothing is done if the model has no Hessian as a product, or no penalty.
    """
    model = trials.goal.model.curved() if trials.goal.l2 > 0.0 else None
    if model is not None:
        _Newton(trials, model).run(W, room, most)


class _Newton:
    """The loop."""

    def __init__(self, trials: Trials, model: CurvedModel) -> None:
        self.trials, self.goal, self.model = trials, trials.goal, model
        self.free, self.K = self.goal.centre is not None, self.goal.K
        self.squares = self.goal.model.squares() / self.goal.n
        self.decay = np.full(len(self.squares), 2.0 * self.goal.l2)
        self.decay[-1] *= not self.free
        self.soft = np.tile((self.decay * self.goal.n).astype(model.dtype), self.K)
        self.parts = Parts(self.soft.shape, model.dtype, HELD)
        self.whole: tuple[Array, Array] | None = None  # a metric
        self.price = 2.0 * build_iterations(self.goal.n, len(self.decay), self.K)  # of a metric, in products
        self.spent, self.last, self.due = 0, 0, self.price
        self.by_diagonal, self.by_whole = (0, 0.0), np.zeros(2)  # in its last step, and in all: products, and digits
        self.known, self.exact, self.going = np.inf, False, True
        self.bounds: list[float] = []

    def run(self, W: Floats, room: int, most: int) -> None:
        """From the point W, as far as the method can."""
        trials, last = self.trials, len(self.trials.course) + room
        at = self._begun(W)
        if trials.met and room > 0:
            trials.accept()
        while self.going and not trials.met and len(trials.course) < last and self.spent < most:
            there = self._next(at)
            if there is not None:
                trials.pass_by(there)
                at = self._settled(there.W) if self._met(there) or self._is_noise(at, there) else there
                trials.accept()
                self.going = self.going and not self._crawls(at.bound)
            elif self.whole is not None and self.K > 1:  # not H itself
                self._drop()
            elif self.exact:
                return
            else:
                at = self._settled(at.W)
        if not self.exact:
            self._settled(at.W)

    def _crawls(self, bound: float) -> bool:
        """Whether the last steps gained little: where a weak penalty alone holds some weights, products in float32 say
        nothing of them.
        """
        self.bounds.append(bound)
        return len(self.bounds) > PATIENCE and not bound <= GAINED_AT_LEAST * self.bounds[-1 - PATIENCE]

    def _is_noise(self, at: Trial, there: Trial) -> bool:
        """Whether float32 may say no more of a point."""
        least = STALLED * at.bound if there.bound <= NOISY * self.known else np.inf
        return bool(there.bound <= FALL * self.known or there.bound > least)

    def _begun(self, W: Floats) -> Trial:
        """The first point; where the weights are 0 it need not be known exactly: the next is far from it."""
        if W[:, : -1 if self.free else None].any():
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
        """Whether it is near enough, free biases by their own curvature (the goal's is that at logits of 0), and so
        near their optimum that `proved_bound` can tilt them.
        """
        goal, met = self.goal, self.goal.met(at)
        if not (met and self.free):
            return met
        left, bend = np.abs(at.gradient[:, -1]), self.model.bend / goal.n
        return bool((left**2 <= 2.0 * bend * goal.attainable(at)).all() and (left <= 0.3 * WIDEST * bend).all())

    def _next(self, at: Trial) -> Trial | None:
        """The next point; None if there is none that is better."""
        if not at.bound > 0.0:
            return None
        d = self._direction(at)
        slope = float(np.vdot(at.gradient, d))
        if not slope < 0.0:
            return None
        soft = self.decay * d
        line = Line(self.goal.n, self.model, float(np.vdot(at.W, soft)), float(np.vdot(d, soft)))
        found = line.end(self.trials, at.loss, at.objective, slope)
        if found is None:
            return None
        t, loss, objective = found
        self.exact, W, gradient = False, at.W + t * d, self.model.move(t)
        gradient /= self.goal.n
        gradient += self.decay * W
        return Trial(W, loss, objective, gradient, self.goal.bound(gradient))

    def _direction(self, at: Trial) -> Floats:
        """About `-H^-1 ∇` `(K, D)`, by conjugate gradients."""
        model, soft, parts, shape = self.model, self._held(at), self.parts, at.W.shape
        parts.clear()
        metric, size = self._metric(at), float(np.abs(at.gradient).max()) or 1.0
        residual = (at.gradient.reshape(-1) / -size).astype(model.dtype)
        near, share = sqrt(self.goal.attainable(at) / at.bound), NEARLY / size  # whose square may overflow
        enough = 4.0 * self.goal.l2 * self.goal.attainable(at) * share * share if near > LEAST_SOLVED else np.inf
        p, s = parts.following(), metric(residual)
        p[:] = s
        first = rs = float(residual @ s)
        for products in range(1, MOST_PRODUCTS + 1):  # noqa: B007
            Hp = model.product(p.reshape(shape)).reshape(-1)
            Hp += soft * p
            curved = float(p @ Hp)
            if not curved > 0.0:
                break
            a = rs / curved
            parts.add(a)
            model.extend(a * size * self.goal.n)
            Hp *= a
            residual -= self._level(Hp)
            s = metric(residual)
            rs, before = float(residual @ s), rs
            if not rs > FLOOR**2 * first or (rs <= SOLVED**2 * first and residual @ residual <= enough):
                break
            p = np.multiply(p, rs / before, out=parts.following())
            p += s
        self._note(products, log(first / rs) if 0.0 < rs < first else 0.0)
        return parts.total().reshape(shape) * (size * self.goal.n)

    def _held(self, at: Trial) -> Array:
        """The penalty's part of H, which also holds biases that the losses no longer do."""
        if not self.free:
            return self.soft
        lacking = np.abs(at.gradient[:, -1]) * (self.goal.n / FARTHEST) - self.model.bend
        if not (lacking > 0.0).any():
            return self.soft
        soft = self.soft.copy()
        soft.reshape(self.K, -1)[:, -1] += np.maximum(lacking, 0.0)
        return soft

    def _note(self, products: int, digits: float) -> None:
        """A whole metric that gains much less by a product than the diagonal did in its last step is dropped."""
        self.last, self.spent = products, self.spent + products
        if self.whole is None:
            self.by_diagonal = products, digits
            return
        self.by_whole += products, digits
        (few, little), (many, much) = self.by_diagonal, self.by_whole
        if many >= LEAST_NOTED and much * few < SLOWER * little * many:
            self._drop()

    def _drop(self) -> None:
        self.whole, self.due = None, np.inf

    def _is_worth_a_metric(self, at: Trial) -> bool:
        """Whether the products have cost as much as another metric does, and those to come may do so."""
        if not (self.spent >= self.due and self.last >= (SLOW if self.K > 1 else 2)):
            return False
        products, digits = self.by_diagonal if self.whole is None else self.by_whole
        return bool(log(at.bound / self.goal.attainable(at)) * products >= WORTH * self.price * digits)

    def _metric(self, at: Trial) -> Callable[[Array], Array]:
        """About `H^-1`, of the scale of the products. What a shift of all classes adds is 0."""
        if self._is_worth_a_metric(at):
            self.due = 2.0 * self.spent
            found = Kronecker.of(self.goal)
            self.going = self.going and (found is None or self._is_known(found))
            if found is not None and self.going:
                self.by_whole[:] = 0.0
                self.whole = found.classes.astype(self.model.dtype), found.features.astype(self.model.dtype)
        if self.whole is not None:
            classes, features = self.whole
            return lambda g: self._level((classes @ (g.reshape(self.K, -1) @ features)).reshape(-1))
        bend = self.model.bend[:, None] / self.goal.n
        least = float(np.finfo(float).eps) * bend.max()
        inverse = (1.0 / (np.maximum(bend, least) * self.squares + self.decay)).astype(self.model.dtype).reshape(-1)
        return lambda g: self._level(g * inverse)

    def _is_known(self, found: Kronecker) -> bool:
        """Whether products in float32 know every weight: not one that others all but determine, and a weak penalty
        alone holds.
        """
        bend = float(np.mean(self.model.bend)) / self.goal.n
        inflation = found.features.diagonal() * (self.squares + self.decay / max(bend, self.goal.l2))
        return self.model.dtype != np.float32 or not inflation.max() > MOST_INFLATED

    def _level(self, s: Array) -> Array:
        if self.goal.loss.shift_invariant:
            own = s.reshape(self.K, -1)
            own -= own.mean(axis=0)
        return s
