"""Models that float32 can't bring to the tolerance are finished in float64, from where they are.

The gradients of float32 are too coarse if a penalty is weak, or if features differ much in scale. Only such models go
on, in a further stage: the rows of float32 are released, and placed again in float64. What the models reach is the
tolerance, or the resolution of float32 in the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from gpureg.backend import Backend
from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import EngineError, OutOfMemoryError
from gpureg.fitting.assemble import Trained
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.memory import chunks, needed
from gpureg.fitting.prepare import sizes_of
from gpureg.fitting.stages import Stages
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.doubled import MOST_DOUBLE_BYTES, coarse, together
from gpureg.solvers.problem import COLUMNS_AT_ONCE, Problem, Start
from gpureg.solvers.protocol import Solver
from gpureg.types import Ints


class Make(Protocol):
    """Places samples as a problem, in the type of a configuration."""

    def __call__(self, config: FitConfig, kernels: Kernels, *, blocking: Blocking | None) -> Problem:
        """With these kernels; `blocking`: how rows are cut in blocks."""
        ...


class Held:
    """Samples of a fit, placed on the device as a problem, which can be released and placed again in another type.

    `make` places them; `kernels` makes those that do, on a backend; `data`: the rows that they are from.
    """

    def __init__(self, data: Dataset, make: Make, kernels: Callable[[Backend], Kernels], problem: Problem) -> None:
        self.data, self.make, self.kernels = data, make, kernels
        self._problem: Problem | None = problem

    @property
    def problem(self) -> Problem:
        """The problem, unless it has been released."""
        assert self._problem is not None, "its rows have been released"
        return self._problem

    def release(self) -> None:
        """Let go of the rows, which are gone if nothing else holds them."""
        self._problem = None


class Double:
    """A problem in float64 with its kernels, placed by `make` when it is first needed; None if memory is short."""

    def __init__(self, make: Callable[[], tuple[Problem, Kernels] | None]) -> None:
        self._make, self._asked = make, False
        self._found: tuple[Problem, Kernels] | None = None

    def placed(self) -> tuple[Problem, Kernels] | None:
        """The problem and its kernels."""
        if not self._asked:
            self._asked, self._found = True, self._make()
        return self._found

    def drop(self) -> None:
        """Let go of them, for good."""
        self._found = None


@dataclass(frozen=True)
class Finisher:
    """Finishes the models of a fit's stages; `kernels` makes the fit's own on a backend."""

    stages: Stages
    config: FitConfig
    kernels: Callable[[Backend], Kernels]

    def finish(self, parts: Sequence[Trained], ids: Sequence[Ints], held: Held) -> list[Trained]:
        """Stages of the same rows, each with those of its models finished that float32 left short of the tolerance, in
        further stages; `ids`: the models' places in the whole batch.

        They stay as they are if there is too little memory: rows that are held may take `MOST_DOUBLE_BYTES` and the
        budget in float64, on Dask's workers together, and what is needed has to be free here. Models that go on release
        the rows of `held`.
        """
        solver, found = self.stages.solver.in_double(), list(parts)
        if solver is None:
            return found
        blocks = [self._blocks(solver, part, held.data) for part in parts]
        short = [part.take(models) for part, own in zip(parts, blocks, strict=True) for models in own]
        rows = Double(partial(self._placed, solver, short, held))
        for place, part in enumerate(parts):
            later = []
            for models in blocks[place]:
                ended = self._ended(solver, rows, part.take(models), ids[place][models], part.passes)
                later += [] if ended is None else [(models, ended.outcome, ended.history)]
            if later:
                outcome, history = together(self.config, part.table, (part.outcome, part.history), later)
                found[place] = replace(part, outcome=outcome, history=history)
        return found

    def _blocks(self, solver: Solver, part: Trained, data: Dataset) -> list[Ints]:
        """The models of a stage that are left, as many at a time as the budget allows."""
        left, (_, D, K) = coarse(part.outcome, self.config.max_iter), part.outcome.weights.shape
        if not len(left):
            return []
        memory, blocking = self.config.memory, self.stages.blocking
        if blocking is not None and blocking.streams:
            memory -= blocking.bytes_of(data, self.config.dtype)
        each = solver.bytes_per_model(len(data.y_train), D, K)
        return [left[block] for block in chunks(len(left), each, memory, batches=False)]

    def _ended(self, solver: Solver, rows: Double, short: Trained, ids: Ints, passes: int) -> Trained | None:
        """The models of `short` at the end of the stage that finishes them; None if they stay as they are."""
        stages = self.stages
        if stages.interrupted or not stages.finishes():
            return None
        done = stages.finished(short, ids, self.config.max_iter)
        placed = None if done is not None else rows.placed()
        if placed is None:
            return done
        problem, kernels = placed
        problem = replace(problem, table=short.table, start=Start(short.outcome.weights, short.outcome.steps))
        try:
            with kernels.backend.in_use():
                return stages.finish(solver, problem, ids, kernels, passes + 1)  # that of the start
        except (OutOfMemoryError, EngineError):
            rows.drop()
            return None

    def _placed(self, solver: Solver, short: Sequence[Trained], held: Held) -> tuple[Problem, Kernels] | None:
        """The rows in float64 for the models that are left, `short` those of each stage; None if memory is short."""
        before, config = self.stages.blocking, replace(self.config, dtype="float64")
        backend = replace(self.stages.kernels.backend, dtype="float64")
        kernels, blocking = held.kernels(backend), None if before is None else before.in_double()
        held.release()
        if before is not None:
            before.buffers.release()
        with backend.in_use():
            backend.release()
        if not _fits(solver, kernels, held.data, config, blocking, short):
            return None
        try:
            with backend.in_use():
                return held.make(config, kernels, blocking=blocking), kernels
        except (OutOfMemoryError, EngineError):
            return None


def _fits(
    solver: Solver,
    kernels: Kernels,
    data: Dataset,
    config: FitConfig,
    blocking: Blocking | None,
    short: Sequence[Trained],
) -> bool:
    """Whether the budget and the free memory allow rows in float64, and to work on the largest stage of `short`."""
    at_once = max(len(np.unique(solver.members(part.table))) for part in short)
    columns = max(int(part.table.column.max(initial=0)) for part in short) + 1
    sizes = sizes_of(data, config, at_once, columns, blocking)
    most = max(len(part.table) for part in short)
    sizes = replace(sizes, measured=min(most, max(1, COLUMNS_AT_ONCE // kernels.n_columns)))
    samples, work = needed(solver, kernels, sizes, at_once, config.memory - (sizes.streamed or 0))
    X: Any = data.X_train
    if sizes.streamed is None and max(samples, 8 * X.size) > min(MOST_DOUBLE_BYTES, config.memory):
        return False
    free = kernels.backend.free_memory()
    return free is None or samples + work <= free
