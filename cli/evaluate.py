"""`gpureg evaluate`: metrics of a run on labelled data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpureg.errors import RunError, UsageError

from .streams import shows_unicode
from .using import (
    DataArgument,
    EngineOption,
    L2Option,
    RunArgument,
    SchedulerOption,
    WorkersOption,
    model_index,
    open_data,
    request_for,
    show_notices,
    spread_job,
)

if TYPE_CHECKING:
    from gpureg.model.rows import Rows


def evaluate(
    run: RunArgument,
    data: DataArgument,
    target: Annotated[
        str | None,
        typer.Option(help="The label column.", metavar="COLUMN", show_default="that of the training data"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The column of sample weights.",
            metavar="COLUMN",
            show_default="that of the training data, if DATA has it",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="The labels of an X.npy or a sparse npz.", metavar="FILE", show_default="the last column"),
    ] = None,
    l2: L2Option = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            help="Resamples of the rows for 95% intervals of the metrics; the run's seed draws them.", metavar="N"
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The metrics as one JSON object.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for figures: confusion matrix, reliability, ROC curves.",
            show_default="no figures",
        ),
    ] = None,
    engine: EngineOption = "local",
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
) -> None:
    """Metrics on the labelled rows of DATA: losses, accuracies, ROC AUC, calibration, per class, confusion matrix.

    They are weighted if the data have weights. Rows are read in blocks; only labels and probabilities are kept.
    """
    from gpureg.model.evaluation import labelled_rows
    from gpureg.model.metrics import measure
    from gpureg.storage.directory import load_run

    if not 0 <= bootstrap < 2**31:
        raise UsageError(f"--bootstrap is {bootstrap}; expected a whole number from 0 to {2**31 - 1}.")
    loaded = load_run(run)
    index = model_index(loaded, l2)
    own = None if labels is None else str(labels)
    request = request_for(loaded, labelled=True, target=target, weights=weights, labels=own)
    blocks = open_data(loaded, data, request)
    show_notices(blocks.notices)
    with spread_job((engine, scheduler, workers), loaded, index, request, data) as job:
        rows = labelled_rows(loaded.model, index, blocks) if job is None else job.evaluated()
    found = measure(rows, loaded.model.classes, bootstrap=bootstrap, seed=loaded.result["seed"])
    if out is not None:
        draw_figures(rows, loaded.model.classes, out)
    if as_json:
        ascii_only = not shows_unicode(sys.stdout.encoding)
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=ascii_only, allow_nan=False))
    else:
        from .metrics import show_metrics

        show_metrics(found)


def draw_figures(rows: Rows, classes: tuple[int | float | str, ...], out: Path) -> None:
    """Draw figures into the folder `out` and print their paths on stderr. Raises RunError if it can't be written."""
    from gpureg.figures.evaluation import evaluation_figures
    from gpureg.figures.style import save_figure

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in evaluation_figures(rows, classes):
            for path in save_figure(figure, out, name, ["png"]):
                typer.echo(path, err=True)
    except OSError as error:
        raise RunError(f"--out {out} can't be written ({error.strerror or error}); give another --out.") from error
