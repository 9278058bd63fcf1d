"""`Problem`: what a solver takes. `Outcome`: what it returns. Also the measuring of models on their rows, which the
solvers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from gpureg.kernels.protocol import Evaluation, Kernels, Ready
from gpureg.model.scores import of_outputs, scores
from gpureg.rows.protocol import Rows
from gpureg.types import Array, Floats, Ints, ModelTable, StopReason

COLUMNS_AT_ONCE = 1024  # of the last measurement of all models, which is done once
OUTPUTS_AT_ONCE = 1 << 22  # numbers: logits of all rows, in float64


@dataclass(frozen=True)
class Start:
    """Where L models begin: `weights (L, D, K)` on the host, and the `steps (L,)` that led there, which count."""

    weights: Floats
    steps: Ints

    def take(self, models: Ints) -> Start:
        """That of `models (A,)`."""
        return Start(self.weights[models], self.steps[models])


@dataclass(frozen=True)
class Limit:
    """Every model makes this number of `steps`, neither more nor fewer, and stops for this `reason`."""

    steps: int
    reason: StopReason


@dataclass(frozen=True)
class Problem:
    """L models and their samples on the device.

    `train` and `val` are placed by the same kernels, `val` is None if there is no validation set; `held_out` has the
    rows that each fold's column of the row-weight table leaves out. `n`, `D` as in `gpureg.types`; `weighted` tells
    whether `train` has a row-weight table. Models begin at `start`, None for weights of 0, and end at `limit`, None for
    where the solver ends. `unseen`: the mass of further held-out rows, by column, whose classes the models do not know:
    their loss is `unseen_loss` each, and none is a hit. `score`: what the models are compared by (`model.scores`).
    `shares (T, classes)`: those of the classes under each column of the row-weight table, or of all rows; None if they
    are not known.
    """

    train: Rows
    val: Rows | None
    held_out: Mapping[int, Rows]
    table: ModelTable
    n: int
    D: int
    weighted: bool = False
    start: Start | None = None
    limit: Limit | None = None
    unseen: Mapping[int, float] = field(default_factory=dict)
    unseen_loss: float = 0.0
    score: str = "loss"
    shares: Floats | None = None

    @property
    def scored(self) -> bool:
        """Whether the score can be computed here: one that needs outputs can't, if a row's class is in no model."""
        return not (self.unseen and of_outputs(self.score))

    def take(self, models: Ints) -> Problem:
        """That of `models (A,)` alone, on the same samples."""
        return replace(
            self, table=self.table.take(models), start=None if self.start is None else self.start.take(models)
        )


@dataclass(frozen=True)
class Measured:
    """Mean cross-entropy (nats), accuracy and the problem's score of M models, each `(M,)`; NaN if a model has none.
    The score is on the same rows as `val_loss`, and is known only for final weights.
    """

    train_loss: Floats
    train_accuracy: Floats
    val_loss: Floats
    val_accuracy: Floats
    score: Floats


@dataclass(frozen=True)
class Outcome:
    """L models at their final weights.

    `weights (L, D, K)` host, bias row last, NaN where a model diverged; `steps (L,)` updates; `reasons`; `epochs` the
    epoch of a stop by patience or divergence, else None; `measured`; per-model optimality certificates where the
    solver gives them.
    """

    weights: Floats
    steps: Ints
    reasons: tuple[StopReason, ...]
    epochs: tuple[int | None, ...]
    measured: Measured
    certificates: tuple[dict[str, float | bool | None], ...] | None = None
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Passed:
    """What the last pass over training rows without weights measured of L models at their final weights: the mean
    `loss (L,)` and the `accuracy (L,)`, NaN if it did not.
    """

    loss: Floats
    accuracy: Floats

    def take(self, models: Ints) -> Passed:
        """That of `models (A,)`."""
        return Passed(self.loss[models], self.accuracy[models])

    @property
    def known(self) -> bool:
        """Whether it is known of all of them."""
        return bool(np.isfinite(self.loss + self.accuracy).all())


@dataclass(frozen=True)
class _Part:
    """Some of the models of a measurement: what is measured, the mass of its rows and of those that are `unseen`, and
    into which value it goes."""

    models: Ints
    mass: float
    evaluation: Evaluation
    kind: Literal["train", "val", "held_out"]
    unseen: float = 0.0


class Measurement:
    """Losses and accuracies that have been asked for; see `start_measure`."""

    def __init__(self, count: int, parts: list[_Part], problem: Problem, *, train_loss: bool) -> None:
        self._count, self._parts, self._train_loss = count, parts, train_loss
        self._mass, self._unseen_loss = problem.train.mass, problem.unseen_loss

    def result(self) -> Measured:
        """Wait, and turn sums into means."""
        train_loss, train_accuracy, val_loss, val_accuracy, held_out = np.full((5, self._count), np.nan)
        for part in self._parts:
            loss, hits = part.evaluation.result()
            mine, mass = part.models, part.mass + part.unseen
            if part.kind == "train":
                train_loss[mine] = loss / mass if self._train_loss else np.nan
                train_accuracy[mine] = hits / mass
            else:
                held_out[mine] = loss
                val_loss[mine], val_accuracy[mine] = (loss + part.unseen * self._unseen_loss) / mass, hits / mass
        for part in self._parts:  # a fold's own training rows are all rows less the held-out ones
            if part.kind == "held_out" and self._train_loss:
                mine, held = part.models, part.mass
                train_loss[mine] = (train_loss[mine] * self._mass - held_out[mine]) / (self._mass - held)
                train_accuracy[mine] = np.nan
        return Measured(train_loss, train_accuracy, val_loss, val_accuracy, np.full(self._count, np.nan))


def start_measure(
    kernels: Kernels,
    problem: Problem,
    W: Array,
    models: Ints,
    *,
    train_loss: bool,
    now: bool = False,
    passed: Passed | None = None,
) -> Measurement:
    """Losses and accuracies of `W (D, M*K)`, the weights of `models (M,)` (a model may come several times, as
    snapshots).

    A model of a fold is measured on its held-out rows, and with `train_loss` on its own training rows. `now`: while
    other work goes on until the result is needed. `passed`: what is already known on the training rows, and is not
    measured again.
    """
    column, folds = problem.table.column[models], problem.table.fold[models]
    parts: list[_Part] = []

    def ask(mine: Ints, rows: Rows, kind: Literal["train", "val", "held_out"], with_loss: bool) -> None:
        own = W if len(mine) == len(models) else kernels.select(W, mine)
        parts.append(_Part(mine, rows.mass, rows.start_evaluation(own, with_loss=with_loss, now=now), kind))

    plain, folded = np.flatnonzero(folds < 0), np.flatnonzero(folds >= 0)
    if len(plain):
        if passed is None:
            ask(plain, problem.train, "train", train_loss)
        else:
            mass = problem.train.mass
            parts.append(_Part(plain, mass, Ready(passed.loss * mass, passed.accuracy * mass), "train"))
        if problem.val is not None:
            ask(plain, problem.val, "val", True)
    if len(folded) and train_loss:
        ask(folded, problem.train, "train", True)
    for key in np.unique(column[folded]).tolist():
        mine, unseen = folded[column[folded] == key], problem.unseen.get(key, 0.0)
        if key in problem.held_out:
            ask(mine, problem.held_out[key], "held_out", True)
            parts[-1] = replace(parts[-1], unseen=unseen)
        else:  # all of its rows are of classes that the models do not know
            parts.append(_Part(mine, 0.0, Ready(np.zeros(len(mine)), np.zeros(len(mine))), "held_out", unseen))
    return Measurement(len(models), parts, problem, train_loss=train_loss)


def measure(
    kernels: Kernels, problem: Problem, W: Array, models: Ints, *, train_loss: bool, passed: Passed | None = None
) -> Measured:
    """`start_measure`, waited for."""
    return start_measure(kernels, problem, W, models, train_loss=train_loss, passed=passed).result()


def measure_final(kernels: Kernels, problem: Problem, weights: Floats, passed: Passed | None = None) -> Measured:
    """`measure` of all L models at `weights (L, D, K)`, and their scores, a bounded number of columns at a time; NaN
    weights give NaN. `passed` is used if it is known of all models, and if there are no weights and no folds, for which
    losses and hits are counted in other ways.
    """
    plain = not problem.weighted and problem.train.mass == problem.n and bool((problem.table.fold < 0).all())
    passed = passed if plain and passed is not None and passed.known else None
    L, D, K = weights.shape
    at_once = max(1, COLUMNS_AT_ONCE // K)
    parts = []
    for start in range(0, L, at_once):
        models = np.arange(start, min(start + at_once, L))
        block = np.moveaxis(weights[models], 0, 1).reshape(D, -1)
        told = None if passed is None else passed.take(models)
        parts.append(measure(kernels, problem, kernels.weights(block), models, train_loss=True, passed=told))
    finite = np.isfinite(weights).all(axis=(1, 2))
    joined = join_measured(parts)
    joined = replace(joined, score=scores_of(kernels, problem, weights, joined))
    return Measured(*(np.where(finite, getattr(joined, name), np.nan) for name in Measured.__dataclass_fields__))


def scores_of(kernels: Kernels, problem: Problem, weights: Floats, measured: Measured) -> Floats:
    """The problem's score of all L models `(L,)` at `weights (L, D, K)`, whose losses and accuracies are `measured`."""
    if not of_outputs(problem.score):
        return measured.val_loss if problem.score == "loss" else measured.val_accuracy
    found, folds, column = np.full(len(weights), np.nan), problem.table.fold, problem.table.column
    if not problem.scored:
        return found
    parts = [(np.flatnonzero((folds >= 0) & (column == key)), rows) for key, rows in problem.held_out.items()]
    if problem.val is not None:
        parts.append((np.flatnonzero(folds < 0), problem.val))
    for models, rows in parts:
        at_once = max(1, OUTPUTS_AT_ONCE // (rows.n * weights.shape[2]))
        for start in range(0, len(models), at_once):
            some = models[start : start + at_once]
            columns = np.moveaxis(weights[some], 0, 1).reshape(weights.shape[1], -1)
            logits, y, mass = rows.outputs(kernels.weights(columns))
            found[some] = scores(problem.score, kernels.loss, logits.reshape(rows.n, len(some), -1), y, mass)
    return found


def join_measured(parts: Sequence[Measured]) -> Measured:
    """Measurements of disjoint models, one after the other."""
    return Measured(*(np.concatenate([getattr(p, name) for p in parts]) for name in Measured.__dataclass_fields__))
