"""The solvers' protocol: a solver is a value, made from the options; on a problem it becomes a descent.

One loop serves them all (`fitting.stages`):

    descent = solver.on(problem, kernels)
    state = descent.start()
    while not descent.done(state) and not should_stop():
        for event in descent.advance(state):
            observe(event)
    outcome, history = descent.finish(state)

Between two calls of `advance` the state is at a boundary: `pack` turns it into plain arrays and JSON, and `unpack` into
a state from which a descent continues to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from gpureg.events import Event
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem
from gpureg.types import HostArrays, Ints, ModelTable

S = TypeVar("S")


class Descent(Protocol[S]):
    """A solver on a problem. Its state is a separate value, S, which `advance` brings up to date."""

    @property
    def steps_per_epoch(self) -> int:
        """The steps from one boundary to the next, 0 where the solver has no epochs."""
        ...

    @property
    def limit(self) -> int:
        """The maximum number of epochs (or of iterations, without epochs)."""
        ...

    def start(self) -> S:
        """The state at the problem's start."""
        ...

    def reached(self, state: S) -> int:
        """The epochs (or passes over the data, without epochs) that are over."""
        ...

    def so_far(self, state: S) -> Iterator[Event]:
        """The events that an observer needs to catch up with a state from which a descent continues."""
        ...

    def done(self, state: S) -> bool:
        """Whether every model has stopped."""
        ...

    def advance(self, state: S) -> Iterator[Event]:
        """Go to the next boundary, which is reached when the iterator is exhausted."""
        ...

    def finish(self, state: S, *, interrupted: bool = False) -> tuple[Outcome, History]:
        """Measure every model at its final weights; the state is used up. `interrupted`: some still ran."""
        ...

    def pack(self, state: S) -> tuple[HostArrays, dict[str, Any]]:
        """A boundary's state as arrays and JSON, which a later `advance` leaves as they are."""
        ...

    def unpack(self, arrays: HostArrays, meta: dict[str, Any]) -> S:
        """The inverse of `pack`. Raises ValueError or KeyError for anything that is not a state of this problem."""
        ...


class Solver(Protocol):
    """What a fit asks of a solver before there is a problem. D counts the features with the bias, K a model's
    columns, n the training rows."""

    @property
    def name(self) -> str:
        """The name that `--solver` takes."""
        ...

    @property
    def minibatches(self) -> bool:
        """Whether a step sees a batch of the rows, and not all of them."""
        ...

    @property
    def resumable(self) -> bool:
        """Whether its descents can be packed; one that can't starts again."""
        ...

    @property
    def light(self) -> bool:
        """Whether a state is small enough to be copied to the host at every boundary."""
        ...

    @property
    def factorises(self) -> bool:
        """Whether it factorises matrices on the device."""
        ...

    @property
    def wants_validation(self) -> bool:
        """Whether its options make no sense without validation rows (or folds)."""
        ...

    @property
    def queued(self) -> int:
        """The maximum number of evaluations that are made in one product."""
        ...

    @property
    def refits_along(self) -> bool:
        """Whether a cross-validation trains the refit of every λ alongside its folds; otherwise only that of the chosen
        λ, later."""
        ...

    def members(self, table: ModelTable) -> Ints:
        """The member `(L,)`, from 0, to which each model belongs: models of a member are trained one after the other,
        and never apart. Work arrays are those of one model a member.
        """
        ...

    def bytes_per_model(self, n: int, D: int, K: int) -> int:
        """Bytes of work arrays that one member adds."""
        ...

    def shared_bytes(self, n: int, D: int, K: int, members: int, measured: int, *, dense: bool) -> int:
        """Bytes of work arrays that are bounded, whatever the number of models: `members` run at the same time, and at
        the end `measured` models are certified at the same time. `dense`: whether the samples are held as a matrix.
        """
        ...

    def notices(self, kernels: Kernels, n: int, D: int) -> list[str]:
        """Notices for the user before the start. Raises UsageError for options that can't work."""
        ...

    def remarks(self, table: ModelTable, outcome: Outcome, history: History, constant: float) -> list[str]:
        """Notices for the user about the models of `table`; `constant`: the best constant predictor's loss, in nats."""
        ...

    def in_double(self) -> Solver | None:
        """The solver that finishes, in float64, models for which float32 is too coarse; None if there is none."""
        ...

    def on(self, problem: Problem, kernels: Kernels) -> Descent[Any]:
        """The descent on a problem whose rows the kernels have placed."""
        ...
