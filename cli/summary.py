"""What is shown at the end of a fit: a table of its models, with the chosen one marked, and the chosen one's course."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from .metrics import metrics_table
from .sparkline import blocks_for, sparkline
from .tables import Column, distinct, table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from gpureg.fitting.results import CvRow, FitResult, ModelResult

STOPS = {
    "patience": "epoch {}",
    "max_epochs": "all epochs",
    "converged": "converged",
    "max_iter": "iteration limit",
    "precision": "precision limit",
    "cv_steps": "folds' steps",
    "refit_steps": "scaled steps",
    "diverged": "diverged",
    "interrupted": "interrupted",
}
MARK = "★"
WIDEST = 40  # characters of a course


def show(console: Console, result: FitResult, path: Path, mark: str = MARK) -> None:
    """Print the result as tables, the course of the chosen (or only) model, and the run directory; `mark` marks the
    chosen model.
    """
    models = [m for m in result.models if m.fold is None]
    chosen = result.models[result.selected] if result.selected is not None and len(result.models) > 1 else None
    console.print()
    if result.cv is not None:
        console.print(_folds(result, result.cv, chosen, console.width, mark))
        console.print()
    if models:
        console.print(_models(result, models, chosen, console.width, mark))
    else:
        done = sum(m.stop_reason != "interrupted" for m in result.models)
        console.print(f"The cross-validation is not done: {done} of {len(result.models)} models have stopped.")
    console.print()
    if chosen is not None:
        by = "held-out" if result.cv is not None else "validation"
        rate = f", lr = {chosen.lr:g}" if len({m.lr for m in result.models}) > 1 and chosen.lr is not None else ""
        score = words(result.model.scored_by)
        console.print(f"{mark} chosen by {by} {score}: {_strength(result, chosen)}{rate}", highlight=False)
        if result.model.refit_of is not None:
            rows = f"{result.n_train + result.n_val:,} training and validation rows"
            console.print(f"fitted again to all {rows} at that C, λ = {chosen.l2:.6g}", highlight=False)
    elif len(result.models) == 1:
        console.print(_strength(result, result.models[0]), highlight=False)
    console.print(
        f"{result.seconds:.2f} s on {result.device} in {result.dtype}, "
        f"{result.n_train:,} training and {result.n_val:,} validation rows",
        highlight=False,
    )
    console.print(f"run directory: {path}", highlight=False, soft_wrap=True, markup=False)
    line = course(result, console.width, blocks_for(console.encoding))
    if line:
        console.print(line, highlight=False, markup=False)
    if result.test is not None:
        console.print()
        console.print(f"the chosen model on {result.test.n:,} test rows", highlight=False)
        console.print(metrics_table(result.test, console.width))


def course(result: FitResult, width: int, blocks: str) -> str:
    """The course of the chosen (or only) model in a line: its validation loss, which ends at the table's number, or the
    objective of a full-batch solver. "" if there is nothing to show.
    """
    if result.selected is None and len(result.models) > 1:
        return ""
    index = result.selected or 0
    model, history = result.models[index], result.history
    if model.fold is not None:  # interrupted before there was a refit
        return ""
    name = "objective" if history.full_batch else "val loss"
    values = [float(v) for v in (history.objective if history.full_batch else history.val_loss)[:, index] if v == v]
    if values and not history.full_batch and model.val_loss is not None:
        values.append(model.val_loss)  # after the last step, which no evaluation has to follow
    if len(values) < 2:
        return ""
    curve = sparkline(values, min(WIDEST, max(1, width - 30)), blocks)
    return f"{name} {number(values[0])} {curve} {number(values[-1])}"


def _strength(result: FitResult, model: ModelResult) -> str:
    """λ, and scikit-learn's C."""
    l2 = model.l2 if result.model.refit_of is None else result.model.refit_of
    C = result.C(l2)
    return f"λ = {l2:.6g}" + ("" if C is None else f", C = {C:.6g}")


def _models(result: FitResult, models: list[ModelResult], chosen: ModelResult | None, width: int, mark: str) -> Text:
    certified = any(m.certificate is not None for m in models)  # by a solver that iterates to the optimum
    columns = [Column("", [mark if m is chosen else "" for m in models])] if chosen is not None else []
    columns.append(Column("λ", distinct([m.l2 for m in models])))
    if len({m.lr for m in models}) > 1:
        columns.append(Column("lr", distinct([m.lr or 0.0 for m in models])))
    if any(m.seed is not None for m in models):
        columns.append(Column("seed", ["" if m.seed is None else str(m.seed) for m in models]))
    limit = int(result.config.get("max_iter") or 0)
    columns += [
        Column("iterations" if certified else "steps", [f"{m.steps:,}" for m in models], drop=1),
        Column("train\nloss", [number(m.train_loss) for m in models], drop=3),
        Column("val\nloss", [number(m.val_loss) for m in models]),
        Column("train\naccuracy", [number(m.train_accuracy) for m in models], drop=4),
        Column("val\naccuracy", [number(m.val_accuracy) for m in models]),
        *_scores(result, models),
        Column("Σ w²", [number(m.weight_norm_sq) for m in models], drop=5),
        Column("stopped", [stopped(m, limit) for m in models], drop=2, left=True),
    ]
    return table(columns, width, bold=[index for index, m in enumerate(models) if m is chosen])


def stopped(model: ModelResult, limit: int) -> str:
    """Why a model stopped, in a word or two; `limit` is the maximum number of a full-batch solver's iterations."""
    reason: str = model.stop_reason
    if model.certificate is not None:
        if reason == "max_epochs":  # runs that do not distinguish the iteration limit from the float type's limit
            reason = "max_iter" if model.steps >= limit else "precision"
        if reason == "converged" and model.l2 == 0 and model.train_accuracy == 1.0:
            return "no optimum"  # the classes can be separated: the weights would grow without bound
    return STOPS[reason].format(model.stopped_epoch)


def _scores(result: FitResult, models: list[ModelResult]) -> list[Column]:
    """The score on the validation rows, unless it is the loss or the accuracy, which are shown anyway."""
    name = result.model.scored_by
    if name in ("loss", "accuracy"):
        return []
    scores = {id(m): value for m, value in zip(result.models, result.history.score.tolist(), strict=False)}
    mine = [scores.get(id(m), math.nan) for m in models]
    cells = [number(None if math.isnan(value) else value) for value in mine]
    return [] if all(map(math.isnan, mine)) else [Column(f"val\n{words(name)}", cells)]


def words(score: str) -> str:
    """A score's name as a title."""
    return score.replace("roc-auc", "ROC AUC").replace("-", " ")


def _folds(result: FitResult, rows: tuple[CvRow, ...], chosen: ModelResult | None, width: int, mark: str) -> Text:
    mine = [chosen is not None and (row.l2, row.lr) == (result.chosen_l2, chosen.lr) for row in rows]
    columns = [Column("", [mark if one else "" for one in mine])] if chosen is not None else []
    columns.append(Column("λ", distinct([row.l2 for row in rows])))
    if len({row.lr for row in rows}) > 1:
        columns.append(Column("lr", distinct([row.lr or 0.0 for row in rows])))
    columns += [
        Column(f"held-out\n{words(rows[0].score) if rows else 'loss'}", [number(row.mean) for row in rows]),
        Column("standard\nerror", [number(row.se) for row in rows]),
    ]
    title = Text(f"cross-validation, {rows[0].folds} models per λ\n\n" if rows else "", "bold")
    return title + table(columns, width, bold=[index for index, one in enumerate(mine) if one])


def number(value: float | None) -> str:
    """Four decimals, or four significant digits if that would be long; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
