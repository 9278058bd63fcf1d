"""Outcomes of chunks and refits joined into one, and turned into the results that users see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling
from gpureg.fitting.defaults import total_weight
from gpureg.fitting.results import CvRow, ModelResult
from gpureg.history import History
from gpureg.model.linear import LinearModel
from gpureg.solvers.problem import Outcome, join_measured
from gpureg.solvers.results import rearranged
from gpureg.types import Floats, Ints, ModelTable


@dataclass(frozen=True)
class Trained:
    """A batch of models that has been trained: what it was, what came out, how it went. Of a stage: the `passes` over
    the data (or epochs) that were over at its end, and whether it `finishes` models of a stage before it."""

    table: ModelTable
    outcome: Outcome
    history: History
    passes: int = 0
    finishes: bool = False

    def take(self, models: Ints) -> Trained:
        """Some of the models."""
        table = self.table.take(models)
        return Trained(table, *rearranged(self.outcome, self.history, table, models))


def join(parts: Sequence[Trained]) -> Trained:
    """Batches of disjoint models as one, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Trained(
        join_tables([part.table for part in parts]),
        join_outcomes([part.outcome for part in parts]),
        join_histories([part.history for part in parts]),
    )


def in_order(parts: Sequence[Trained], models: Sequence[Ints], table: ModelTable) -> Trained:
    """Batches as one in the order of their `table`, of which each holds some `models`."""
    trained, place = join(parts), np.argsort(np.concatenate(models))
    if np.array_equal(place, np.arange(len(place))):
        return trained
    return Trained(table, *rearranged(trained.outcome, trained.history, table, place))


def join_histories(parts: Sequence[History]) -> History:
    """Histories of disjoint models side by side: shorter ones are filled with NaN. All follow one rule, so every list
    of evaluation steps is a prefix of the longest.
    """
    steps = max((part.eval_step for part in parts), key=len)

    def side_by_side(name: str) -> Floats:
        blocks = [getattr(part, name) for part in parts]
        rows = max(len(block) for block in blocks)
        return np.concatenate([np.pad(b, ((0, rows - len(b)), (0, 0)), constant_values=np.nan) for b in blocks], axis=1)

    per_model = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in ("l2", "lr", "fold", "seed", "passes")
    }
    names = ("step_loss", "val_loss", "val_accuracy", "train_accuracy", "objective", "gap_bound")
    values: dict[str, Any] = {name: side_by_side(name) for name in names} | per_model
    return History(eval_step=steps, **values)


def join_outcomes(parts: Sequence[Outcome]) -> Outcome:
    """Outcomes of disjoint models, one after the other."""
    certified = [p.certificates for p in parts if p.certificates is not None]
    return Outcome(
        np.concatenate([p.weights for p in parts]),
        np.concatenate([p.steps for p in parts]),
        tuple(reason for p in parts for reason in p.reasons),
        tuple(epoch for p in parts for epoch in p.epochs),
        join_measured([p.measured for p in parts]),
        tuple(c for one in certified for c in one) if len(certified) == len(parts) else None,
        tuple(dict.fromkeys(text for p in parts for text in p.warnings)),
    )


def join_tables(parts: Sequence[ModelTable]) -> ModelTable:
    """Tables of disjoint models, one after the other."""
    return ModelTable(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ModelTable.__dataclass_fields__)
    )


def model_results(outcome: Outcome, table: ModelTable) -> tuple[ModelResult, ...]:
    """One `ModelResult` per model; what does not exist is None."""
    m = outcome.measured
    with np.errstate(over="ignore"):  # weights on their way to infinity: the norm is not finite, and None
        known = np.where(np.isinf(outcome.weights), 0.0, outcome.weights)  # not the bias of a class that is missing
        norms = (known**2).sum(axis=(1, 2))
    return tuple(
        ModelResult(
            l2=float(table.l2[i]),
            steps=int(outcome.steps[i]),
            stopped_epoch=outcome.epochs[i],
            stop_reason=outcome.reasons[i],
            train_loss=number(m.train_loss[i]),
            val_loss=number(m.val_loss[i]),
            train_accuracy=number(m.train_accuracy[i]),
            val_accuracy=number(m.val_accuracy[i]),
            weight_norm_sq=number(norms[i]),
            lr=float(table.lr[i]) or None,
            fold=None if table.fold[i] < 0 else int(table.fold[i]),
            seed=None if table.seed[i] < 0 else int(table.seed[i]),
            certificate=None if outcome.certificates is None else outcome.certificates[i],
        )
        for i in range(len(table))
    )


def number(value: float) -> float | None:
    """A float, or None if it is not finite: JSON holds no NaN."""
    return float(value) if math.isfinite(value) else None


def linear_model(
    trained: Trained,
    data: Dataset,
    config: FitConfig,
    scaling: Scaling,
    rows: Sequence[CvRow] | None,
    chosen: int | None,
) -> LinearModel:
    """The trained models in the dtype of the arithmetic, with the names of their features and the scores by which they
    were compared: those of the validation rows, or of the refits, which are kept after a cross-validation, the means of
    its `rows`.
    `chosen`: the index of the chosen one.
    """
    table = trained.table
    kept, selected, scores = np.arange(len(table)), 0 if len(table) == 1 else chosen, trained.outcome.measured.score
    refits = np.flatnonzero(table.fold < 0)
    if rows is not None and len(refits):
        kept, selected = refits, None if chosen is None else chosen - int(refits[0])
        means = {(row.l2, row.lr or 0.0): np.nan if row.mean is None else row.mean for row in rows}
        scores = np.array([means.get(pair, np.nan) for pair in zip(table.l2, table.lr, strict=True)])
    stacked = np.swapaxes(trained.outcome.weights[kept], 1, 2)  # (L, K, D), the bias last
    table = table.take(kept)
    return LinearModel(
        task=config.task,
        classes=data.classes,
        coef=np.ascontiguousarray(stacked[:, :, :-1], config.dtype),
        intercept=np.ascontiguousarray(stacked[:, :, -1], config.dtype),
        offset=scaling.offset,
        scale=scaling.scale,
        l2=table.l2,
        selected=selected,
        lr=np.where(table.lr > 0, table.lr, np.nan),
        seed=table.seed,
        scores=scores[kept],
        scored_by=config.score,
        total_weight=total_weight(data, config),
        feature_names=data.feature_names,
        image_shape=data.image_shape,
        target=data.target,
        encoding=data.encoding,
        index_base=data.index_base,
    )
