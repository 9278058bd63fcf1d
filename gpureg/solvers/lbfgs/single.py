"""A single model on few samples, where what surrounds a product takes longer than the product.

A tiny model takes Newton's steps (`newton`), any other SciPy's loop in conditioned variables (`borrowed`). Every
evaluation computes the bound on the gap to the optimum, and the first point that meets the tolerance is the answer. If
such a loop gives up before that, the batched solver continues from the best point so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from gpureg.events import Event, Iterated, ModelStopped
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.borrowed import Stretch, borrow
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.newton import newton, polished
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.lbfgs.trials import Goal, Trial, Trials
from gpureg.solvers.lbfgs.watching import Watch
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import StopReason

MOST_WORK = 1 << 25  # n D K, the multiply-adds of a product, up to which this is the faster way
MOST_ITERATIONS = 300  # after which a model that has no Hessian is worth the batched solver's better line search
LOOP = 7e4  # multiply-adds that take as long as what SciPy's loop does around one of its passes
MOST_NEWTON = 50  # iterations, where some ten suffice


def is_single(problem: Problem, kernels: Kernels) -> bool:
    """Whether the problem is one model, on the CPU, with so few samples that the time between products dominates.

    In float64: float32's gradients are too coarse for SciPy's line search near the optimum.
    """
    backend, work = kernels.backend, problem.n * problem.D * kernels.n_columns
    return len(problem.table) == 1 and (backend.device, backend.dtype) == ("cpu", "float64") and work <= MOST_WORK


def _costs(D: int, K: int) -> tuple[float, float]:
    """What Newton's method costs a tiny model in passes, and the passes that SciPy's loop takes. Measured on samples
    around random centres: a Hessian takes as long as 1 + D K / 10 passes.
    """
    return 8.0 * (2.0 + D * K / 10.0), 18.0 if K == 1 else 40.0


class SingleDescent(LbfgsDescent):
    """`LbfgsDescent` of one model, which a loop of its own brings as far as it can in the first `advance`; `watch` sees
    its iterations.
    """

    watch: Watch | None = None

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol."""
        if state.passes == 0 and state.batch is None:
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
        beyond = bool(self.accuracy.tolerance[0] < self.accuracy.resolution)
        arrived = not interrupted and state.reasons[0] in ("converged", "precision")
        if beyond and arrived and self.first != "newton" and self.handover is not None:
            with np.errstate(all="ignore"):
                last = polished(self._goal, state.finals[0])
            if last is not None:
                state.finals[0], state.losses[0], state.gradients[0] = last.W, last.loss, last.gradient
                state.hits[0] = np.nan
        return super().finish(state, interrupted=interrupted)

    @cached_property
    def _goal(self) -> Goal:
        free, loss = not self.config.penalizes_bias, self.kernels.loss
        return Goal.of(self.problem, loss, self.K, self.accuracy, self.target, free=free)

    def _tried(self, state: LbfgsState) -> Trials:
        """The trials of the loops, to their end."""
        W, before = state.waiting[0], int(state.iterations[0])
        trials = Trials(self._goal, before, None if self.watch is None else (self.watch, self))
        room, kernels, rows = self.config.max_iter - before, self.kernels, self.problem.train
        if self.first != "newton":
            least, price = self.handover or MOST_ITERATIONS, float(self.handover or 0)
            borrow(trials, kernels, rows, W, Stretch(least, price, min(room, MOST_ITERATIONS)))
            return trials
        newtons, passes = _costs(self.problem.D, self.K)
        if newtons > passes * (1.0 + LOOP / (self.problem.n * self.problem.D * self.K)):
            borrow(trials, kernels, rows, W, Stretch(int(passes), newtons, room))
        if not trials.met:
            W = W if trials.best is None else trials.best.W
            newton(trials, W, min(room - len(trials.course), MOST_NEWTON))
        return trials

    def _arrive(self, state: LbfgsState, trials: Trials) -> Iterator[Event]:
        """Stop at the best point if it is good enough, or if the iterations are used up; else continue from it."""
        best, model = trials.best, np.zeros(1, np.int64)
        state.passes = trials.evaluations
        if best is None or not np.isfinite(best.objective):
            return
        for number, (objective, bound) in enumerate(trials.course):
            state.course.append((model, state.iterations + number + 1, np.array([[objective], [bound]])))
        spent = bool(trials.iterations >= self.config.max_iter)
        state.iterations = state.iterations + len(trials.course)
        state.waiting, state.way = {0: best.W}, self.first if self.handover is None else "whitened"
        if trials.met or spent:
            yield from self._stop(state, best, "converged" if trials.met else "max_iter")

    def _stop(self, state: LbfgsState, best: Trial, reason: StopReason) -> Iterator[Event]:
        """Stop at a point whose loss and gradient are known."""
        state.reasons[0], state.finals[0], state.waiting = reason, best.W, {}
        state.losses[0], state.gradients[0] = best.loss, best.gradient
        yield Iterated(state.passes, np.zeros(1, np.int64), np.array([best.objective]))
        yield ModelStopped(0, int(state.iterations[0]), 0, reason)
