"""Batched L-BFGS: every model has its own history, line search and stop; all share each pass over the data.

A pass makes cost and gradient of every running model at that model's own trial point. A model that accepts its trial
point takes a new direction; the others try another step. None waits for another. Converged models drop out of the
product. Vectors stay on the device; a few dozen numbers a model come to the host in one transfer per pass, and the
decisions are made there.

Variables are conditioned first (`conditioning`). If a Hessian is affordable, tiny models take Newton's direction, and
middling ones that take long are conditioned anew by their own Hessian (`directions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.certificate import attainable, certify
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.objective import Objective, gap_bound
from gpureg.solvers.lbfgs.packing import pack, unpack
from gpureg.solvers.lbfgs.state import Batch, LbfgsState, Way, build_history
from gpureg.solvers.lbfgs.wide import in_span
from gpureg.solvers.problem import Outcome, Problem, measure_final
from gpureg.types import Array, Floats, HostArrays, Ints, StopReason

SLACK = 0.25  # of the tolerance: the certificate is made anew at the end, by a pass with other rounding errors
MOST_IDLE = 20  # iterations without a smaller gradient or a measurable decrease


class LbfgsDescent:
    """Batched L-BFGS on a problem; see `gpureg.solvers.protocol.Descent`.

    `config.tol` is a bound on the gap to the optimum, in nats of the mean objective. A model has converged when
    `||∇||² / (4 λ) <= tol` (`objective.gap_bound`), by a certificate that is made at its final weights with the bias
    at its optimum. Without a penalty there is no bound: then when `-g'd <= tol`, d the quasi-Newton direction, which
    estimates twice the gap. `config.max_iter` bounds the iterations of a model. `target (L,)`: a model also stops at
    an objective of at most this, for comparing solvers at equal quality. `resolution`: objectives that differ by less
    than this, relatively, are as good as equal; default the float type's. `hessians`: when one is worth its cost.
    """

    steps_per_epoch = 0

    def __init__(
        self,
        problem: Problem,
        kernels: Kernels,
        config: FitConfig,
        *,
        target: Floats | None = None,
        resolution: float | None = None,
        hessians: Hessians | None = None,
    ) -> None:
        self.whole = problem  # as it was given: there the certificates are made and the models measured
        self.problem, self.basis = in_span(problem, free=not config.penalize_bias)
        self.kernels, self.config, self.target = kernels, config, target
        self.resolution = float(np.finfo(config.dtype).eps) if resolution is None else resolution
        self.K = kernels.n_columns
        self.noise = 4.0 * float(np.finfo(kernels.backend.dtype).eps)
        self.bias_curvature = kernels.loss.curvature(self.K)
        hessians = hessians or Hessians()
        self.first: Way = "newton" if hessians.newton_first(problem.n, problem.D * self.K) else "quasi"
        self.handover = hessians.handover(problem.n, problem.D * self.K)

    @property
    def limit(self) -> int:
        """See the protocol: iterations of a model."""
        return self.config.max_iter

    def start(self) -> LbfgsState:
        """See the protocol; no pass is made yet."""
        L, D, start = len(self.problem.table), self.problem.D, self.problem.start
        W = np.zeros((L, self.K, D)) if start is None else np.swapaxes(start.weights, 1, 2)
        taken = np.zeros(L, np.int64) if start is None else start.steps.copy()
        return LbfgsState(dict(enumerate(W)), self.first, taken, [None] * L)

    def reached(self, state: LbfgsState) -> int:
        """See the protocol: passes."""
        return state.passes

    def so_far(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol: which models have stopped."""
        for model, reason in enumerate(state.reasons):
            if reason is not None:
                yield ModelStopped(model, int(state.iterations[model]), 0, reason)

    def done(self, state: LbfgsState) -> bool:
        """See the protocol."""
        return state.batch is None and not state.waiting

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol: one pass; models that wait begin a batch in it."""
        if state.batch is None:
            models = np.array(sorted(state.waiting))
            W = np.stack([state.waiting[model] for model in models.tolist()])
            batch, state.waiting = self._batch(models, W, state.way), {}
            A = len(models)
            yield from self._settle(state, batch, np.ones(A, bool), np.zeros(A, bool), np.full(A, np.inf))
        else:
            batch = state.batch
            yield from self._settle(state, batch, *self._pass(state, batch))
        state.batch, state.way = (batch if len(batch.active) else None), "whitened"

    def pack(self, state: LbfgsState) -> tuple[HostArrays, dict[str, Any]]:
        """See the protocol."""
        arrays, meta = pack(self.kernels, state)
        return arrays | ({} if self.basis is None else {"pivots": self.basis.pivots}), meta

    def unpack(self, arrays: HostArrays, meta: dict[str, Any]) -> LbfgsState:
        """See the protocol."""
        if self.basis is not None and not np.array_equal(arrays["pivots"], self.basis.pivots):
            raise ValueError("another basis of the rows' span")
        whole = self.objective(np.arange(len(self.problem.table)))
        return unpack(whole, self.noise, self.config.max_iter, arrays, meta)

    @np.errstate(all="ignore")
    def finish(self, state: LbfgsState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol; makes the certificates."""
        reason: StopReason = "interrupted" if interrupted else "max_iter"
        if state.batch is not None:
            running = state.batch.active
            state.waiting |= dict(zip(running.tolist(), state.batch.weights(np.arange(len(running))), strict=True))
        for model, W in state.waiting.items():
            state.finals[model], state.reasons[model] = W, reason
        L = len(self.problem.table)
        weights = np.stack([state.finals[model] for model in range(L)])
        if self.basis is not None:
            weights = np.swapaxes(self.basis.outside(np.swapaxes(weights, 1, 2)), 1, 2)
        done = tuple(found if found is not None else reason for found in state.reasons)
        weights, certificates, reasons, warnings = certify(
            self.whole, self.kernels, self.config, weights, done, self.resolution
        )
        final = np.ascontiguousarray(np.swapaxes(weights, 1, 2))
        measured = measure_final(self.kernels, self.whole, final)
        history = build_history(state, self.problem.table, measured, certificates)
        warnings += _separable(self.problem, measured.train_accuracy, measured.train_loss)
        none: tuple[int | None, ...] = (None,) * L
        outcome = Outcome(final, state.iterations.copy(), reasons, none, measured, certificates, warnings)
        return outcome, history

    @np.errstate(all="ignore")
    def _batch(self, models: Ints, W: Floats, way: Way) -> Batch:
        """A batch of some models at `W (A, K, D)`."""
        return Batch.begin(self.objective(models), models, W, way=way, noise=self.noise)

    def objective(self, models: Ints) -> Objective:
        """That of `models (A,)`."""
        return Objective(
            self.kernels,
            self.problem.train,
            self.problem.table.take(models),
            self.problem.D,
            weighted=self.problem.weighted,
            penalize_bias=self.config.penalizes_bias,
        )

    @np.errstate(all="ignore")  # numbers that overflow end as diverged
    def _pass(self, state: LbfgsState, batch: Batch) -> tuple[np.ndarray, np.ndarray, Floats]:
        """One pass over the data, a trial of every running model: masks of the models that took their step and of
        those that have found none, and `-g'd`.
        """
        backend = self.kernels.backend
        xp, search, shape = backend.xp, batch.search, (len(batch.active), self.K, self.problem.D)
        s = backend.from_host(search.alpha[:, None]) * batch.d
        v = batch.v + s
        W = batch.conditioning.weights(xp.reshape(v, shape))
        value = batch.objective_of.value(W)
        g, slope, bias = batch.conditioning.slope(value.gradient)
        g = xp.reshape(g, (shape[0], -1))
        y = g - batch.g
        host, own, products = self._scalars(batch, [value.loss, value.penalty, slope, bias], s, y, g)
        state.passes += 1
        there = host[:, 0] + host[:, 1]
        slope_start = (own[:, 0, 2] - own[:, 0, 1]) / search.alpha
        taken, lost = search.judge(batch.objective, slope_start, there, own[:, 0, 2] / search.alpha)
        if taken.any():
            state.iterations[batch.active[taken]] += 1
            self._accept(batch, taken, v, g, there, host)
            d = batch.directions.direction(taken, (s, y), batch.g, W, products, own)
            batch.d = d if taken.all() else xp.where(backend.from_host(taken[:, None]), d, batch.d)
            search.restart(taken)
        return taken, lost, -slope_start

    def _scalars(self, batch: Batch, sums: list[Array], s: Array, y: Array, g: Array) -> tuple[Floats, Floats, Floats]:
        """All that the host decides by, in one transfer: `sums`, the products of s, y, g `(A, 3, 3)`, the directions'
        own.
        """
        xp = self.kernels.backend.xp
        own = xp.stack([xp.sum(a * b, axis=1) for a, b in ((s, s), (s, y), (s, g), (y, y), (y, g), (g, g))], axis=1)
        asked = batch.directions.products(s, y, g)
        parts = [xp.stack(sums, axis=1), own] + ([] if asked is None else [asked])
        host = self.kernels.to_host(xp.concat(parts, axis=1))  # sync
        count = len(sums)
        triangle = host[:, count : count + 6][:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
        return host[:, :count], triangle, host[:, count + 6 :]

    def _accept(self, batch: Batch, taken: np.ndarray, v: Array, g: Array, there: Floats, host: Floats) -> None:
        """Move the models `taken (A,)` to their trial points."""
        xp = self.kernels.backend.xp
        if taken.all():
            batch.v, batch.g = v, g
        else:
            mask = self.kernels.backend.from_host(taken[:, None])
            batch.v, batch.g = xp.where(mask, v, batch.v), xp.where(mask, g, batch.g)
        norm = host[:, 2] + host[:, 3]
        better = (norm < 0.99 * batch.least) | (batch.objective - there > self.noise * np.abs(there))
        batch.age = batch.age + taken
        batch.idle = np.where(taken, np.where(better, 0, batch.idle + 1), batch.idle)
        batch.least = np.where(taken, np.minimum(batch.least, norm), batch.least)
        batch.objective = np.where(taken, there, batch.objective)
        batch.slope = np.where(taken, host[:, 2], batch.slope)
        batch.bias = np.where(taken, host[:, 3], batch.bias)

    def _settle(
        self, state: LbfgsState, batch: Batch, fresh: np.ndarray, lost: np.ndarray, decrement: Floats
    ) -> Iterator[Event]:
        """Report the pass, and take out the models that have converged, reached a limit, or can go no further."""
        yield Iterated(state.passes, batch.active, batch.objective.copy())
        bound = self._bound(batch)
        state.note(batch, fresh, bound)
        broken = ~np.isfinite(batch.objective + batch.slope + batch.bias)
        near = fresh & self._near(batch, bound, decrement)
        spent = fresh & (state.iterations[batch.active] >= self.config.max_iter)
        stuck = self._retry(batch, lost) | (batch.idle >= MOST_IDLE)
        handed = self._handed(batch, stuck) & ~(broken | near | spent)
        over = broken | near | spent | stuck | handed
        if not over.any():
            return
        places = np.flatnonzero(over)
        for place, weights in zip(places, batch.weights(places), strict=True):
            model = int(batch.active[place])
            if handed[place]:
                state.waiting[model] = weights
                continue
            reason: StopReason = "diverged" if broken[place] else "converged" if near[place] else "precision"
            if spent[place] and reason == "precision":
                reason = "max_iter"
            state.reasons[model] = reason
            state.finals[model] = np.full_like(weights, np.nan) if reason == "diverged" else weights
            yield ModelStopped(model, int(state.iterations[model]), 0, reason)
        batch.take(np.flatnonzero(~over))

    def _handed(self, batch: Batch, stuck: np.ndarray) -> np.ndarray:
        """Mask `(A,)` of the models that go on in the variables that whiten their Hessian where they are now."""
        if batch.way == "newton" or self.handover is None:
            return np.zeros(len(stuck), bool)
        late: np.ndarray = stuck | (batch.age >= self.handover)
        if batch.way == "whitened":  # what gained nothing in these variables gains nothing in new ones
            late &= batch.origin - batch.objective > self.noise * np.abs(batch.origin)
        return late

    def _bound(self, batch: Batch) -> Floats:
        """The bound on each model's gap to its optimum, `(A,)`; NaN without a penalty."""
        total = batch.slope + batch.bias
        return gap_bound(total, batch.objective_of.table.l2) + batch.bias / self.bias_curvature

    def _near(self, batch: Batch, bound: Floats, decrement: Floats) -> np.ndarray:
        """Mask `(A,)` of the models that are as near the optimum as was asked for."""
        l2, total = batch.objective_of.table.l2, batch.slope + batch.bias
        tolerance = attainable(self.config.tol, self.resolution, batch.objective)
        near: np.ndarray = np.where(l2 > 0, bound <= SLACK * tolerance, decrement <= tolerance) | (total == 0.0)
        if self.target is not None:
            near |= batch.objective <= self.target[batch.active]
        return near

    def _retry(self, batch: Batch, lost: np.ndarray) -> np.ndarray:
        """Send models whose line search found no step down the gradient once; the mask of those still stuck."""
        stuck = np.zeros(len(lost), bool)
        for place in np.flatnonzero(lost):
            stuck[place] = not batch.directions.forget(np.array([place]))
        retried = lost & ~stuck
        if retried.any():
            mask = self.kernels.backend.from_host(retried[:, None])
            batch.d = self.kernels.backend.xp.where(mask, -batch.g, batch.d)
            batch.search.restart(retried)
        return stuck


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
