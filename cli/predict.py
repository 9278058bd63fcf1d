"""`gpureg predict`: labels and probabilities for new rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpureg.errors import UsageError

from .streams import is_lost
from .using import (
    DataArgument,
    EngineOption,
    L2Option,
    RunArgument,
    SchedulerOption,
    WorkersOption,
    columns,
    model_index,
    open_data,
    request_for,
    show_notices,
    spread_job,
)

if TYPE_CHECKING:
    from gpureg.storage.partitions import Job
    from gpureg.storage.predictions import Layout


def predict(
    run: RunArgument,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File whose name ends in .csv, .parquet, .npz or .npy (probabilities only); with --engine dask also a "
            "folder, in which each file of DATA becomes a Parquet file.",
            show_default="CSV on stdout",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep", help="Columns of DATA to copy into the output.", metavar="COLUMN,...", show_default=False
        ),
    ] = None,
    l2: L2Option = None,
    engine: EngineOption = "local",
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
) -> None:
    """Labels and probabilities for the rows of DATA: columns `label` and `p_<class>`, in the order of the rows.

    Columns are matched by name, in any order, if both sides have names; extra columns are ignored. Rows are read and
    written in blocks. With --engine dask each file of a folder of Parquet files is predicted by a worker.
    """
    from gpureg.storage.directory import load_run
    from gpureg.storage.predictions import Layout, csv_stream, open_predictions, predict_rows

    loaded = load_run(run)
    index = model_index(loaded, l2)
    if out is not None and data != "-" and out.exists() and Path(data).exists() and out.samefile(data):
        raise UsageError(f"--out {out} is the file DATA itself; give another path.")
    request = request_for(loaded, keep=columns(keep))
    blocks = open_data(loaded, data, request)
    layout = Layout(loaded.model.classes, blocks.schema)
    show_notices(blocks.notices)
    with spread_job((engine, scheduler, workers), loaded, index, request, data) as job:
        if job is not None:
            typer.echo(f"{predict_spread(job, out, layout):,} rows: {out or 'stdout'}", err=True)
            return
    if out is None:
        with csv_stream(sys.stdout.buffer, layout) as write:
            predict_rows(loaded.model, index, blocks, write, lambda: is_lost(sys.stdout))
        return
    with open_predictions(out, layout) as write:
        rows = predict_rows(loaded.model, index, blocks, write)
    typer.echo(f"{rows:,} rows: {out}", err=True)


def predict_spread(job: Job, out: Path | None, layout: Layout) -> int:
    """Predict on workers, into a file, a folder or stdout; returns the number of rows."""
    from gpureg.storage.predictions import csv_stream, open_predictions

    if out is not None and not out.suffix:
        return job.write(out, layout)
    with csv_stream(sys.stdout.buffer, layout) if out is None else open_predictions(out, layout) as write:
        return job.predict(write)
