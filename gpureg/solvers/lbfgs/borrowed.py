"""SciPy's L-BFGS-B for a single model, whose iterations cost hardly any Python, in conditioned variables.

The variables are `w = R^-1 v` with `R'R = h S + 2 λ I`, S the samples' second moments about their mean and h the loss's
curvature at logits of 0: there the Hessian is the identity where every probability is even. R is a Cholesky factor, an
eighth of what an eigendecomposition costs. If that is as much as many passes, the first of them are made with the
diagonal of R'R in its place: data whose features are hardly correlated need no more.

Source: Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995 (SciPy's).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.kernels.protocol import Kernels
from gpureg.rows.protocol import Rows
from gpureg.solvers.lbfgs.hessian import triangular_inverses
from gpureg.solvers.lbfgs.trials import Goal, Trials
from gpureg.types import Floats, Ints

MEMORY = 20  # pairs: they are cheap here
THIN = 3.0  # a product with few columns runs at a third of the rate of one of matrices
WITH_A_FACTOR = 20.0  # iterations that are still to be expected with a factor
CHEAP = 8.0  # passes up to which the factor is made at once


@dataclass(frozen=True)
class Variables:
    """`W = v T'` of one model, `v (K, D)`: `inverse` is R'^-1, or its diagonal; `centre (F,)` the free bias's and
    `scale` its own factor; without a centre all D variables are alike.
    """

    inverse: Floats
    centre: Floats | None
    scale: float

    @classmethod
    def of(cls, goal: Goal, inverse: Floats) -> Variables:
        """Those of a goal."""
        return cls(inverse, goal.centre, 1.0 / np.sqrt(goal.curvature))

    def outside(self, v: Floats) -> Floats:
        """Weights `(K, D)`."""
        if self.centre is None:
            return self._times(v)
        W = np.empty_like(v)
        W[:, :-1] = self._times(v[:, :-1])
        W[:, -1] = self.scale * v[:, -1] - W[:, :-1] @ self.centre
        return W

    def inside(self, W: Floats) -> Floats:
        """The variables of weights `(K, D)`: the inverse of `outside`."""
        if not W.any():
            return np.zeros_like(W)
        if self.centre is None:
            return self._solved(W)
        v = np.empty_like(W)
        v[:, :-1] = self._solved(W[:, :-1])
        v[:, -1] = (W[:, -1] + W[:, :-1] @ self.centre) / self.scale
        return v

    def slope(self, gradient: Floats) -> Floats:
        """The gradient in the variables `(K, D)`."""
        if self.centre is None:
            return self._back(gradient)
        bias, g = gradient[:, -1], np.empty_like(gradient)
        g[:, :-1] = self._back(gradient[:, :-1] - bias[:, None] * self.centre)
        g[:, -1] = self.scale * bias
        return g

    def _times(self, v: Floats) -> Floats:
        return v * self.inverse if self.inverse.ndim == 1 else v @ self.inverse

    def _back(self, gradient: Floats) -> Floats:
        return gradient * self.inverse if self.inverse.ndim == 1 else gradient @ self.inverse.T

    def _solved(self, W: Floats) -> Floats:
        return W / self.inverse if self.inverse.ndim == 1 else np.asarray(np.linalg.solve(self.inverse.T, W.T).T)


@dataclass(frozen=True)
class Stretch:
    """How long a loop goes on: at least `least` iterations, and from there as long as those that are left, at the rate
    so far, are no more than `price`, what another way would cost; never more than `most`.
    """

    least: int
    price: float
    most: int

    def over(self, bounds: Sequence[float], tolerance: float) -> bool:
        """Whether a loop with these bounds on the gap after its iterations ends before they meet the tolerance."""
        if len(bounds) < self.least:
            return False
        fallen, left = np.log(bounds[0] / min(bounds)), np.log(min(bounds) / tolerance)
        return not left * (len(bounds) - 1) <= self.price * fallen


def borrow(trials: Trials, kernels: Kernels, rows: Rows, W: Floats, stretch: Stretch) -> None:
    """Go from the weights `W (K, D)` as far as SciPy's loop can; nowhere if the second moments and the penalty have no
    factor.
    """
    for variables, own in _in_turn(kernels, rows, trials.goal, stretch):
        _run(trials, variables, W if trials.best is None else trials.best.W, own)
        if trials.met or len(trials.course) >= stretch.most:
            return


def _run(trials: Trials, variables: Variables, W: Floats, stretch: Stretch) -> None:
    """One loop."""
    from scipy.optimize import minimize

    goal, shape, since = trials.goal, W.shape, len(trials.course)

    def evaluate(v: Floats) -> tuple[float, Floats]:
        trial = goal.at(variables.outside(v.reshape(shape)))
        g = variables.slope(trial.gradient).reshape(-1)
        trials.keep(trial, met=goal.met(trial, float(g @ g)))
        if trials.met:
            raise _EnoughError
        return trial.objective, g

    def accept(_: Floats | Ints) -> None:
        trials.accept()
        bounds = [bound for _, bound in trials.course[since:]]
        if stretch.over(bounds, goal.tolerance(trials.last)):
            raise StopIteration

    room = stretch.most - since
    options = {"maxcor": MEMORY, "maxiter": room, "maxfun": 20 * room, "ftol": 0.0, "gtol": 0.0}
    start = variables.inside(W).reshape(-1)
    try:
        minimize(evaluate, start, jac=True, method="L-BFGS-B", callback=accept, options=options)
    except _EnoughError:
        trials.accept()


class _EnoughError(Exception):
    """The point just evaluated is near enough to the optimum: this is how an evaluation ends SciPy's loop."""


def _in_turn(kernels: Kernels, rows: Rows, goal: Goal, stretch: Stretch) -> Iterator[tuple[Variables, Stretch]]:
    """The variables to work in, and for how long."""
    n, K, D = goal.n, goal.K, rows.features
    build = (D / (2 * K) + D**2 / (2 * n * K)) / THIN  # what the factor costs, in passes
    if build > CHEAP and goal.l2 > 0:
        yield _diagonal(kernels, rows, goal), Stretch(int(build), build + WITH_A_FACTOR, stretch.most)
    whole = _whole(kernels, rows, goal)
    if whole is not None:
        yield whole, stretch


def _moments(kernels: Kernels, rows: Rows, goal: Goal, *, diagonal: bool) -> Floats:
    """`h S + 2 λ I` of the penalised weights, or its diagonal."""
    centre = np.zeros(rows.features)
    if goal.centre is not None:
        centre[:-1] = goal.centre
    S, F = kernels.to_host(rows.scatter(centre, diagonal=diagonal)), rows.features - (goal.centre is not None)  # sync
    h = goal.curvature
    return h * S[:F] + 2.0 * goal.l2 if diagonal else h * S[:F, :F] + 2.0 * goal.l2 * np.eye(F)


def _diagonal(kernels: Kernels, rows: Rows, goal: Goal) -> Variables:
    """The variables of the diagonal alone."""
    root = np.sqrt(_moments(kernels, rows, goal, diagonal=True))
    return Variables.of(goal, 1.0 / root)


def _whole(kernels: Kernels, rows: Rows, goal: Goal) -> Variables | None:
    """Those of the factor; None if there is none."""
    if not rows.rotates:
        return None
    try:
        factor = np.linalg.cholesky(_moments(kernels, rows, goal, diagonal=False))
        inverse = triangular_inverses(kernels, kernels.backend.from_host(factor[None, :, :]))
    except np.linalg.LinAlgError:
        return None
    return Variables.of(goal, kernels.to_host(inverse)[0])  # sync
