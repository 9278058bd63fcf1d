"""`Batch`: the models that run side by side. `LbfgsState`: where a whole fit stands, and its history when it is
over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gpureg.history import History
from gpureg.solvers.lbfgs.certificate import Certificate
from gpureg.solvers.lbfgs.conditioning import Conditioning, centred, conditioned
from gpureg.solvers.lbfgs.directions import Directions, Newton, QuasiNewton
from gpureg.solvers.lbfgs.hessian import Whitened, whitened
from gpureg.solvers.lbfgs.objective import Objective
from gpureg.solvers.lbfgs.search import LineSearch
from gpureg.solvers.problem import Measured
from gpureg.types import Array, Floats, Ints, ModelTable, StopReason

Way = Literal["newton", "quasi", "whitened"]
WAYS: tuple[Way, ...] = get_args(Way)
VECTORS = ("v", "g", "d")  # of a batch, on the device
NUMBERS = ("objective", "slope", "bias", "least", "idle", "age", "origin")  # of each of its models, on the host


@dataclass
class Batch:
    """The running models, `active (A,)`, at the points they have accepted.

    On the device `v, g, d (A, P)`: variables, gradient, direction. On the host, each `(A,)`: `objective`, `slope`
    (squared norm of the gradient in the penalised weights), `bias` (in a free bias), `least` the smallest of their sum
    so far and `idle` the iterations since; `age` the iterations in this batch, `origin` the objective they began at.
    `way`: whose directions they are.
    """

    active: Ints
    objective_of: Objective
    conditioning: Conditioning | Whitened
    directions: Directions
    way: Way
    search: LineSearch
    v: Array
    g: Array
    d: Array
    objective: Floats
    slope: Floats
    bias: Floats
    least: Floats
    idle: Ints
    age: Ints
    origin: Floats

    @classmethod
    def begin(cls, objective: Objective, active: Ints, W: Floats, *, way: Way, noise: float) -> Batch:
        """Models `active (A,)` at weights `W (A, K, D)`, `objective` being that of these models; one pass."""
        kernels, free = objective.kernels, not objective.penalize_bias
        xp, A = kernels.backend.xp, len(active)
        at = kernels.backend.from_host(np.ascontiguousarray(W, np.float64))
        conditioning: Conditioning | Whitened
        directions: Directions
        if way == "newton":
            conditioning, centre = centred(kernels, objective.rows, free=free)
            directions = Newton(objective, centre)
        else:
            directions = QuasiNewton(objective, A, W[0].size)
            if way == "whitened":
                conditioning = whitened(objective, at)
            else:
                conditioning = conditioned(kernels, objective.rows, objective.table.l2, free=free)
        v = conditioning.variables(at) if W.any() else at
        there = conditioning.weights(v)
        value = objective.value(there)
        g, slope, bias = conditioning.slope(value.gradient)
        host = kernels.to_host(xp.stack([value.loss, value.penalty, slope, bias], axis=0))  # sync
        v, g = xp.reshape(v, (A, -1)), xp.reshape(g, (A, -1))
        d = directions.direction(np.ones(A, bool), (v, v), g, there, host, host) if way == "newton" else -g
        zero, norm, objectives = np.zeros(A, np.int64), host[2] + host[3], host[0] + host[1]
        search = LineSearch(A, noise)
        numbers = (objectives, host[2], host[3], norm, zero, zero, objectives)
        return cls(active, objective, conditioning, directions, way, search, v, g, d, *numbers)

    def take(self, keep: Ints) -> None:
        """Take all but the models at the places `keep` out of the batch."""
        kernels = self.objective_of.kernels
        xp, places = kernels.backend.xp, kernels.backend.from_host(np.asarray(keep, np.int64))
        self.active = self.active[keep]
        self.objective_of = self.objective_of.take(keep)
        self.conditioning = self.conditioning.take(keep)
        self.directions.take(keep, places, self.objective_of)
        self.search.take(keep)
        for name in VECTORS:
            setattr(self, name, xp.take(getattr(self, name), places, axis=0))
        for name in NUMBERS:
            setattr(self, name, getattr(self, name)[keep])

    def weights(self, places: Ints) -> Floats:
        """Weights `(B, K, D)` of the models at `places`, on the host."""
        kernels = self.objective_of.kernels
        index = kernels.backend.from_host(np.asarray(places, np.int64))
        shape = (len(places), kernels.n_columns, self.objective_of.D)
        v = kernels.backend.xp.reshape(kernels.backend.xp.take(self.v, index, axis=0), shape)
        return kernels.to_host(self.conditioning.take(places).weights(v))  # sync


@dataclass
class LbfgsState:
    """A fit of L models: `waiting`, the weights `(K, D)` of those that begin a batch, which goes the way `way`; the
    running `batch`, None between two; `iterations (L,)`; `reasons` and `finals` (weights `(K, D)`) of those that have
    stopped; `passes` over the data, trials only; `course`, what was noted of models after some of their iterations.
    """

    waiting: dict[int, Floats]
    way: Way
    iterations: Ints
    reasons: list[StopReason | None]
    batch: Batch | None = None
    passes: int = 0
    finals: dict[int, Floats] = field(default_factory=dict)
    course: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)

    def note(self, batch: Batch, places: npt.NDArray[np.bool_], gap_bound: Floats) -> None:
        """Record the objective and the bound on the gap, `gap_bound (A,)`, of the models at `places (A,)`."""
        models = batch.active[places]
        numbers = np.stack([batch.objective[places], gap_bound[places]])
        self.course.append((models, self.iterations[models], numbers))


def build_history(
    state: LbfgsState, table: ModelTable, measured: Measured, certificates: Sequence[Certificate]
) -> History:
    """Objective and bound after each iteration of a model, those of its certificate after the last; its losses and
    accuracies after the last.
    """
    last, models = state.iterations, np.arange(len(table))
    shape = (int(last.max(initial=0)) + 1, len(table))
    objective, gap_bound, *evaluated = np.full((5, *shape), np.nan)
    for mine, rows, numbers in state.course:
        objective[rows, mine], gap_bound[rows, mine] = np.where(np.isfinite(numbers), numbers, np.nan)
    for name, array in (("objective", objective), ("gap_bound", gap_bound)):
        array[last, models] = [np.nan if (value := known[name]) is None else value for known in certificates]
    for array, name in zip(evaluated, ("val_loss", "val_accuracy", "train_accuracy"), strict=True):
        array[last, models] = getattr(measured, name)
    return History(
        step_loss=np.zeros((0, len(table))),
        eval_step=np.arange(shape[0]),
        val_loss=evaluated[0],
        val_accuracy=evaluated[1],
        train_accuracy=evaluated[2],
        l2=table.l2,
        lr=table.lr,
        fold=table.fold,
        seed=table.seed,
        objective=objective,
        gap_bound=gap_bound,
    )
