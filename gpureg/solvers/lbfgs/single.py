"""A single model on few samples: SciPy's L-BFGS-B, whose iterations cost hardly any Python, in conditioned variables.

The variables are `w = R^-1 v` with `R'R = h S + 2 λ I`, S the samples' second moments about their mean and h the loss's
curvature at logits of 0: there the Hessian is the identity where every probability is even. R is a Cholesky factor, an
eighth of what an eigendecomposition costs. Every evaluation computes the bound on the gap to the optimum; the first
point that meets the tolerance is the answer. If SciPy's line search gives up before that, or there is no factor, the
batched solver continues from the best point so far.

Source: Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995 (SciPy's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.conditioning import centred
from gpureg.solvers.lbfgs.descent import SLACK, LbfgsDescent
from gpureg.solvers.lbfgs.directions import Newton
from gpureg.solvers.lbfgs.hessian import triangular_inverses
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.lbfgs.watching import Watch, tell
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import Floats, Ints, StopReason

MOST_WORK = 1 << 25  # n D K, the multiply-adds of a product, up to which this is the faster way
MEMORY = 20  # pairs: they are cheap here
MOST_ITERATIONS = 300  # after which a model that has no Hessian is worth the batched solver's better line search


def is_single(problem: Problem, kernels: Kernels) -> bool:
    """Whether the problem is one model, on the CPU, with so few samples that the time between products dominates.

    In float64: float32's gradients are too coarse for SciPy's line search near the optimum.
    """
    backend, work = kernels.backend, problem.n * problem.D * kernels.n_columns
    return len(problem.table) == 1 and (backend.device, backend.dtype) == ("cpu", "float64") and work <= MOST_WORK


class SingleDescent(LbfgsDescent):
    """`LbfgsDescent` of one model, which SciPy's loop brings as far as it can in the first `advance`; `watch` sees its
    iterations.
    """

    watch: Watch | None = None

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol."""
        if state.passes == 0:
            with np.errstate(all="ignore"):
                search = self._borrowed(state)
            if search is not None:
                yield from self._arrive(state, search)
                if self.done(state):
                    return
        yield from super().advance(state)

    def _arrive(self, state: LbfgsState, search: _Search) -> Iterator[Event]:
        """Stop at the best point if it is good enough, or if the iterations are used up.

        Otherwise a model whose Hessian costs next to nothing begins again, with Newton's method, which gains nothing
        from a point on the floor of a long valley; any other continues from the best point.
        """
        best, model = search.best, np.zeros(1, np.int64)
        state.passes = search.evaluations
        spent = bool(state.iterations[0] + len(search.course) >= self.config.max_iter)
        finite = bool(np.isfinite(best.objective))
        if not finite or (self.first == "newton" and not (best.met or spent)):
            return
        if self.watch is not None:
            search.tell(self.watch)
        for number, (objective, bound) in enumerate(search.course):
            state.course.append((model, state.iterations + number + 1, np.array([[objective], [bound]])))
        state.iterations = state.iterations + len(search.course)
        state.waiting, state.way = {0: best.W}, self.first if self.handover is None else "whitened"
        if best.met or spent:
            reason: StopReason = "converged" if best.met else "max_iter"
            state.reasons[0], state.finals[0], state.waiting = reason, best.W, {}
            yield Iterated(state.passes, model, np.array([best.objective]))
            yield ModelStopped(0, int(state.iterations[0]), 0, reason)

    def finish(self, state: LbfgsState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol; a model that has arrived, and whose Hessian is worth it, takes one more step first."""
        if not interrupted and state.reasons[0] in ("converged", "precision") and self._polishes:
            with np.errstate(all="ignore"):
                polished = self._polished(state.finals[0])
            if np.isfinite(polished).all():
                state.finals[0], state.losses[0], state.hits[0] = (
                    polished,
                    np.nan,
                    np.nan,
                )  # what is known is known of the point before
        return super().finish(state, interrupted=interrupted)

    @property
    def _polishes(self) -> bool:
        """Whether a last Newton step is worth its Hessian: for a tiny model, and for one with a Hessian whose tolerance
        is below what its objective can resolve.
        """
        beyond = bool(self.accuracy.tolerance[0] < self.accuracy.resolution)
        return self.first == "newton" or (self.handover is not None and beyond)

    def _polished(self, W: Floats) -> Floats:
        """Weights `(K, D)` after one more step, by Newton's method: a gap of the tolerance becomes one of rounding, so
        that the answer depends on no detail of the way there.
        """
        objective = self.objective(np.zeros(1, np.int64))
        plain, centre = centred(self.kernels, self.problem.train, free=not self.config.penalizes_bias)
        at = self.kernels.backend.from_host(W[None])
        g, _, _ = plain.slope(objective.value(at).gradient)
        d = Newton(objective, centre).solve(objective, at, self.kernels.backend.xp.reshape(g, (1, -1)))
        step = plain.weights(self.kernels.backend.xp.reshape(d, at.shape))
        return np.asarray(W + self.kernels.to_host(step)[0])  # sync

    def _borrowed(self, state: LbfgsState) -> _Search | None:
        """SciPy's loop, to its end; None if there is no factor to condition by."""
        from scipy.optimize import minimize

        variables = self._variables(float(self.problem.table.l2[0]))
        if variables is None:
            return None
        search = _Search(self, variables, state.waiting[0], int(state.iterations[0]))
        room = min(self.config.max_iter - int(state.iterations[0]), self.handover or MOST_ITERATIONS)
        options = {"maxcor": MEMORY, "maxiter": room, "maxfun": 20 * room, "ftol": 0.0, "gtol": 0.0}
        start = variables.inside(state.waiting[0]).reshape(-1)
        try:
            minimize(search.evaluate, start, jac=True, method="L-BFGS-B", callback=search.accept, options=options)
        except _EnoughError:
            search.accept(start)
        return search

    def _variables(self, l2: float) -> _Variables | None:
        """The conditioned variables; None if the second moments and the penalty have no Cholesky factor."""
        free, rows = not self.config.penalizes_bias, self.problem.train
        if not rows.rotates:
            return None
        centre = np.zeros(self.problem.D)
        if free:
            centre = rows.mean()
            centre[-1] = 0.0
        S = self.kernels.to_host(rows.scatter(centre))  # sync
        S = S[:-1, :-1] if free else S
        try:
            factor = np.linalg.cholesky(self.kernels.loss.curvature(self.K) * S + 2.0 * l2 * np.eye(len(S)))
            triangle = self.kernels.backend.from_host(factor[None, :, :])
            inverse = self.kernels.to_host(triangular_inverses(self.kernels, triangle))[0]
        except np.linalg.LinAlgError:
            return None
        return _Variables(inverse, centre[:-1] if free else None, 1.0 / np.sqrt(self.kernels.loss.curvature(self.K)))


@dataclass(frozen=True)
class _Variables:
    """`W = v T'` of one model, `v (K, D)`: `inverse` is R'^-1, `centre (F,)` the free bias's and `scale` its own
    factor; without a centre all D variables are alike.
    """

    inverse: Floats
    centre: Floats | None
    scale: float

    def outside(self, v: Floats) -> Floats:
        """Weights `(K, D)`."""
        if self.centre is None:
            return v @ self.inverse
        W = np.empty_like(v)
        W[:, :-1] = v[:, :-1] @ self.inverse
        W[:, -1] = self.scale * v[:, -1] - W[:, :-1] @ self.centre
        return W

    def inside(self, W: Floats) -> Floats:
        """The variables of weights `(K, D)`: the inverse of `outside`."""
        if not W.any():
            return np.zeros_like(W)
        if self.centre is None:
            return np.asarray(np.linalg.solve(self.inverse.T, W.T).T)
        v = np.empty_like(W)
        v[:, :-1] = np.linalg.solve(self.inverse.T, W[:, :-1].T).T
        v[:, -1] = (W[:, -1] + W[:, :-1] @ self.centre) / self.scale
        return v

    def slope(self, gradient: Floats) -> tuple[Floats, float, float]:
        """The gradient in the variables `(K, D)`, and the squared norms of the gradient in the penalised weights (about
        the centre) and in a free bias.
        """
        if self.centre is None:
            return gradient @ self.inverse.T, float(np.vdot(gradient, gradient)), 0.0
        bias = gradient[:, -1]
        own = gradient[:, :-1] - bias[:, None] * self.centre
        g = np.empty_like(gradient)
        g[:, :-1] = own @ self.inverse.T
        g[:, -1] = self.scale * bias
        return g, float(np.vdot(own, own)), float(bias @ bias)


@dataclass(frozen=True)
class _Point:
    """Weights `(K, D)`, their objective, the bound on the gap to the optimum, and whether it meets the tolerance."""

    W: Floats
    objective: float = np.inf
    bound: float = np.inf
    met: bool = False


class _EnoughError(Exception):
    """The point just evaluated is near enough to the optimum: this is how an evaluation ends SciPy's loop."""


class _Search:
    """The evaluations of one loop, the best point so far, and objective and bound after each iteration (`course`);
    `before`: the iterations that led to its start.
    """

    def __init__(self, descent: SingleDescent, variables: _Variables, W: Floats, before: int) -> None:
        self.descent, self.variables, self.before = descent, variables, before
        self.objective = descent.objective(np.zeros(1, np.int64))
        self.l2 = float(descent.problem.table.l2[0])
        self.curvature = descent.kernels.loss.curvature(descent.K)
        self.evaluations = 0
        self.course: list[tuple[float, float]] = []
        self.untold: list[tuple[int, _Point]] = []
        self.best = self.last = _Point(W)

    def evaluate(self, v: Floats) -> tuple[float, Floats]:
        """Objective and gradient at the variables `v (K D,)`, for SciPy."""
        kernels, descent = self.objective.kernels, self.descent
        W = self.variables.outside(v.reshape(descent.K, -1))
        value = self.objective.value(kernels.backend.from_host(W[None]))
        self.evaluations += 1
        g, slope, bias = self.variables.slope(kernels.to_host(value.gradient)[0])  # sync
        there = float(value.loss[0]) + float(value.penalty[0])
        bound = (slope + bias) / (4.0 * self.l2) + bias / self.curvature if self.l2 > 0 else np.nan
        tolerance = descent.accuracy.attainable(np.zeros(1, np.int64), np.array([there]))[0]
        near = (bound if self.l2 > 0 else float(np.vdot(g, g))) <= SLACK * tolerance
        target = descent.target is not None and there <= descent.target[0]
        self.last = _Point(W, there, bound, bool(near or target))
        if self.last.met or not there > self.best.objective:
            self.best = self.last
        if self.last.met:
            raise _EnoughError
        return there, g.reshape(-1)

    def accept(self, _: Floats | Ints) -> None:
        """An iteration is over, at the point that was evaluated last."""
        self.course.append((self.last.objective, self.last.bound))
        if self.descent.watch is not None:
            self.untold.append((self.before + len(self.course), self.best))
            if self.descent.first != "newton":
                self.tell(self.descent.watch)

    def tell(self, watch: Watch) -> None:
        """Report the iterations not yet reported: for a model that may begin again, only once it is clear that it
        won't."""
        for iterations, point in self.untold:
            tell(watch, self.descent, iterations, partial(getattr, point, "W"), near=point.met)
        self.untold.clear()
