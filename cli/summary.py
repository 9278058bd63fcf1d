"""What is shown when a fit is over: a table of its models, with the chosen one marked."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from gpureg.results import CvRow, FitResult, ModelResult

STOPS = {
    "patience": "epoch {}",
    "max_epochs": "all epochs",
    "converged": "converged",
    "diverged": "diverged",
    "interrupted": "interrupted",
}


def show(console: Console, result: FitResult, path: object) -> None:
    """The result as tables and a last line on where it lies."""
    if result.cv is not None:
        console.print(_folds(result))
    models = [m for m in result.models if result.cv is None or m.fold is None]
    if models:
        console.print(_models(result, models))
    rate = f"{result.seconds:.2f} s on {result.device} in {result.dtype}"
    chosen = result.models[result.selected] if result.selected is not None and len(result.models) > 1 else None
    if chosen is not None:
        by = "held-out" if result.cv is not None else "validation"
        console.print(f"★ chosen by {by} loss: λ = {chosen.l2:.6g}", highlight=False)
    console.print(f"{rate}, {result.n_train:,} training and {result.n_val:,} validation rows", highlight=False)
    console.print(f"run directory: {path}", highlight=False, soft_wrap=True, markup=False)


def _models(result: FitResult, models: list[ModelResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    rates = len({m.lr for m in models}) > 1
    seeds = any(m.seed is not None for m in models)
    names = [
        "λ",
        *(["lr"] if rates else []),
        *(["seed"] if seeds else []),
        "steps",
        "train loss",
        "val loss",
        "train acc",
        "val acc",
        "Σ w²",
    ]
    for name in ["", *names]:
        table.add_column(name, justify="right")
    table.add_column("stopped", no_wrap=True)
    for index, model in enumerate(result.models):
        if model not in models:
            continue
        chosen = result.selected == index and len(result.models) > 1
        cells = ["★" if chosen else ""]
        cells += [
            f"{model.l2:.6g}",
            *([f"{model.lr:g}"] if rates else []),
            *([str(model.seed)] if seeds else []),
            f"{model.steps:,}",
        ]
        values = (model.train_loss, model.val_loss, model.train_accuracy, model.val_accuracy, model.weight_norm_sq)
        cells += [_cell(value) for value in values]
        table.add_row(*cells, STOPS[model.stop_reason].format(model.stopped_epoch), style="bold" if chosen else None)
    return table


def _folds(result: FitResult) -> Table:
    assert result.cv is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{result.cv[0].folds} folds", title_justify="left")
    rates = len({row.lr for row in result.cv}) > 1
    for name in ["", "λ", *(["lr"] if rates else []), "held-out loss", "standard error"]:
        table.add_column(name, justify="right")
    chosen = result.models[result.selected] if result.selected is not None else None
    for row in result.cv:
        mine = chosen is not None and _same(row, chosen)
        cells = [f"{row.l2:.6g}", *([f"{row.lr:g}"] if rates else []), _cell(row.mean), _cell(row.se)]
        table.add_row("★" if mine else "", *cells, style="bold" if mine else None)
    return table


def _same(row: CvRow, model: ModelResult) -> bool:
    return row.l2 == model.l2 and row.lr == model.lr


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
