"""A single model alone; on few samples what surrounds a product takes longer than the product.

A model of one column with fewer samples than features begins in a number per sample (`dual`). Where that is not for it,
a tiny model of several columns takes Newton's steps (`newton`), one of many logits L-BFGS's without a batch around them
(`alone`), any other Newton's by conjugate gradients (`truncated`). Every evaluation computes the bound on the gap to
the optimum, and the first point that meets the tolerance is the answer. If such a loop gives up before that, another
continues from the best point so far, and at last the batched solver.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np

from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels.cpu.curved_tile import HELD_ELEMENTS
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.alone import Stretch, descend
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.dual import dual
from gpureg.solvers.lbfgs.newton import newton, polished
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.solvers.lbfgs.truncated import truncated
from gpureg.solvers.lbfgs.watching import Watch, tell
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import Floats, StopReason

MOST_WORK = 1 << 29  # n D K, the multiply-adds of a product, up to which this is the faster way
MOST_LOGITS = 1 << 24  # n K, which are held at once
MOST_SAMPLES = 1 << 26  # n D, which may have to be copied
MOST_WIDENED = 1 << 18  # n K, up to which samples in float32 are worth a copy in float64 (measured)
WIDENED_WORK, WIDENED_ROWS = 1 << 26, 8  # and n D K, or rows for each feature: more make better variables cheap
MOST_ITERATIONS = 300  # after which a model that has no Hessian is worth the batched solver's better line search
MOST_TRUNCATED = 1 << 19  # n K, of several columns, up to which products are so much cheaper than losses (measured)
LOOP = 7e4  # multiply-adds that take as long as what a loop does around one of its passes
LEAST_FEATURES = 16  # of a tiny model of several columns: below, losses cost as much as products
OWN = 40  # iterations of L-BFGS on such samples
MOST_SECOND, MOST_AFTER = 1e9, 10  # n (D K)² of a Hessian that is tried then, and iterations
MOST_NEWTON = 50  # iterations, where some ten suffice


def is_single(problem: Problem, kernels: Kernels) -> bool:
    """Whether the problem is one model, on the CPU, with so few samples that the time between products dominates."""
    alone = len(problem.table) == 1 and kernels.backend.device == "cpu"
    return alone and is_worth_it_alone(problem.n, problem.D, kernels.n_columns, kernels.backend.dtype)


def is_worth_it_alone(n: int, D: int, K: int, dtype: str = "float64") -> bool:
    """Whether a model of D K weights on n samples is small enough. Its loop is in float64, as float32's gradients are
    too coarse for a line search near the optimum: samples in float32 are copied for it, unless they are many.
    """
    if dtype == "float32" and (n * K > MOST_WIDENED or (n * D * K > WIDENED_WORK and n > WIDENED_ROWS * D)):
        return False
    return n * D * K <= MOST_WORK and n * K <= MOST_LOGITS and n * D <= MOST_SAMPLES


def near_bytes(n: int, D: int, K: int, dtype: str = "float64") -> int:
    """What `OneModel.curved` holds: the samples again, at most in float64, in addition to the copy of those in float32;
    logits, residuals and probabilities at a point, their change, and the parts of a step.
    """
    return n * ((8 + 8 * (dtype == "float32")) * D + 56 * K) + 8 * HELD_ELEMENTS


def _newtons_cost(n: int, D: int, K: int) -> float:
    """What Newton's method costs a tiny model, in iterations of L-BFGS. Measured on samples around random centres: a
    Hessian takes as long as 1 + D K / 6 passes.
    """
    work = float(n * D * K)
    return 7.0 * ((2.0 + D * K / 6.0) * work + LOOP) / (work + LOOP)


def try_alone(trials: Trials, W: Floats, room: int, hessians: Hessians) -> None:
    """Go from the point `W (K, D)` towards the optimum in at most `room` iterations; `trials.met` says whether it was
    reached.
    """
    n, (K, D) = trials.goal.n, W.shape
    last, tiny = len(trials.course) + room, hessians.newton_first(n, K * D)
    newtons = _newtons_cost(n, D, K)
    dual(trials, W, room)
    if trials.met:
        return
    W, room = _best(trials, W), last - len(trials.course)
    if K == 1 or (n * K <= MOST_TRUNCATED and (not tiny or (newtons > OWN and D >= LEAST_FEATURES))):
        truncated(trials, W, room)
        if not (trials.met or tiny) and n * (K * D) ** 2 <= MOST_SECOND:  # float32 did not know the model well enough
            newton(trials, _best(trials, W), min(last - len(trials.course), MOST_AFTER))
    if trials.met:
        return
    if tiny:
        if newtons > OWN and K > 1:
            descend(trials, W, Stretch(OWN, newtons, room))
        if not trials.met:
            newton(trials, _best(trials, W), min(last - len(trials.course), MOST_NEWTON))
        return
    room = min(last - len(trials.course), MOST_ITERATIONS)
    price = float(hessians.handover(n, K * D) or 0)
    descend(trials, _best(trials, W), Stretch(int(price) or MOST_ITERATIONS, price, room))


def try_briefly(trials: Trials, W: Floats, room: int, products: int) -> None:
    """`try_alone` of a model of one column, as long as that takes no more than about a number of `products`."""
    last = len(trials.course) + room
    dual(trials, W, room)
    if not trials.met:
        truncated(trials, _best(trials, W), last - len(trials.course), products)


def _best(trials: Trials, W: Floats) -> Floats:
    """The best point so far, W before the first."""
    return W if trials.best is None else trials.best.W


class SingleDescent(LbfgsDescent):
    """`LbfgsDescent` of one model, which a loop of its own brings as far as it can in the first `advance`; `watch` sees
    its iterations.
    """

    watch: Watch | None = None

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol."""
        if state.passes == 0 and state.batch is None and self._goal.model.double:
            with np.errstate(all="ignore"):
                trials = self._tried(state)
            yield from self._arrive(state, trials)
            if self.done(state):
                return
        yield from super().advance(state)

    def finish(self, state: LbfgsState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See the protocol; a tolerance below what an objective can resolve is met by one more step, Newton's, if the
        model's Hessian is worth it.
        """
        beyond = self.config.dtype == "float64" and bool(self.accuracy.tolerance[0] < self.accuracy.resolution)
        arrived = not interrupted and state.reasons[0] in ("converged", "precision")
        if beyond and arrived and self.first != "newton" and self.handover is not None:
            with np.errstate(all="ignore"):
                last = polished(self._goal, self._goal.inside(state.finals[0]))
            if last is not None:
                self._end(state, last)
                state.hits[0] = np.nan
        return super().finish(state, interrupted=interrupted)

    @cached_property
    def _goal(self) -> Goal:
        problem, table = self.problem, self.problem.table
        centre = None if self.config.penalizes_bias else problem.train.mean()[:-1]
        model = problem.train.one_model(int(table.column[0]) if problem.weighted else None, centre)
        aim = None if self.target is None else float(self.target[0])
        least, l2 = float(self.accuracy.tolerance[0]), float(table.l2[0])
        return Goal(model, self.kernels.loss, problem.n, self.K, l2, centre, least, self.accuracy.resolution, aim)

    def _tried(self, state: LbfgsState) -> Trials:
        """The trials of the loops, to their end."""
        goal, before = self._goal, int(state.iterations[0])
        trials = Trials(goal, before, None if self.watch is None else partial(self._told, self.watch))
        try_alone(trials, goal.inside(state.waiting[0]), self.config.max_iter - before, self.hessians)
        return trials

    def _told(self, watch: Watch, iterations: int, best: Trial, met: bool) -> None:
        tell(watch, self, iterations, lambda: self._goal.outside(best.W), near=met)

    def _arrive(self, state: LbfgsState, trials: Trials) -> Iterator[Event]:
        """Stop at the best point if it is good enough, or if the iterations are used up; else continue from it."""
        best, model = trials.best, np.zeros(1, np.int64)
        state.passes = trials.evaluations
        state.evaluated = state.evaluated + trials.evaluations
        if best is None or not np.isfinite(best.objective):
            return
        for number, (objective, bound) in enumerate(trials.course):
            state.course.append((model, state.iterations + number + 1, np.array([[objective], [bound]])))
        spent = bool(trials.iterations >= self.config.max_iter)
        state.iterations = state.iterations + len(trials.course)
        state.waiting = {0: self._goal.outside(best.W)}
        state.way = self.first if self.handover is None else "whitened"
        if trials.met or spent:
            yield from self._stop(state, best, "converged" if trials.met else "max_iter")

    def _stop(self, state: LbfgsState, best: Trial, reason: StopReason) -> Iterator[Event]:
        """Stop at a point whose loss and gradient are known."""
        state.reasons[0], state.waiting = reason, {}
        self._end(state, best)
        yield Iterated(state.passes, np.zeros(1, np.int64), np.array([best.objective]))
        yield ModelStopped(0, int(state.iterations[0]), 0, reason)

    def _end(self, state: LbfgsState, trial: Trial) -> None:
        """Its point, with the loss and the gradient there, is the last."""
        state.finals[0], state.losses[0] = self._goal.outside(trial.W), trial.loss
        state.gradients[0] = self._goal.slope_outside(trial.gradient)
