"""Batched L-BFGS: every model has its own history, line search and stop; all share each pass over the data.

A pass computes the cost and gradient of every running model at that model's own trial point. A model that accepts its
trial point takes a new direction; the others try another step. None waits for another. Converged models drop out of the
product. Vectors stay on the device; a few dozen numbers per model come to the host in one transfer per pass, and the
decisions are made there.

Variables are conditioned first (`conditioning`). If a Hessian is affordable, tiny models take Newton's direction, and
medium ones that take long are conditioned again by their own Hessian (`directions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.begin import beginnings, rarity
from gpureg.solvers.lbfgs.certificate import SLACK, Accuracy
from gpureg.solvers.lbfgs.conditioning import at_an_optimum, build_passes, spectrum
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.finish import finished
from gpureg.solvers.lbfgs.logits import logit_passes
from gpureg.solvers.lbfgs.look import Look
from gpureg.solvers.lbfgs.objective import Objective, gap_bound
from gpureg.solvers.lbfgs.packing import pack, unpack
from gpureg.solvers.lbfgs.point import Known
from gpureg.solvers.lbfgs.state import Batch, LbfgsState, Way
from gpureg.solvers.lbfgs.wide import in_span
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import Floats, HostArrays, Ints, StopReason

LATE = 40  # passes after which a large model's variables may be rebuilt, once, at its current weights
QUICK = 2  # passes; the pairs of a model that took no more save its heirs none, and are vectors to be moved
MOST_IDLE = 20  # iterations without a smaller gradient or a measurable decrease


class LbfgsDescent:
    """Batched L-BFGS on a problem; see `gpureg.solvers.protocol.Descent`.

    `config.tol` is a bound on the gap to the optimum, in nats of the mean objective; for a model of a fold, which is
    scored but not kept, 100 times that. A model has converged when `||∇||² / (4 λ) <= tol` (`objective.gap_bound`), by
    a certificate that is made at its final weights, in which a free bias has its share (`rows.dual`). Without a penalty
    there is no bound: then when `-g'd <= tol`, d the quasi-Newton direction, which estimates twice the gap.
    `config.max_iter` bounds the iterations of a model. `target (L,)`: a model also stops at an objective of at most
    this, for comparing solvers at equal quality. `resolution`: objectives whose relative difference is less than this
    count as equal; default the float type's. `hessians`: when one is worth its cost. `measures`: whether the outcome
    has losses and accuracies. `bequeaths`: other models start from these and take their pairs; a model of a larger λ
    then goes further (`certificate.aims`).
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
        measures: bool = True,
        bequeaths: bool = False,
    ) -> None:
        self.whole = problem  # as it was given: there the certificates are made and the models measured
        self.problem, self.basis = in_span(problem, free=not config.penalizes_bias)
        self.kernels, self.config, self.target = kernels, config, target
        resolution = float(np.finfo(config.dtype).eps) if resolution is None else resolution
        self.accuracy = Accuracy.of(problem.table, config.tol, resolution=resolution, measures=measures, path=bequeaths)
        self.K = kernels.n_columns
        self.noise = 4.0 * float(np.finfo(kernels.backend.dtype).eps)
        self.bequeaths, self.free = bequeaths, not config.penalizes_bias
        self.rarity = rarity(problem, kernels)
        self.hessians = hessians = hessians or Hessians()
        self.first: Way = "newton" if hessians.newton_first(problem.n, problem.D * self.K) else "quasi"
        self.handover = hessians.handover(problem.n, problem.D * self.K)
        self.build = build_passes(self.problem.train, self.K)
        self.passes = logit_passes(self.problem, self.K) if bequeaths else None
        self.anew = None if bequeaths or self.handover else max(LATE, int(self.build / max(1, len(problem.table))))

    @property
    def limit(self) -> int:
        """See the protocol: iterations of a model."""
        return self.config.max_iter

    def start(self) -> LbfgsState:
        """See the protocol; no pass is made yet."""
        every = np.arange(len(self.problem.table))
        W = beginnings(self.problem, self.kernels, every, free=self.free)
        state = self.blank()
        state.waiting = dict(enumerate(W))
        return state

    def blank(self) -> LbfgsState:
        """A state in which no model waits."""
        L, start = len(self.problem.table), self.problem.start
        taken = np.zeros(L, np.int64) if start is None else start.steps.copy()
        losses, hits = np.full((2, L), np.nan)
        return LbfgsState({}, self.first, taken, np.zeros(L, np.int64), losses, hits, [None] * L)

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
            state.waiting = {}
            if state.way == "whitened" and self.anew is not None:
                state.anew, state.way = True, "quasi"
                self.recondition(state, models, W)
            yield from self.begin(state, models, W)
        else:
            batch = state.batch
            yield from self._settle(state, batch, *self._pass(state, batch))
            state.batch = batch if len(batch.active) else None

    def begin(self, state: LbfgsState, models: Ints, W: Floats | None, known: Known | None = None) -> Iterator[Event]:
        """A batch of `models (A,)` at weights `W (A, K, D)`, or None for what is `known` of them; see `Batch.begin`."""
        batch, every = self._begun(state, models, W, known), np.arange(len(models))
        if isinstance(batch, Look):
            yield Iterated(state.passes, models, batch.objective.copy())
            state.note(batch, every >= 0, self._bound(batch))
            yield from self._leave(state, batch, every, ["converged"] * len(every))
        else:
            yield from self._settle(state, batch, every >= 0, every < 0, np.full(len(every), np.inf))
        state.batch, state.way = (batch if isinstance(batch, Batch) and len(batch.active) else None), "whitened"

    @np.errstate(all="ignore")  # numbers that overflow end as diverged
    def _begun(self, state: LbfgsState, models: Ints, W: Floats | None, known: Known | None) -> Batch | Look:
        """The batch that `begin` begins, or what a look at its start has found if that is enough."""
        objective, value = self.objective(models), None
        state.evaluated[models] += W is not None
        if state.way == "quasi":
            state.spectrum = state.spectrum or spectrum(self.kernels, self.problem.train, free=self.free)
            if W is not None and known is not None:
                look = Look.at(objective, models, state.spectrum.at(objective.table.l2), W, self.passes, known.lines)
                lower, value = look.objective < objective.stated(known.W, known.loss), look.value
                if (lower & self._near(look, self._bound(look), np.full(len(models), np.inf))).all():
                    return look
        return Batch.begin(
            objective, models, W, way=state.way, noise=self.noise, spectrum=state.spectrum, known=known, value=value
        )

    @np.errstate(all="ignore")  # as above
    def recondition(self, state: LbfgsState, models: Ints, W: Floats) -> bool:
        """Rebuild the variables at the weights `W (A, K, D)` of `models (A,)`; False if there is no curvature there."""
        found = at_an_optimum(self.objective(models), W)
        state.spectrum = state.spectrum if found is None else found
        return found is not None

    def pack(self, state: LbfgsState) -> tuple[HostArrays, dict[str, Any]]:
        """See the protocol."""
        arrays, meta = pack(self.kernels, state)
        return arrays | ({} if self.basis is None else {"pivots": self.basis.pivots}), meta

    def unpack(self, arrays: HostArrays, meta: dict[str, Any], later: Sequence[int] = ()) -> LbfgsState:
        """See the protocol; `later`: the models that have not begun."""
        if self.basis is not None and not np.array_equal(arrays["pivots"], self.basis.pivots):
            raise ValueError("another basis of the rows' span")
        whole = self.objective(np.arange(len(self.problem.table)))
        return unpack(whole, self.noise, self.config.max_iter, arrays, meta, later)

    @np.errstate(all="ignore")
    def finish(self, state: LbfgsState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol; makes the certificates."""
        reason: StopReason = "interrupted" if interrupted else "max_iter"
        if state.batch is not None:
            running = state.batch.active
            state.waiting |= dict(zip(running.tolist(), state.batch.weights(np.arange(len(running))), strict=True))
        for model, W in state.waiting.items():
            state.finals[model], state.reasons[model] = W, reason
        if self.basis is not None:  # what is known is known of the span
            inside = np.stack([W.T for W in state.finals.values()])
            state.finals = dict(zip(state.finals, np.swapaxes(self.basis.outside(inside), 1, 2), strict=True))
            state.losses[:], state.hits[:] = np.nan, np.nan
        return finished(state, self.whole, self.kernels, self.config, self.accuracy)

    def objective(self, models: Ints) -> Objective:
        """That of `models (A,)`."""
        own, table = self.problem, self.problem.table.take(models)
        return Objective(self.kernels, own.train, table, own.D, weighted=own.weighted, penalize_bias=not self.free)

    @np.errstate(all="ignore")  # numbers that overflow end as diverged
    def _pass(self, state: LbfgsState, batch: Batch) -> tuple[np.ndarray, np.ndarray, Floats]:
        """One pass over the data, a trial of every running model: masks of the models that took their step and of
        those that found none, and `-g'd`.
        """
        backend = self.kernels.backend
        xp, search, shape = backend.xp, batch.search, (len(batch.active), self.K, self.problem.D)
        s = backend.from_host(search.alpha[:, None]) * batch.d
        v = batch.v + s
        W = batch.conditioning.weights(xp.reshape(v, shape))
        value = batch.objective_of.value(W, self.passes)
        batch.W, batch.lines = W, value.lines
        g, slope, bias = batch.conditioning.slope(value.gradient)
        g = xp.reshape(g, (shape[0], -1))
        y = g - batch.g
        host, own, products = batch.scalars([value.loss, value.penalty, slope, bias, value.hits], s, y, g)
        state.passes += 1
        state.evaluated[batch.active] += 1
        there = host[:, 0] + host[:, 1]
        slope_start = (own[:, 0, 2] - own[:, 0, 1]) / search.alpha
        taken, lost = search.judge(batch.objective, slope_start, there, own[:, 0, 2] / search.alpha)
        if taken.any():
            state.iterations[batch.active[taken]] += 1
            batch.accept(taken, v, g, xp.reshape(value.gradient, g.shape), host)
            d = batch.directions.direction(taken, (s, y), batch.g, W, products, own)
            batch.d = d if taken.all() else xp.where(backend.from_host(taken[:, None]), d, batch.d)
            search.restart(taken)
        return taken, lost, -slope_start

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
        stuck = batch.retry(lost) | (batch.idle >= MOST_IDLE)
        handed = self._handed(state, batch, stuck) & ~(broken | near | spent)
        over = broken | near | spent | stuck | handed
        if not over.any():
            return
        why = np.select([handed, broken, near, spent], ["", "diverged", "converged", "max_iter"], "precision")
        yield from self._leave(state, batch, np.flatnonzero(over), why.tolist())
        batch.take(np.flatnonzero(~over))

    def _leave(
        self, state: LbfgsState, batch: Batch | Look, places: Ints, why: Sequence[StopReason | Literal[""]]
    ) -> Iterator[Event]:
        """Keep what is known of the models at `places`, and report those that stop; `why (A,)`, "" for a model that
        continues in other variables.
        """
        tried = all(reason in ("converged", "max_iter") for reason in why)
        points = zip(places.tolist(), batch.weights(places, tried=tried), batch.gradients(places), strict=True)
        for place, weights, gradient in points:
            model = int(batch.active[place])
            reason = why[place]
            if reason == "":
                state.waiting[model] = weights
                continue
            state.reasons[model] = reason
            state.finals[model] = np.full_like(weights, np.nan) if reason == "diverged" else weights
            state.gradients[model], state.losses[model] = gradient, batch.loss[place]
            state.hits[model] = batch.hits[place]
            if batch.lines is not None and reason == "converged":  # at the point of the last pass
                state.logits[model] = batch.lines[place]
            yield ModelStopped(model, int(state.iterations[model]), 0, reason)
        if self.bequeaths and isinstance(batch, Batch):
            slow = places[state.evaluated[batch.active[places]] > QUICK]
            state.pairs |= batch.bequeathed(slow) if len(slow) else {}

    def _handed(self, state: LbfgsState, batch: Batch, stuck: np.ndarray) -> np.ndarray:
        """Mask `(A,)` of the models that continue in variables made from the curvature at their current weights: those
        that whiten a medium model's Hessian, or those of a Kronecker product.
        """
        if batch.way == "quasi" and self.anew is not None and not state.anew:
            return stuck | (batch.age >= self.anew)
        if batch.way == "newton" or self.handover is None:
            return np.zeros(len(stuck), bool)
        late: np.ndarray = stuck | (batch.age >= self.handover)
        if batch.way == "whitened":  # a model that gained nothing in these variables gains nothing in new ones
            late &= batch.origin - batch.objective > self.noise * np.abs(batch.origin)
        return late

    def _bound(self, batch: Batch | Look) -> Floats:
        """The bound on each model's gap to its optimum, `(A,)`; NaN without a penalty."""
        return np.asarray(gap_bound(batch.slope, batch.objective_of.table.l2) + batch.bias * self.rarity[batch.active])

    def _near(self, batch: Batch | Look, bound: Floats, decrement: Floats) -> np.ndarray:
        """Mask `(A,)` of the models that are as near the optimum as was asked for."""
        l2, total = batch.objective_of.table.l2, batch.slope + batch.bias
        tolerance = self.accuracy.aimed(batch.active, batch.objective)
        near: np.ndarray = np.where(l2 > 0, bound <= SLACK * tolerance, decrement <= tolerance) | (total == 0.0)
        if self.target is not None:
            near |= batch.objective <= self.target[batch.active]
        return near
