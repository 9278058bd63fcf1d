"""Metrics as tables on the terminal: of `evaluate`, and of a test set at the end of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import Column, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from gpureg.model.metrics import Evaluation

NAMES = {
    "loss": "loss (nats)",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "top5_accuracy": "top-5 accuracy",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
}
MOST_CLASSES, MOST_CONFUSION = 30, 12  # that are shown


def show_metrics(found: Evaluation, console: Console | None = None) -> None:
    """The metrics, those of each class, and the confusion matrix if it is small."""
    from rich.console import Console

    from gpureg.data.labels import listed  # which shows control characters

    console = console or Console(highlight=False)
    console.print(f"{found.n:,} rows")
    console.print()
    console.print(metrics_table(found, console.width))
    classes = found.per_class[:MOST_CLASSES]
    names = [listed([one.name]) for one in classes]
    columns = [
        Column("class", names, left=True),
        Column("precision", [number(one.precision) for one in classes]),
        Column("recall", [number(one.recall) for one in classes]),
        Column("support", [f"{one.support:,.6g}" for one in classes]),
    ]
    console.print()
    console.print(table(columns, console.width))
    if len(found.per_class) > len(classes):
        console.print(f"... {len(found.per_class) - len(classes)} more classes (--json has all)")
    elif len(classes) <= MOST_CONFUSION:
        predicted = [Column(name, [f"{row[k]:.6g}" for row in found.confusion]) for k, name in enumerate(names)]
        console.print()
        console.print(table([Column("true \\ predicted", names, left=True), *predicted], console.width))


def metrics_table(found: Evaluation, width: int) -> Text:
    """One metric a line, with its interval if there are any."""
    shown = [name for name in NAMES if getattr(found, name) is not None]
    columns = [
        Column("metric", [NAMES[name] for name in shown], left=True),
        Column("value", [number(getattr(found, name)) for name in shown]),
    ]
    if found.intervals:
        ends = [found.intervals.get(name) for name in shown]
        cells = ["-" if pair is None else f"{number(pair[0])} to {number(pair[1])}" for pair in ends]
        columns.append(Column("95% interval", cells))
    return table(columns, width)


def number(value: float | None) -> str:
    """Four decimals; a dash for what is not defined."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
