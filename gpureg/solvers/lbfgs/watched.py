"""Descents of a model alone that tell of its iterations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpureg.events import Event
from gpureg.solvers.lbfgs.descent import LbfgsDescent
from gpureg.solvers.lbfgs.single import SingleDescent
from gpureg.solvers.lbfgs.state import LbfgsState
from gpureg.solvers.lbfgs.watching import Watch, tell
from gpureg.types import Floats


class WatchedDescent(LbfgsDescent):
    """`LbfgsDescent` of one model that tells `watch` of each iteration."""

    watch: Watch | None = None

    def advance(self, state: LbfgsState) -> Iterator[Event]:
        """See the protocol."""
        before = int(state.iterations[0])
        yield from super().advance(state)
        if self.watch is not None and state.iterations[0] > before:
            near = state.reasons[0] in ("converged", "precision")
            tell(self.watch, self, int(state.iterations[0]), lambda: _weights(state), near=near)


class WatchedSingle(WatchedDescent, SingleDescent):
    """`SingleDescent`, which tells of the iterations of its own loop, and so of those after it."""


def _weights(state: LbfgsState) -> Floats:
    """Weights `(K, D)` of the one model, wherever it is."""
    if state.batch is not None:
        return state.batch.weights(np.zeros(1, np.int64))[0]
    return state.waiting[0] if state.waiting else state.finals[0]
