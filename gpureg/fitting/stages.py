"""`Parts`: a fit as a series of parts, the chunks of its grid and then the refit.

Each is trained, or taken from a checkpoint. Between epochs the parts that are done and the state of the running one go
to whoever keeps checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import OutOfMemoryError
from gpureg.events import Evaluated, Event, ModelStopped, Started
from gpureg.fitting.assemble import Trained
from gpureg.fitting.resume import Arrays, Keeper, Saved, not_of_this_fit, pack, restore, same_tables
from gpureg.fitting.trainer import train
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem
from gpureg.solvers.sgd.solver import SgdSolver
from gpureg.solvers.sgd.state import SgdState
from gpureg.types import Ints, StopReason


@dataclass(frozen=True)
class Hooks:
    """Whom a fit tells, whom it asks whether to stop at the next epoch boundary, and who keeps its checkpoints."""

    observe: Callable[[Event], None]
    should_stop: Callable[[], bool]
    keeper: Keeper | None = None


class Parts:
    """The parts of one fit, trained in turn.

    `about` makes what a checkpoint says of the fit; `saved` is one to go on from.
    """

    def __init__(
        self,
        kernels: Kernels,
        config: FitConfig,
        hooks: Hooks,
        about: Callable[[], dict[str, Any]],
        saved: Saved | None = None,
    ) -> None:
        self.kernels, self.config, self.hooks, self.saved = kernels, config, hooks, saved
        self.done: list[Trained] = []
        self.begun = time.perf_counter() - (saved.meta["seconds"] if saved else 0.0)
        self._make_about = about
        self._about: dict[str, Any] | None = None
        self._interrupted = False
        self._boundary: tuple[Arrays, dict[str, Any]] | None = None

    @property
    def seconds(self) -> float:
        """Wall time so far, with that before an interruption."""
        return time.perf_counter() - self.begun

    def train(self, problem: Problem, ids: Ints) -> Trained:
        """The next part: the models of `problem`, `ids` their place in the whole batch (-1 for the refit)."""
        number = len(self.done)
        if self.saved is not None and number < len(self.saved.parts):
            part = self.saved.parts[number]
            if not same_tables(part.table, problem.table):
                raise not_of_this_fit("other models")
            self._replay(problem, ids, part.outcome, part.history)
        elif self.config.solver == "lbfgs":
            part = self._by_lbfgs(problem, ids)
        else:
            part = self._by_sgd(problem, ids)
        self.done.append(part)
        self._keep(None, None)
        return part

    def _by_sgd(self, problem: Problem, ids: Ints) -> Trained:
        solver = SgdSolver(problem, self.kernels, self.config)
        resumed = self.saved is not None and self.saved.state is not None and len(self.done) == len(self.saved.parts)
        state = restore(self.saved, solver) if self.saved is not None and resumed else solver.start()
        observe = self.hooks.observe
        observe(Started(problem.table, ids, solver.steps_per_epoch, self.config.epochs, state.epoch))
        for event in _so_far(solver, state):
            observe(event)
        try:
            for event in train(
                solver, state, should_stop=self.hooks.should_stop, at_boundary=lambda state: self._keep(solver, state)
            ):
                observe(event)
        except OutOfMemoryError as error:
            raise self._saved_at_the_boundary(error) from error
        over = solver.done(state)
        if not over:  # before `finish`, which ends the running models and makes what is pending in a product of its own
            self._keep(solver, state, now=True)
            self._interrupted = True
        told = [reason is not None for reason in state.reasons]
        outcome, history = solver.finish(state, "max_epochs" if over else "interrupted")
        for event in _stops(outcome, [not known for known in told], solver.steps_per_epoch):
            observe(event)
        return Trained(problem.table, outcome, history)

    def _by_lbfgs(self, problem: Problem, ids: Ints) -> Trained:
        """To the optimum, from zero: an interrupted part is begun again (what came before it is kept)."""
        from gpureg.solvers.lbfgs.solver import run_lbfgs

        self.hooks.observe(Started(problem.table, ids, 0, self.config.max_iter))
        outcome, history = run_lbfgs(problem, self.kernels, self.config, self.hooks.observe, self.hooks.should_stop)
        if "interrupted" in outcome.reasons:
            self._keep(None, None, now=True)
            self._interrupted = True
        return Trained(problem.table, outcome, history)

    def _keep(self, solver: SgdSolver | None, state: SgdState | None, *, now: bool = False) -> None:
        """Hand over a checkpoint where it is time. After an interruption none: parts from then on are not the fit's."""
        keeper = self.hooks.keeper
        if keeper is None or self._interrupted:
            return
        if now or keeper.due():
            self._write(keeper, *pack(self.done, solver, state))
        elif self.kernels.backend.device != "cpu":
            # a device's memory can end in the middle of an epoch, when the state is no boundary's any more
            self._boundary = pack(self.done, solver, state)

    def _write(self, keeper: Keeper, arrays: Arrays, meta: dict[str, Any]) -> None:
        self._about = self._about or self._make_about()
        keeper.write(arrays, self._about | meta | {"seconds": self.seconds})
        self._boundary = None

    def _saved_at_the_boundary(self, error: OutOfMemoryError) -> OutOfMemoryError:
        """The error, with where the run goes on from; writes the last boundary's state where that is not done yet."""
        keeper = self.hooks.keeper
        if keeper is None:
            return error
        if self._boundary is not None:
            self._write(keeper, *self._boundary)
        if self._about is None:  # not even one epoch was over
            return error
        kept = OutOfMemoryError(f"{error} What was trained is kept: go on with --resume when there is more memory.")
        kept.saved = True
        return kept

    def _replay(self, problem: Problem, ids: Ints, outcome: Outcome, history: History) -> None:
        """Tell the observers of a part that was done before the interruption."""
        lbfgs, size = self.config.solver == "lbfgs", min(self.config.batch_size, problem.n)
        per_epoch, most = (0, self.config.max_iter) if lbfgs else (problem.n // size, self.config.epochs)
        epochs = int(outcome.steps.max(initial=0)) // max(1, per_epoch)
        self.hooks.observe(Started(problem.table, ids, per_epoch, most, epochs))
        measured, models = outcome.measured, np.arange(len(ids))
        last = int(history.eval_step[-1]) if len(history.eval_step) else 0
        self.hooks.observe(Evaluated(last, models, measured.val_loss, measured.val_accuracy, measured.train_accuracy))
        for event in _stops(outcome, [True] * len(ids), per_epoch):
            self.hooks.observe(event)


def _so_far(solver: SgdSolver, state: SgdState) -> Iterator[Event]:
    """What an observer needs of a state that training goes on from: the last evaluation, and who has stopped."""
    for step, models, values in state.evaluations:
        yield Evaluated(step, models, values[0], values[1], values[2])
    for model, reason in enumerate(state.reasons):
        if reason is not None:
            yield _stop(model, int(state.steps[model]), solver.steps_per_epoch, reason)


def _stops(outcome: Outcome, which: list[bool], per_epoch: int) -> Iterator[ModelStopped]:
    for model, wanted in enumerate(which):
        if wanted:
            yield _stop(model, int(outcome.steps[model]), per_epoch, outcome.reasons[model])


def _stop(model: int, steps: int, per_epoch: int, reason: StopReason) -> ModelStopped:
    return ModelStopped(model, steps, max(steps - 1, 0) // per_epoch if per_epoch else 0, reason)
