"""`Stages`: a fit as a series of stages: the chunks of its grid, those that finish some of their models in float64, and
the refit.

Each is trained, or taken from a checkpoint. Between epochs (or passes over the data) the stages that are done and the
state of the running one go to whatever keeps checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpureg.errors import EngineError, OutOfMemoryError
from gpureg.events import Evaluated, Event, Iterated, ModelStopped, Started
from gpureg.fitting.assemble import Trained, in_order
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.resume import Keeper, Running, Saved, not_of_this_fit, pack, restore, same_tables
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem
from gpureg.solvers.protocol import Descent, Solver
from gpureg.types import HostArrays, Ints, ModelTable


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a fit: it tells `observe` its events, asks `should_stop` at every boundary (an epoch or a pass over
    the data), and gives its checkpoints to `keeper`.
    """

    observe: Callable[[Event], None] = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    keeper: Keeper | None = None


class Stages:
    """The stages of one fit, trained in turn.

    `fingerprint` makes what identifies the fit in a checkpoint; `saved` is the checkpoint to resume from, if any;
    `blocking` says how rows are cut in blocks.
    """

    def __init__(
        self,
        kernels: Kernels,
        solver: Solver,
        hooks: Hooks,
        fingerprint: Callable[[], dict[str, Any]] = dict,
        saved: Saved | None = None,
        blocking: Blocking | None = None,
    ) -> None:
        self.blocking = blocking
        self.kernels, self.solver, self.hooks, self.saved = kernels, solver, hooks, saved
        self.done: list[Trained] = []
        self.begun = time.perf_counter() - (saved.meta["seconds"] if saved else 0.0)
        self._make_fingerprint = fingerprint
        self._fingerprint: dict[str, Any] | None = None
        self._interrupted = False
        self._boundary: tuple[HostArrays, dict[str, Any]] | None = None

    @property
    def seconds(self) -> float:
        """Wall time so far, including that before an interruption."""
        return time.perf_counter() - self.begun

    @property
    def interrupted(self) -> bool:
        """Whether a stage was stopped before its end."""
        return self._interrupted

    def train_all(self, problem: Problem, blocks: list[Ints]) -> Trained:
        """All models of the problem, a stage for each of the disjoint `blocks`, joined."""
        return in_order([self.train(problem.take(block), block) for block in blocks], blocks, problem.table)

    def train(self, problem: Problem, ids: Ints, kernels: Kernels | None = None) -> Trained:
        """The next stage: the models of `problem`, `ids` their place in the whole batch (-1 for the refit); `kernels`
        if others have placed its rows.
        """
        kernels = kernels or self.kernels
        with kernels.steady():
            descent = self.solver.on(problem, kernels)
        stage = self._saved(problem.table, (len(problem.table), problem.D, kernels.n_columns))
        if stage is None:
            stage = self._run(descent, problem.table, ids)
        else:
            self._replay(stage, ids, (descent.steps_per_epoch, descent.limit))
        return self._over(stage)

    def finishes(self) -> bool:
        """Whether the next stage may be one that finishes models of a stage before it. It is not if the checkpoint has
        another one there: one of a version that finished none, or of a fit that had too little memory for it.
        """
        number = len(self.done)
        return self.saved is None or not self.saved.begun(number, finishes=False)

    def finished(self, first: Trained, ids: Ints, limit: int) -> Trained | None:
        """The next stage if the checkpoint has it, and it finishes the models of `first`; else None. `limit`: the
        maximum number of iterations.
        """
        stage = self._saved(first.table, first.outcome.weights.shape, finishes=True)
        if stage is None:
            return None
        self._replay(stage, ids, (0, limit))
        return self._over(stage)

    def finish(self, solver: Solver, problem: Problem, ids: Ints, kernels: Kernels, passes: int) -> Trained:
        """The next stage, which finishes models that `passes` over the data have brought to the problem's start."""
        with kernels.steady():
            descent = solver.on(problem, kernels)
        return self._over(self._run(descent, problem.table, ids, passes))

    def _saved(self, table: ModelTable, shape: tuple[int, ...], *, finishes: bool = False) -> Trained | None:
        """The next stage as the checkpoint has it, if it is done there. Raises RunError if it is one of other models.

        `shape`: that of its weights.
        """
        if self.saved is None or len(self.done) >= len(self.saved.stages):
            return None
        stage = self.saved.stages[len(self.done)]
        if stage.finishes != finishes or not same_tables(stage.table, table) or stage.outcome.weights.shape != shape:
            raise not_of_this_fit("other models")
        return stage

    def _over(self, stage: Trained) -> Trained:
        self.done.append(stage)
        self._keep(None)
        return stage

    def _run(self, descent: Descent[Any], table: ModelTable, ids: Ints, before: int | None = None) -> Trained:
        """The loop that every solver goes through; `before`: the passes of the stage whose models this one finishes."""
        observe, told, finishes, passes = self.hooks.observe, set(), before is not None, before or 0
        with self.kernels.steady():
            resumes = self.saved is not None and self.saved.runs(len(self.done), finishes=finishes)
            running = Running(descent, restore(self.saved, descent) if resumes else descent.start(), finishes)
            state, per_epoch = running.state, descent.steps_per_epoch
            observe(Started(table, ids, per_epoch, descent.limit, passes + descent.reached(state), finishes))
            for event in self._course(running):
                if isinstance(event, ModelStopped):
                    told.add(event.model)
                observe(_after(passes, event))
            over, reached = descent.done(state), passes + descent.reached(state)
            if not over:  # before `finish`, which ends the running models and measures them in separate products
                self._keep(running, now=True)
                self._interrupted = True
            with self.kept():
                outcome, history = descent.finish(state, interrupted=not over)
        for event in _stops(outcome, [model not in told for model in range(len(ids))], per_epoch):
            observe(event)
        return Trained(table, outcome, history, reached, finishes)

    def _course(self, running: Running) -> Iterator[Event]:
        """The events of a state so far, and then those of all boundaries until the end or an interruption."""
        descent, state = running.descent, running.state
        yield from descent.so_far(state)
        with self.kept():
            while not descent.done(state) and not self.hooks.should_stop():
                yield from descent.advance(state)
                self._keep(running)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within the block, an error of the device's memory, or of workers, says how to resume, if there is something
        to resume from: the state of the last boundary is written then.
        """
        try:
            with self.kernels.backend.in_use():
                yield
        except (OutOfMemoryError, EngineError) as error:
            raise (error if error.saved else self._saved_at_the_boundary(error)) from error

    def _keep(self, running: Running | None, *, now: bool = False) -> None:
        """Hand over a checkpoint if it is due; none after an interruption: later stages are not part of the fit."""
        keeper = self.hooks.keeper
        if keeper is None or self._interrupted:
            return
        if not self.solver.resumable:
            running = None  # its stage is begun again
        if now or keeper.due():
            self._write(keeper, *pack(self.done, running))
        elif self.kernels.backend.device != "cpu" and (running is None or self.solver.light):
            # a device's memory can end between two boundaries, when the state is not one that can be packed
            self._boundary = pack(self.done, running)

    def _write(self, keeper: Keeper, arrays: HostArrays, meta: dict[str, Any]) -> None:
        self._fingerprint = self._fingerprint or self._make_fingerprint()
        keeper.write(arrays, self._fingerprint | meta | {"seconds": self.seconds})
        self._boundary = None

    def _saved_at_the_boundary(self, error: OutOfMemoryError | EngineError) -> OutOfMemoryError | EngineError:
        """The error, with how to resume; writes the state of the last boundary unless that is done."""
        keeper = self.hooks.keeper
        if keeper is None:
            return error
        if self._boundary is not None:
            self._write(keeper, *self._boundary)
        if self._fingerprint is None:  # not even one epoch was over
            return error
        then = "they are there again" if isinstance(error, EngineError) else "more memory is free"
        kept = type(error)(f"{error} What was trained is kept: resume with `gpureg train --resume` when {then}.")
        kept.saved = True
        return kept

    def _replay(self, stage: Trained, ids: Ints, epochs: tuple[int, int]) -> None:
        """Tell the observers of a stage that was done before the interruption; the steps and the limit of `epochs`."""
        (per_epoch, limit), outcome = epochs, stage.outcome
        reached = int(outcome.steps.max(initial=0)) // max(1, per_epoch)
        self.hooks.observe(Started(stage.table, ids, per_epoch, limit, reached, stage.finishes))
        measured, models, steps = outcome.measured, np.arange(len(ids)), stage.history.eval_step
        last = int(steps[-1]) if len(steps) else 0
        self.hooks.observe(Evaluated(last, models, measured.val_loss, measured.val_accuracy, measured.train_accuracy))
        for event in _stops(outcome, [True] * len(ids), per_epoch):
            self.hooks.observe(event)


def _after(passes: int, event: Event) -> Event:
    """The event, as one of a fit that has made these passes before."""
    return replace(event, iteration=passes + event.iteration) if passes and isinstance(event, Iterated) else event


def _stops(outcome: Outcome, which: list[bool], per_epoch: int) -> Iterator[ModelStopped]:
    for model in np.flatnonzero(which).tolist():
        steps = int(outcome.steps[model])
        yield ModelStopped(model, steps, max(steps - 1, 0) // per_epoch if per_epoch else 0, outcome.reasons[model])
