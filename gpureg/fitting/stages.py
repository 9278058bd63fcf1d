"""`Stages`: a fit as a series of stages, the chunks of its grid and then the refit.

Each is trained, or taken from a checkpoint. Between epochs (or passes over the data) the stages that are done and the
state of the running one go to whatever keeps checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.errors import EngineError, OutOfMemoryError
from gpureg.events import Evaluated, Event, ModelStopped, Started
from gpureg.fitting.assemble import Trained, in_order
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.resume import Keeper, Saved, not_of_this_fit, pack, restore, same_tables
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem
from gpureg.solvers.protocol import Descent, Solver
from gpureg.types import HostArrays, Ints


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
        number, kernels = len(self.done), kernels or self.kernels
        with kernels.steady():
            descent = self.solver.on(problem, kernels)
        if self.saved is not None and number < len(self.saved.stages):
            stage = self.saved.stages[number]
            shape = (len(problem.table), problem.D, kernels.n_columns)
            if not same_tables(stage.table, problem.table) or stage.outcome.weights.shape != shape:
                raise not_of_this_fit("other models")
            self._replay(descent, stage, ids)
        else:
            stage = self._run(descent, problem, ids)
        self.done.append(stage)
        self._keep(None)
        return stage

    def _run(self, descent: Descent[Any], problem: Problem, ids: Ints) -> Trained:
        """The loop that every solver goes through."""
        observe, told = self.hooks.observe, set()
        with self.kernels.steady():
            saved = self.saved if self.saved is not None and len(self.done) == len(self.saved.stages) else None
            state = restore(saved, descent) if saved is not None and saved.state is not None else descent.start()
            observe(Started(problem.table, ids, descent.steps_per_epoch, descent.limit, descent.reached(state)))
            for event in self._course(descent, state):
                if isinstance(event, ModelStopped):
                    told.add(event.model)
                observe(event)
            over = descent.done(state)
            if not over:  # before `finish`, which ends the running models and measures them in separate products
                self._keep((descent, state), now=True)
                self._interrupted = True
            with self.kept():
                outcome, history = descent.finish(state, interrupted=not over)
        for event in _stops(outcome, [model not in told for model in range(len(ids))], descent.steps_per_epoch):
            observe(event)
        return Trained(problem.table, outcome, history)

    def _course(self, descent: Descent[Any], state: Any) -> Iterator[Event]:
        """The events of a state so far, and then those of all boundaries until the end or an interruption."""
        yield from descent.so_far(state)
        with self.kept():
            while not descent.done(state) and not self.hooks.should_stop():
                yield from descent.advance(state)
                self._keep((descent, state))

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

    def _keep(self, running: tuple[Descent[Any], Any] | None, *, now: bool = False) -> None:
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

    def _replay(self, descent: Descent[Any], stage: Trained, ids: Ints) -> None:
        """Tell the observers of a stage that was done before the interruption."""
        per_epoch, outcome = descent.steps_per_epoch, stage.outcome
        epochs = int(outcome.steps.max(initial=0)) // max(1, per_epoch)
        self.hooks.observe(Started(stage.table, ids, per_epoch, descent.limit, epochs))
        measured, models, steps = outcome.measured, np.arange(len(ids)), stage.history.eval_step
        last = int(steps[-1]) if len(steps) else 0
        self.hooks.observe(Evaluated(last, models, measured.val_loss, measured.val_accuracy, measured.train_accuracy))
        for event in _stops(outcome, [True] * len(ids), per_epoch):
            self.hooks.observe(event)


def _stops(outcome: Outcome, which: list[bool], per_epoch: int) -> Iterator[ModelStopped]:
    for model in np.flatnonzero(which).tolist():
        steps = int(outcome.steps[model])
        yield ModelStopped(model, steps, max(steps - 1, 0) // per_epoch if per_epoch else 0, outcome.reasons[model])
