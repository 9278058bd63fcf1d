"""`train`: a generator of typed events; the only place where training time passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpureg.events import Event
from gpureg.solvers.sgd.solver import SgdSolver
from gpureg.solvers.sgd.state import SgdState


def train(
    solver: SgdSolver,
    state: SgdState,
    *,
    should_stop: Callable[[], bool],
    at_boundary: Callable[[SgdState], None],
) -> Iterator[Event]:
    """Run epochs until the solver is done or `should_stop()`, asked before each of them, says so.

    `state` is mutated; after every epoch, and when this ends, it is a boundary's state. `at_boundary` is shown it after
    every epoch (and may save it).
    """
    while not solver.done(state) and not should_stop():
        yield from solver.run_epoch(state)
        at_boundary(state)
