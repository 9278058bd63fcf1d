"""What a tracker logs of a fit, as numbers with a name and a step.

While it runs, with minibatches: `val_loss`, `val_accuracy`, `train_accuracy` of each evaluation at the step after whose
update it was made, and `epoch_loss`, the mean of an epoch's minibatch losses, at the epoch's last step. To the optimum:
`objective` at each pass over the data. If a fit has several λ (or learning rates), each has curves of its own, named
`val_loss/l2_0.02`; folds and seeds of one λ share a curve, the mean over those that still run. A refit's are named
`epoch_loss/refit_l2_0.02`.

At its end: `models/<field>` and `cv/<field>` with step k the k-th entry of these lists of result.json; `chosen/<field>`
and `test/<metric>` of the chosen (or only) model; `seconds`. Losses are in nats; what is null is not logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.events import EpochEnded, Evaluated, Event, FitBegun, Iterated, Started
from gpureg.types import Floats, Ints, ModelTable


@dataclass(frozen=True)
class Point:
    """One number of a curve."""

    name: str
    step: int
    value: float


class Course:
    """Turns the events of a running fit into points; `begun` says what its models are."""

    def __init__(self, begun: FitBegun) -> None:
        table = begun.table
        self._folded = bool((table.fold >= 0).any())
        self._several_l2, self._several_lr = len(set(table.l2.tolist())) > 1, len(set(table.lr.tolist())) > 1
        rounded = {_short(l2) for l2 in table.l2.tolist()}
        self._spelled = _short if len(rounded) == len(set(table.l2.tolist())) else repr
        self._curves: list[str] = []  # of the models of the stage that runs
        self._per_epoch = 0

    def points(self, event: Event) -> list[Point]:
        """The points of an event."""
        if isinstance(event, Started):
            self._curves = self._names(event.table, event.models)
            self._per_epoch = event.steps_per_epoch
        elif isinstance(event, Evaluated):
            measured = {name: getattr(event, name) for name in ("val_loss", "val_accuracy", "train_accuracy")}
            return [point for name in measured for point in self._means(name, event.step, event.models, measured[name])]
        elif isinstance(event, EpochEnded):
            last = (event.epoch + 1) * self._per_epoch
            return list(self._means("epoch_loss", last, event.models, event.train_loss))
        elif isinstance(event, Iterated):
            return list(self._means("objective", event.iteration, event.models, event.objective))
        return []

    def _means(self, name: str, step: int, models: Ints, values: Floats) -> Iterator[Point]:
        """The mean of the finite values of each curve."""
        together: dict[str, list[float]] = {}
        for model, value in zip(models.tolist(), np.asarray(values).tolist(), strict=True):
            if math.isfinite(value):
                together.setdefault(self._curves[model], []).append(value)
        for curve, found in together.items():
            yield Point(f"{name}/{curve}" if curve else name, step, sum(found) / len(found))

    def _names(self, table: ModelTable, ids: Ints) -> list[str]:
        """The curve of each model of a stage."""
        names = []
        for l2, lr, fold, number in zip(*(a.tolist() for a in (table.l2, table.lr, table.fold, ids)), strict=True):
            refit = number < 0 or (self._folded and fold < 0)
            parts = ["refit"] if refit else []
            parts += [f"l2_{self._spelled(l2)}"] if self._several_l2 else []
            parts += [f"lr_{lr:g}"] if self._several_lr else []
            names.append("_".join(parts))
        return names


def _short(l2: float) -> str:
    return f"{l2:.6g}"


def final_points(result: Mapping[str, Any]) -> list[Point]:
    """The points of a JSON result, as result.json holds it."""
    models, chosen = result["models"], result["selected"]
    points = [*_columns("models", models), *_columns("cv", result["cv"])]
    if chosen is not None or len(models) == 1:
        points += _columns("chosen", [models[chosen or 0]])
    points += _columns("test", [result["test"] or {}])
    return [*points, Point("seconds", 0, float(result["seconds"]))]


def _columns(name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Point]:
    """The numbers of a list of records, each field a curve over the list."""
    for step, row in enumerate(rows):
        for field, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield Point(f"{name}/{field}", step, float(value))
