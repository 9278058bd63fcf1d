"""Every λ from the optima before it, all members of the path side by side.

λ falls. A model begins at the secant in log λ through its member's last two optima, or at the last optimum if its
objective, known without a pass, is lower there; λ = 0 comes last and begins at the last optimum. Members (folds,
seeds, the refit) wait for one another at each point of the path, each with its own λ there; so the order of all
arithmetic is fixed by counts, and a fold is never ahead of the refit. Measured passes over the data per λ (20,000 x
256, 50 classes, 48 C from 1e-6 to 1e2, to scikit-learn's objectives): 1.6 along a path, 10.1 in one batch from zero.

Moments of the samples are decomposed once. In addition, variables are rebuilt at an optimum (`conditioning.kronecker`)
as soon as the members together have taken more passes than that costs since the last time, not counting the few that a
point of the path takes in any variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.events import Event, Iterated, ModelStopped, PathPoint
from gpureg.history import History
from gpureg.kernels.lines import Line
from gpureg.kernels.protocol import Kernels
from gpureg.model.scores import cost
from gpureg.solvers.lbfgs.begin import beginnings
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.point import Known
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.path.members import Members, block_of, reach, secant
from gpureg.solvers.path.packing import pack, unpack
from gpureg.solvers.path.patience import points_kept
from gpureg.solvers.path.state import PathState
from gpureg.solvers.problem import Outcome, Problem, measure, scores_of
from gpureg.solvers.results import rearranged
from gpureg.types import Floats, HostArrays, Ints

FEW_PASSES = 2  # a point of the path takes, whatever the variables; 1 counts if a build costs less than twice that


class PathDescent:
    """The optimum along a path, on a problem; see `gpureg.solvers.protocol.Descent`, and `LbfgsDescent` for the
    parameters.
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
    ) -> None:
        self.members = Members.of(problem.table, block_of(problem.table, kernels.n_columns))
        self.problem, self.kernels, self.config = problem, kernels, config
        own = self.members.unique
        self.descent = LbfgsDescent(
            problem.take(own),
            kernels,
            config,
            target=None if target is None else target[own],
            resolution=resolution,
            hessians=hessians,
            measures=measures,
            bequeaths=True,
        )
        self.way = self.descent.first

    @property
    def limit(self) -> int:
        """See the protocol: iterations of a model."""
        return self.config.max_iter

    def start(self) -> PathState:
        """See the protocol; no pass is made yet."""
        return PathState(self.descent.blank())

    def reached(self, state: PathState) -> int:
        """See the protocol: passes."""
        return state.run.passes

    def so_far(self, state: PathState) -> Iterator[Event]:
        """See the protocol: which models have stopped, and how far the path is."""
        yield from self._told(self.descent.so_far(state.run))
        if state.point:
            yield self._reached(state)

    def done(self, state: PathState) -> bool:
        """See the protocol."""
        return (state.ended or state.point == len(self.members.points)) and self.descent.done(state.run)

    def advance(self, state: PathState) -> Iterator[Event]:
        """See the protocol: one pass; the members' next models begin in it once all have stopped."""
        if self.descent.done(state.run):
            yield from self._told(self._begin(state, self.members.points[state.point]))
            state.point += 1
        else:
            yield from self._told(self.descent.advance(state.run))
        if self.descent.done(state.run):
            if self.config.path_patience:
                for models in self.members.by_rank(state.point - 1):
                    self._score(state, models)
            yield self._reached(state)

    def _reached(self, state: PathState) -> PathPoint:
        reached = self.members.reached
        return PathPoint(int(reached[state.point]), int(reached[-1]))

    def finish(self, state: PathState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol; a model that has not begun is at its given start, or at 0."""
        for point in self.members.points[state.point :]:
            for model in point.tolist():
                W = self._given(np.array([model]))[0]
                state.run.finals[model] = np.full_like(W, np.nan) if state.ended else W
                state.run.reasons[model] = "interrupted"
        outcome, history = self.descent.finish(state.run, interrupted=interrupted)
        return rearranged(outcome, history, self.problem.table, self.members.place)

    def _score(self, state: PathState, models: Ints) -> None:
        """Score the held-out rows of one λ's models at the point just finished; end the path if the scores say so.

        A fold in which the score is not defined, and so is of no model, does not count.
        """
        folded = models[self.descent.problem.table.fold[models] >= 0]
        models = folded if len(folded) else models
        W = np.stack([state.run.finals[model] for model in models.tolist()])
        if self.descent.basis is not None:
            W = np.swapaxes(self.descent.basis.outside(np.swapaxes(W, 1, 2)), 1, 2)
        columns = self.kernels.weights(W.reshape(-1, W.shape[2]).T)
        whole = self.descent.whole
        measured = measure(self.kernels, whole, columns, models, train_loss=False)
        found = scores_of(self.kernels, whole.take(models), np.swapaxes(W, 1, 2), measured)
        lost = ~np.isfinite(measured.val_loss)
        counted = found[np.isfinite(found) | lost]
        state.scores.append(cost(whole.score, float(np.mean(counted))) if len(counted) else np.nan)
        state.ended = points_kept(state.scores, self.config.path_patience) is not None

    def pack(self, state: PathState) -> tuple[HostArrays, dict[str, Any]]:
        """See the protocol."""
        return pack(self.descent, state)

    def unpack(self, arrays: HostArrays, meta: dict[str, Any]) -> PathState:
        """See the protocol."""
        return unpack(self.descent, self.members.points, arrays, meta)

    def _told(self, events: Iterator[Event]) -> Iterator[Event]:
        """Events under the numbers of the problem's own models."""
        for event in events:
            if isinstance(event, Iterated):
                yield replace(event, models=self.members.unique[event.models])
            elif isinstance(event, ModelStopped):
                for model in self.members.copies(event.model).tolist():
                    yield replace(event, model=model)
            else:
                yield event

    def _begin(self, state: PathState, models: Ints) -> Iterator[Event]:
        """The first pass of the next point's models."""
        run, start = state.run, self.descent.problem.start
        if state.point:
            self._condition(state, models)
        run.way = self.way
        if start is None and state.point:
            W, known = self._ahead(state, models)
            yield from self.descent.begin(run, models, W, known)
            return
        yield from self.descent.begin(run, models, self._given(models))

    def _given(self, models: Ints) -> Floats:
        """The weights `(A, K, D)` at which the problem lets `models (A,)` begin."""
        return beginnings(self.descent.problem, self.kernels, models, free=not self.config.penalizes_bias)

    def _ahead(self, state: PathState, models: Ints) -> tuple[Floats | None, Known]:
        """Where `models (A,)` are expected, and what is known of the last optima; None if both are the same, or if a
        step from those is worth more than a look.
        """
        run, l2, last = state.run, self.descent.problem.table.l2, self.members.before[models]
        known = replace(self._known(run, models, last[:, 0]), lines=self._lines(run, models))
        if self._steps(state, last[:, 0]):
            run.pairs = {}
            return None, known
        W = [
            secant(float(l2[model]), *((float(l2[b]), run.finals[b]) for b in past if b >= 0))
            for model, past in zip(models.tolist(), last.tolist(), strict=True)
        ]
        moved = any(one is not run.finals[past] for one, past in zip(W, last[:, 0].tolist(), strict=True))
        run.pairs = {}  # what is known has them
        return (np.stack(W) if moved else None), known

    def _steps(self, state: PathState, last: Ints) -> bool:
        """Whether the path goes on from the optima `last (A,)` by a step, and not by a look at the secant's points: at
        its start, where penalties are large and the variables round, as long as the models take one pass that way. (The
        secant's points are not near enough there, so that a look and a step take 1.6: 41 C of 30 classes, 8,000 x 384.)
        """
        taken = (state.run.evaluated[last] == 1) & (state.run.iterations[last] == 1)
        return self.way == "quasi" and (state.point == 1 or bool(taken.all()))

    def _lines(self, run: LbfgsState, models: Ints) -> tuple[Line, ...] | None:
        """The logits where `models (A,)` are expected, if those of their last two optima are known for all of them;
        none are needed of the models before those.
        """
        l2, found, used = self.descent.problem.table.l2, [], run.logits
        run.logits = {last: used[last] for last in self.members.before[models, 0].tolist() if last in used}
        for model, (last, before) in zip(models.tolist(), self.members.before[models].tolist(), strict=True):
            if last not in used or before not in used:
                return None
            line = used[last].beyond(used[before], reach(float(l2[model]), float(l2[last]), float(l2[before])))
            if line is None:
                return None
            found.append(line)
        return tuple(found)

    def _known(self, run: LbfgsState, models: Ints, last: Ints) -> Known:
        """What the optima `last (A,)` tell of `models (A,)`."""
        W = np.stack([run.finals[model] for model in last.tolist()])
        slope = np.stack([run.gradients[model] for model in last.tolist()])
        gradient = self.descent.objective(last).without_penalty(W, slope)
        return Known(W, run.losses[last], gradient, run.hits[last], [run.pairs.get(model) for model in last.tolist()])

    def _condition(self, state: PathState, models: Ints) -> None:
        """Rebuild the variables at the refit's last optimum, or the first fold's, if that costs less than the passes
        that the members took from there, or have taken since they were built beyond the few that a λ takes in any
        variables. λ of a member that share their passes count once.
        """
        if self.way == "newton":
            return
        run, last = state.run, self.members.before[models, 0]
        ended = self.members.points[state.point - 1]
        column = self.descent.problem.table.column[ended]
        taken = [int(run.evaluated[ended[column == member]].max()) for member in np.unique(column)]
        few = 1 if self.descent.build < 2 * FEW_PASSES else FEW_PASSES
        state.spent += sum(max(0, passes - few) for passes in taken)
        if max(state.spent, sum(taken)) > self.descent.build:
            weights = np.stack([run.finals[model] for model in last.tolist()])
            if self.descent.recondition(run, last, weights):
                run.pairs, state.spent = {}, 0
