"""`Batch`: the models that run side by side. `LbfgsState`: the state of a whole fit, and its history at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gpureg.history import History
from gpureg.kernels.lines import Line
from gpureg.solvers.lbfgs.certificate import Certificate
from gpureg.solvers.lbfgs.conditioning import Conditioning, Spectrum, centred
from gpureg.solvers.lbfgs.directions import Directions, Newton, QuasiNewton, inner_products
from gpureg.solvers.lbfgs.hessian import Whitened, whitened
from gpureg.solvers.lbfgs.look import Look
from gpureg.solvers.lbfgs.objective import Objective, Value
from gpureg.solvers.lbfgs.pairs import Heritage
from gpureg.solvers.lbfgs.point import Known, Point
from gpureg.solvers.lbfgs.search import LineSearch
from gpureg.solvers.problem import Measured
from gpureg.types import Array, Floats, Ints, ModelTable, StopReason

Way = Literal["newton", "quasi", "whitened"]
WAYS: tuple[Way, ...] = get_args(Way)
VECTORS = ("v", "g", "d", "gradient")  # of a batch, on the device
# of each of its models, on the host
NUMBERS = ("objective", "loss", "slope", "bias", "hits", "least", "idle", "age", "origin")


@dataclass
class Batch:
    """The running models, `active (A,)`, at the points they have accepted.

    On the device `v, g, d (A, P)`: variables, gradient in them, direction; `gradient (A, P)` is that in the weights. On
    the host, each `(A,)`: `objective`, `loss` (the data's part), `slope` (squared norm of the gradient in the penalised
    weights), `bias` (in a free bias, over its curvature), `hits` (NaN if not counted), `least` the smallest sum of
    slope and bias so far and `idle` the iterations since; `age` the iterations in this batch, `origin` the objective
    they began at. `way`: whose directions they are. `W (A, K, D)`: the weights at the last pass's trial points, on the
    device, and `lines`: the logits there, if they were kept.
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
    gradient: Array
    objective: Floats
    loss: Floats
    slope: Floats
    bias: Floats
    hits: Floats
    least: Floats
    idle: Ints
    age: Ints
    origin: Floats
    W: Array | None = None
    lines: tuple[Line, ...] | None = None

    @classmethod
    def begin(
        cls,
        objective: Objective,
        active: Ints,
        W: Floats | None,
        *,
        way: Way,
        noise: float,
        spectrum: Spectrum | None = None,
        known: Known | None = None,
        value: Value | None = None,
    ) -> Batch:
        """Models `active (A,)` at weights `W (A, K, D)`, `objective` being that of these models; one pass, unless the
        `value` there is given.

        `spectrum`: what the variables of the way "quasi" are made of. A model begins at the point that is `known`
        instead, if W is not better, or None (then without a pass).
        """
        kernels, A = objective.kernels, len(active)
        first = W if known is None or W is not None else known.W
        at = kernels.backend.from_host(np.ascontiguousarray(first, np.float64))
        conditioning, directions = _variables(objective, active, at, way, spectrum)
        point, pair = _start(objective, conditioning, at, known, value, fresh=W is not None)
        d = directions.first(point.W, point.g, pair, known.pairs if known is not None else (), conditioning)
        zero, norm = np.zeros(A, np.int64), point.numbers[2] + point.numbers[3]
        numbers = (point.objective, point.numbers[0], *point.numbers[2:], norm, zero, zero, point.objective)
        vectors = (kernels.backend.xp.reshape(vector, (A, -1)) for vector in (point.v, point.g, d, point.gradient))
        found = cls(active, objective, conditioning, directions, way, LineSearch(A, noise), *vectors, *numbers)
        found.W = point.W
        return found

    def scalars(self, sums: Sequence[Array], s: Array, y: Array, g: Array) -> tuple[Floats, Floats, Floats]:
        """All the numbers that the host's decisions need, in one transfer: `sums`, the products of s, y, g
        `(A, 3, 3)`, and those of the directions.
        """
        kernels, count = self.objective_of.kernels, len(sums)
        xp = kernels.backend.xp
        trial = xp.stack([s, y, g], axis=2)
        asked = self.directions.products(trial)
        parts = [*(value[:, None] for value in sums), inner_products(xp, trial)] + ([] if asked is None else [asked])
        host = kernels.to_host(xp.concat(parts, axis=1))  # sync
        return host[:, :count], host[:, count : count + 9].reshape(-1, 3, 3), host[:, count + 9 :]

    def accept(self, taken: npt.NDArray[np.bool_], v: Array, g: Array, gradient: Array, host: Floats) -> None:
        """Move the models `taken (A,)` to their trial points; `host (A, 5)`: loss, penalty, slope, bias and
        hits there.
        """
        xp, there = self.objective_of.kernels.backend.xp, host[:, 0] + host[:, 1]
        if taken.all():
            self.v, self.g, self.gradient = v, g, gradient
        else:
            mask = self.objective_of.kernels.backend.from_host(taken[:, None])
            moves = ((v, self.v), (g, self.g), (gradient, self.gradient))
            self.v, self.g, self.gradient = (xp.where(mask, new, old) for new, old in moves)
        norm = host[:, 2] + host[:, 3]
        better = (norm < 0.99 * self.least) | (self.objective - there > self.search.noise * np.abs(there))
        self.age = self.age + taken
        self.idle = np.where(taken, np.where(better, 0, self.idle + 1), self.idle)
        self.least = np.where(taken, np.minimum(self.least, norm), self.least)
        self.objective = np.where(taken, there, self.objective)
        self.loss = np.where(taken, host[:, 0], self.loss)
        self.slope = np.where(taken, host[:, 2], self.slope)
        self.bias = np.where(taken, host[:, 3], self.bias)
        self.hits = np.where(taken, host[:, 4], self.hits)

    def retry(self, lost: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Send models whose line search found no step down the gradient once; the mask of those still stuck."""
        stuck = np.zeros(len(lost), bool)
        for place in np.flatnonzero(lost):
            stuck[place] = not self.directions.forget(np.array([place]))
        retried = lost & ~stuck
        if retried.any():
            mask = self.objective_of.kernels.backend.from_host(retried[:, None])
            self.d = self.objective_of.kernels.backend.xp.where(mask, -self.g, self.d)
            self.search.restart(retried)
        return stuck

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

    def bequeathed(self, places: Ints) -> dict[int, Heritage]:
        """The pairs of the models at `places`, by model, if they are of the variables that other λ share."""
        if self.way != "quasi" or not isinstance(self.directions, QuasiNewton):
            return {}
        left = self.directions.bequeathed(places, self.conditioning)
        return dict(zip(self.active[places].tolist(), left, strict=True))

    def gradients(self, places: Ints) -> Floats:
        """Gradients in the weights `(B, K, D)` of the models at `places`, on the host."""
        kernels = self.objective_of.kernels
        index = kernels.backend.from_host(np.asarray(places, np.int64))
        found = kernels.to_host(kernels.backend.xp.take(self.gradient, index, axis=0))  # sync
        return found.reshape(len(places), kernels.n_columns, self.objective_of.D)

    def weights(self, places: Ints, *, tried: bool = False) -> Floats:
        """Weights `(B, K, D)` of the models at `places`, on the host; `tried`: these are at the last pass's trial
        points.
        """
        kernels = self.objective_of.kernels
        index = kernels.backend.from_host(np.asarray(places, np.int64))
        if tried and self.W is not None:
            return kernels.to_host(kernels.backend.xp.take(self.W, index, axis=0))  # sync
        shape = (len(places), kernels.n_columns, self.objective_of.D)
        v = kernels.backend.xp.reshape(kernels.backend.xp.take(self.v, index, axis=0), shape)
        return kernels.to_host(self.conditioning.take(places).weights(v))  # sync


def _variables(
    objective: Objective, models: Ints, W: Array, way: Way, spectrum: Spectrum | None
) -> tuple[Conditioning | Whitened, Directions]:
    kernels = objective.kernels
    if way == "newton":
        conditioning, centre = centred(kernels, objective.rows, free=not objective.penalize_bias)
        return conditioning, Newton(objective, centre)
    directions = QuasiNewton(objective, W.shape[0], W.shape[1] * W.shape[2])
    if way == "whitened":
        return whitened(objective, W, models), directions
    assert spectrum is not None
    return spectrum.at(objective.table.l2), directions


def _start(
    objective: Objective,
    conditioning: Conditioning | Whitened,
    W: Array,
    known: Known | None,
    value: Value | None,
    *,
    fresh: bool,
) -> tuple[Point, tuple[Array, Array] | None]:
    """The better one of W, where the objective has this value if it is known, and what is known; and the pair that
    lies between them.
    """
    if not fresh:
        assert known is not None
        value = objective.known(W, known.loss, known.gradient, known.hits)
        return Point.of(objective, conditioning, W, conditioning.variables(W), value), None
    if known is None:
        v = conditioning.variables(W)
        there = W if value is not None else conditioning.weights(v)
        return Point.of(objective, conditioning, there, v, value or objective.value(there)), None
    last = objective.kernels.backend.from_host(known.W)
    other = objective.known(last, known.loss, known.gradient, known.hits)
    point, before = Point.both(objective, conditioning, (W, last), (value or objective.value(W), other))
    xp, shape = objective.kernels.backend.xp, (W.shape[0], -1)
    return point.unless_worse(objective, before), (
        xp.reshape(point.v - before.v, shape),
        xp.reshape(point.g - before.g, shape),
    )


@dataclass
class LbfgsState:
    """A fit of L models: `waiting`, the weights `(K, D)` of those that begin a batch, which goes the way `way`; the
    running `batch`, None between two; `iterations (L,)`, and `evaluated (L,)`, the passes that each model took part in;
    `reasons`, `finals` (weights `(K, D)`), `gradients` there `(K, D)`, `losses (L,)` (the data's part) and `hits` of
    those that have stopped; `passes` over the data, trials only; `spectrum`, what variables are made of, None before it
    is built, and whether it was made `anew` on the way; `pairs`: those of the models that others go on from; `course`,
    what was noted of models after some of their iterations.
    """

    waiting: dict[int, Floats]
    way: Way
    iterations: Ints
    evaluated: Ints
    losses: Floats
    hits: Floats
    reasons: list[StopReason | None]
    batch: Batch | None = None
    passes: int = 0
    spectrum: Spectrum | None = None
    anew: bool = False
    finals: dict[int, Floats] = field(default_factory=dict)
    gradients: dict[int, Floats] = field(default_factory=dict)
    pairs: dict[int, Heritage] = field(default_factory=dict)
    course: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)
    logits: dict[int, Line] = field(default_factory=dict)

    def note(self, batch: Batch | Look, places: npt.NDArray[np.bool_], gap_bound: Floats) -> None:
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
        passes=state.evaluated.copy(),
        objective=objective,
        gap_bound=gap_bound,
    )
