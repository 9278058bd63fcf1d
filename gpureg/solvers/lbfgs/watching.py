"""Watching a single model while it is fitted: what its weights would be if it stopped now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gpureg.history import History
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.problem import Outcome
from gpureg.types import Floats, StopReason

# Called after each iteration of a model alone: the number of iterations so far, and what gives its weights `(D, K)` as
# if it had stopped there. Those are of this moment: they are asked for before the call returns, or not at all. A number
# may come again when another loop takes over.
Watch = Callable[[int, Callable[[], Floats]], None]


class Finishing(Protocol):
    """What ends a fit: `LbfgsDescent` and those that are made of it."""

    def blank(self) -> LbfgsState:
        """A state in which no model waits."""
        ...

    def finish(self, state: LbfgsState, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """See `gpureg.solvers.protocol.Descent`."""
        ...


def tell(watch: Watch, descent: Finishing, iterations: int, point: Callable[[], Floats], *, near: bool) -> None:
    """Tell `watch` of a model alone after its `iterations`; `point` gives its weights `(K, D)`, `near` says whether it
    is as near the optimum as was asked for.
    """
    watch(iterations, partial(_stopped, descent, iterations, point, "converged" if near else "max_iter"))


def _stopped(descent: Finishing, iterations: int, point: Callable[[], Floats], reason: StopReason) -> Floats:
    """Weights `(D, K)` after the end of a fit that stops at a point, with the last step that some fits end with."""
    state = descent.blank()
    state.finals[0], state.reasons[0], state.iterations[0] = point(), reason, iterations
    return descent.finish(state)[0].weights[0]
