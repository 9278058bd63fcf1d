"""Batched L-BFGS: every model has its own history, line search and stop; all share each pass over the data.

A pass makes cost and gradient of every running model at that model's own trial point. Who finds its trial good
enough goes on to a new direction, who does not tries another step: nobody waits. Who has converged leaves the
product. Vectors stay on the device; a few dozen numbers a model come to the host in one transfer per pass, and the
decisions are made there.

Variables are conditioned first (`solvers.conditioning`). Where a model has few weights the direction is Newton's
(`solvers.lbfgs_directions`); the rest is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels import Kernels, steady
from gpureg.objective import Objective, gap_bound
from gpureg.results import StopReason
from gpureg.solvers.conditioning import centred, conditioned
from gpureg.solvers.lbfgs_certificate import certify
from gpureg.solvers.lbfgs_directions import MEMORY, Directions, Newton, QuasiNewton, newton_pays
from gpureg.solvers.lbfgs_search import LineSearch
from gpureg.solvers.lbfgs_state import LbfgsState, build_history
from gpureg.solvers.problem import Outcome, Problem, measure_final
from gpureg.types import Array, Floats

SLACK = 0.25  # of the tolerance: the certificate is made anew at the end, by a pass with other rounding errors
MOST_IDLE = 20  # iterations without a smaller gradient or a measurable decrease


class LbfgsSolver:
    """The solver bound to a problem.

    `config.tol` is a bound on the gap to the optimum, in nats of the mean objective. A model has converged when
    `||∇||² / (4 λ) <= tol` (`objective.gap_bound`), by a certificate that is made at its final weights with the bias
    at its optimum. Without a penalty there is no bound: then when `-g'd <= tol`, d the quasi-Newton direction, which
    estimates twice the gap. `config.max_iter` bounds the iterations of a model. `target (L,)`: a model also stops at
    an objective of at most this, for comparing solvers at equal quality.
    """

    def __init__(self, problem: Problem, kernels: Kernels, config: FitConfig, *, target: Floats | None = None) -> None:
        self.problem, self.kernels, self.config, self.target = problem, kernels, config, target
        self.K = kernels.n_columns
        self.free = not config.penalize_bias
        self.noise = 4.0 * float(np.finfo(kernels.backend.dtype).eps)
        self.bias_curvature = 0.25 if kernels.task == "logistic" else 1.0 / self.K

    def start(self, weights: Floats | None = None) -> LbfgsState:
        """The state at `weights (L, D, K)` (default 0); one pass."""
        problem, kernels = self.problem, self.kernels
        L, D, xp = len(problem.table), problem.D, kernels.backend.xp
        objective = Objective(
            kernels,
            problem.train,
            problem.table,
            D,
            weighted=problem.weighted,
            penalize_bias=self.config.penalize_bias,
        )
        directions: Directions
        newton = newton_pays(problem.n, D * self.K)
        if newton:
            conditioning, centre = centred(kernels, problem.train, free=self.free)
            directions = Newton(objective, centre)
        else:
            conditioning = conditioned(kernels, problem.train, problem.table.l2, free=self.free)
            directions = QuasiNewton(objective, L, self.K * D)
        W = (
            np.zeros((L, self.K, D))
            if weights is None
            else np.ascontiguousarray(np.swapaxes(weights, 1, 2), np.float64)
        )
        v = kernels.backend.from_host(W)
        v = v if weights is None else conditioning.variables(v)
        value = objective.value(conditioning.weights(v))
        g, slope, bias = conditioning.slope(value.gradient)
        host = kernels.to_host(xp.stack([value.loss, value.penalty, slope, bias], axis=0))  # sync
        flat, gradient = xp.reshape(v, (L, -1)), xp.reshape(g, (L, -1))
        state = LbfgsState(
            active=np.arange(L),
            objective_of=objective,
            conditioning=conditioning,
            directions=directions,
            search=LineSearch(L, self.noise),
            v=flat,
            g=gradient,
            d=-gradient,
            objective=host[0] + host[1],
            loss=host[0],
            slope=host[2],
            bias=host[3],
            least=host[2] + host[3],
            idle=np.zeros(L, np.int64),
            iterations=np.zeros(L, np.int64),
            reasons=[None] * L,
        )
        if newton:
            state.d = directions.direction(
                np.ones(L, bool), (flat, flat), gradient, conditioning.weights(v), host, host
            )
        return state

    def run(self, state: LbfgsState, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Passes until every model has stopped, or until `should_stop()` says so between two of them."""
        running = np.ones(len(state.active), bool)
        yield from self._settle(state, running, np.zeros(len(running), bool), np.full(len(running), np.inf))
        with steady(self.kernels):
            while len(state.active) and not should_stop():
                yield from self._pass(state)

    def finish(self, state: LbfgsState, reason: StopReason = "max_epochs") -> tuple[Outcome, History]:
        """Make the certificates and measure every model. `reason` is that of the models still running."""
        for place, model in enumerate(state.active):
            state.finals[int(model)] = self._weights_of(state, np.array([place]))[0]
            state.reasons[model] = reason
        L = len(self.problem.table)
        weights = np.stack([state.finals[model] for model in range(L)])
        done = tuple(found if found is not None else reason for found in state.reasons)
        weights, certificates, reasons, warnings = certify(self.problem, self.kernels, self.config, weights, done)
        final = np.ascontiguousarray(np.swapaxes(weights, 1, 2))
        measured = measure_final(self.kernels, self.problem, final)
        history = build_history(state, self.problem.table, measured)
        warnings += _separable(self.problem, measured.train_accuracy, measured.train_loss)
        none: tuple[int | None, ...] = (None,) * L
        outcome = Outcome(final, state.iterations.copy(), reasons, none, measured, certificates, warnings)
        return outcome, history

    def _pass(self, state: LbfgsState) -> Iterator[Event]:
        """One pass over the data: a trial of every running model, and what follows from it."""
        backend = self.kernels.backend
        xp, search, shape = backend.xp, state.search, (len(state.active), self.K, self.problem.D)
        s = backend.from_host(search.alpha[:, None]) * state.d
        v = state.v + s
        W = state.conditioning.weights(xp.reshape(v, shape))
        value = state.objective_of.value(W)
        g, slope, bias = state.conditioning.slope(value.gradient)
        g = xp.reshape(g, (shape[0], -1))
        y = g - state.g
        host, own, products = self._scalars(state, [value.loss, value.penalty, slope, bias], s, y, g)
        state.passes += 1
        there = host[:, 0] + host[:, 1]
        slope_start = (own[:, 0, 2] - own[:, 0, 1]) / search.alpha
        taken, lost = search.judge(state.objective, slope_start, there, own[:, 0, 2] / search.alpha)
        if taken.any():
            state.note_losses(taken, state.loss)
            state.iterations[state.active[taken]] += 1
            self._accept(state, taken, v, g, there, host)
            d = state.directions.direction(taken, (s, y), state.g, W, products, own)
            state.d = d if taken.all() else xp.where(backend.from_host(taken[:, None]), d, state.d)
            search.restart(taken)
        yield from self._settle(state, taken, lost, -slope_start)

    def _scalars(
        self, state: LbfgsState, sums: list[Array], s: Array, y: Array, g: Array
    ) -> tuple[Floats, Floats, Floats]:
        """All that the host decides by, in one transfer: `sums`, the products of s, y, g `(A, 3, 3)`, the
        directions' own."""
        xp = self.kernels.backend.xp
        own = xp.stack([xp.sum(a * b, axis=1) for a, b in ((s, s), (s, y), (s, g), (y, y), (y, g), (g, g))], axis=1)
        wanted = state.directions.products(s, y, g)
        parts = [xp.stack(sums, axis=1), own] + ([] if wanted is None else [wanted])
        host = self.kernels.to_host(xp.concat(parts, axis=1))  # sync
        count = len(sums)
        triangle = host[:, count : count + 6][:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
        return host[:, :count], triangle, host[:, count + 6 :]

    def _accept(self, state: LbfgsState, taken: np.ndarray, v: Array, g: Array, there: Floats, host: Floats) -> None:
        """Move the models `taken (A,)` to their trial points."""
        xp = self.kernels.backend.xp
        if taken.all():
            state.v, state.g = v, g
        else:
            mask = self.kernels.backend.from_host(taken[:, None])
            state.v, state.g = xp.where(mask, v, state.v), xp.where(mask, g, state.g)
        norm = host[:, 2] + host[:, 3]
        with np.errstate(invalid="ignore"):
            better = (norm < 0.99 * state.least) | (state.objective - there > self.noise * np.abs(there))
        state.idle = np.where(taken, np.where(better, 0, state.idle + 1), state.idle)
        state.least = np.where(taken, np.minimum(state.least, norm), state.least)
        state.objective = np.where(taken, there, state.objective)
        state.loss = np.where(taken, host[:, 0], state.loss)
        state.slope = np.where(taken, host[:, 2], state.slope)
        state.bias = np.where(taken, host[:, 3], state.bias)

    def _settle(self, state: LbfgsState, fresh: np.ndarray, lost: np.ndarray, decrement: Floats) -> Iterator[Event]:
        """Report the pass, and take out who has converged, reached a limit, or can go no further."""
        yield Iterated(state.passes, state.active, state.objective.copy(), np.sqrt(state.slope + state.bias))
        l2 = self.problem.table.l2[state.active]
        bound = gap_bound(state.slope + state.bias, l2) + state.bias / self.bias_curvature
        near = np.where(l2 > 0, bound <= SLACK * self.config.tol, decrement <= self.config.tol)
        near |= state.slope + state.bias == 0.0
        if self.target is not None:
            near |= state.objective <= self.target[state.active]
        broken = ~np.isfinite(state.objective + state.slope + state.bias)
        stuck = self._retry(state, lost) | (state.idle >= MOST_IDLE)
        spent = state.iterations[state.active] >= self.config.max_iter
        reasons: tuple[tuple[StopReason, np.ndarray], ...] = (("diverged", broken), ("converged", fresh & near))
        over = broken | (fresh & (near | spent)) | stuck
        if not over.any():
            return
        places = np.flatnonzero(over)
        for place, weights in zip(places, self._weights_of(state, places), strict=True):
            model = int(state.active[place])
            reason: StopReason = next((name for name, who in reasons if who[place]), "max_epochs")
            state.reasons[model] = reason
            state.finals[model] = np.full_like(weights, np.nan) if reason == "diverged" else weights
            yield ModelStopped(model, int(state.iterations[model]), 0, reason)
        state.take(np.flatnonzero(~over))

    def _retry(self, state: LbfgsState, lost: np.ndarray) -> np.ndarray:
        """Send those whose line search found no step down the gradient once; returns who is stuck even so."""
        stuck = np.zeros(len(lost), bool)
        for place in np.flatnonzero(lost):
            stuck[place] = not state.directions.forget(np.array([place]))
        retried = lost & ~stuck
        if retried.any():
            mask = self.kernels.backend.from_host(retried[:, None])
            state.d = self.kernels.backend.xp.where(mask, -state.g, state.d)
            state.search.restart(retried)
        return stuck

    def _weights_of(self, state: LbfgsState, places: np.ndarray) -> Floats:
        """Weights `(B, K, D)` of the models at `places`, on the host."""
        backend = self.kernels.backend
        index = backend.from_host(np.asarray(places, np.int64))
        v = backend.xp.reshape(backend.xp.take(state.v, index, axis=0), (len(places), self.K, self.problem.D))
        return self.kernels.to_host(state.conditioning.take(index).weights(v))  # sync


def _separable(problem: Problem, accuracy: Floats, loss: Floats) -> tuple[str, ...]:
    """A warning where an unpenalised model fits its training data without an error: then its weights have no bound."""
    folds = problem.table.fold >= 0
    perfect = (problem.table.l2 == 0) & np.where(folds, loss < 1e-3, accuracy == 1.0)
    if not perfect.any():
        return ()
    return (
        f"{int(perfect.sum())} model(s) without a penalty (λ = 0) separate the training data: the loss falls towards 0 "
        "for ever as the weights grow, and there is no optimum. The weights are those of the last iteration; a small λ "
        "gives a definite answer.",
    )


def lbfgs_bytes_per_model(D: int, K: int) -> int:
    """Bytes of work arrays that one model adds: its pairs and vectors, or Newton's Hessian; and the logits of a
    tile."""
    size = D * K
    vectors = 8 * size * (2 * MEMORY + 14)
    return vectors + 2 * 8 * K * 512


def run_lbfgs(
    problem: Problem,
    kernels: Kernels,
    config: FitConfig,
    observe: Callable[[Event], None],
    should_stop: Callable[[], bool] = lambda: False,
    *,
    start: Floats | None = None,
) -> tuple[Outcome, History]:
    """Fit every model of the problem to its optimum; `observe` sees each event, `should_stop` is asked after each pass.

    `start (L, D, K)`: weights to begin at, default 0. See `LbfgsSolver` for what `config.tol` and `config.max_iter`
    bound.
    """
    solver = LbfgsSolver(problem, kernels, config)
    state = solver.start(start)
    for event in solver.run(state, should_stop):
        observe(event)
    return solver.finish(state, "interrupted")
