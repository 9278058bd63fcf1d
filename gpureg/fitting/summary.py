"""The result of a fit in a few lines of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gpureg.fitting.assemble import number
from gpureg.model.scores import of_outputs
from gpureg.model.summary import aligned, first_and_chosen

if TYPE_CHECKING:
    from gpureg.fitting.results import FitResult, ModelResult


def table(result: FitResult) -> str:
    """What was trained, on which data, and its models: λ, steps, losses, accuracies and why each stopped, with the
    chosen one marked. For a cross-validation its rows as well; the folds' models are only counted.
    """
    shape = f"{result.n_train:,} training and {result.n_val:,} validation rows, {result.n_features:,} features"
    lines = [
        f"FitResult: {result.task} on {result.dataset}, {shape}, {len(result.classes)} classes",
        f"{result.solver} on {result.device} in {result.dtype}, {result.seconds:.2f} s",
    ]
    chosen = None if result.selected is None else result.models[result.selected]
    if result.cv is not None:
        lines += _folds(result, chosen)
    whole = [model for model in result.models if model.fold is None]
    if whole:
        lines += _models(result, whole, chosen)
    if result.model.refit_of is not None:
        lines.append(f"fitted again to training and validation rows at the C of λ = {result.model.refit_of:.6g}")
    if len(whole) < len(result.models):
        lines.append(f"models of folds: {len(result.models) - len(whole)}")
    if result.test is not None:
        lines.append(repr(result.test))
    if result.warnings:
        lines.append(f"warnings: {len(result.warnings)}, see .warnings")
    return "\n".join(lines)


def _models(result: FitResult, models: list[ModelResult], chosen: ModelResult | None) -> list[str]:
    index = next((i for i, model in enumerate(models) if model is chosen), None)
    shown = [models[i] for i in first_and_chosen(len(models), index)]
    titles, cells = ["", "λ"], [["*" if model is chosen else "" for model in shown]]
    cells.append([f"{model.l2:.6g}" for model in shown])
    fields: dict[str, Callable[[ModelResult], float | None]] = {
        "lr": lambda model: model.lr,
        "seed": lambda model: model.seed,
        "steps": lambda model: model.steps,
        "train loss": lambda model: model.train_loss,
        "val loss": lambda model: model.val_loss,
        "train accuracy": lambda model: model.train_accuracy,
        "val accuracy": lambda model: model.val_accuracy,
    }
    for title, value in fields.items():
        values = {value(model) for model in models}
        if values != {None} and (len(values) > 1 or title not in {"lr", "seed"}):
            titles.append(title)
            cells.append([_number(value(model)) for model in shown])
    _add_score(result, models, shown, titles, cells)
    titles.append("stopped")
    cells.append([model.stop_reason for model in shown])
    return [*aligned(titles, cells), *_rest(len(models) - len(shown), "models")]


def _add_score(
    result: FitResult, models: list[ModelResult], shown: list[ModelResult], titles: list[str], cells: list[list[str]]
) -> None:
    """The score that models were compared by, if it is neither loss nor accuracy, which are shown anyway."""
    scores = dict(zip(map(id, result.models), result.history.score.tolist(), strict=False))
    if of_outputs(result.model.scored_by) and any(np.isfinite(scores[id(model)]) for model in models):
        titles.append(f"val {result.model.scored_by}")
        cells.append([_number(number(scores[id(model)])) for model in shown])


def _folds(result: FitResult, chosen: ModelResult | None) -> list[str]:
    """The rows of the cross-validation."""
    rows = result.cv or ()
    mine = [chosen is not None and (row.l2, row.lr) == (result.chosen_l2, chosen.lr) for row in rows]
    shown = first_and_chosen(len(rows), mine.index(True) if any(mine) else None)
    titles, cells = ["", "λ"], [["*" if mine[i] else "" for i in shown], [f"{rows[i].l2:.6g}" for i in shown]]
    if len({row.lr for row in rows}) > 1:
        titles.append("lr")
        cells.append([_number(rows[i].lr) for i in shown])
    titles += [f"held-out {rows[0].score}" if rows else "", "standard error"]
    cells += [[_number(rows[i].mean) for i in shown], [_number(rows[i].se) for i in shown]]
    return [*aligned(titles, cells), *_rest(len(rows) - len(shown), "rows")]


def _rest(more: int, of: str) -> list[str]:
    return [f"... {more} more {of}"] if more else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
