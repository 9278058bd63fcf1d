"""`gpureg predict`: labels and probabilities for new rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpureg.errors import UsageError

from .streams import is_lost
from .using import DataArgument, L2Option, RunArgument, columns, model_index, open_data, request_for, show_notices

if TYPE_CHECKING:
    from gpureg.data import Blocks
    from gpureg.model.linear import LinearModel
    from gpureg.storage.predictions import Write


def predict(
    run: RunArgument,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File whose name ends in .csv, .parquet, .npz or .npy (probabilities only).",
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
) -> None:
    """Labels and probabilities for the rows of DATA: columns `label` and `p_<class>`, in the order of the rows.

    Columns are matched by name, in any order, if both sides have names; extra columns are ignored. Rows are read and
    written in blocks.
    """
    from gpureg.storage.directory import load_run
    from gpureg.storage.predictions import Layout, csv_stream, open_predictions

    loaded = load_run(run)
    index = model_index(loaded, l2)
    if out is not None and data != "-" and out.exists() and Path(data).exists() and out.samefile(data):
        raise UsageError(f"--out {out} is the file DATA itself; give another path.")
    blocks = open_data(loaded, data, request_for(loaded, keep=columns(keep)))
    layout = Layout(loaded.model.classes, blocks.schema)
    show_notices(blocks.notices)
    if out is None:
        with csv_stream(sys.stdout.buffer, layout) as write:
            predict_rows(loaded.model, index, blocks, write, lambda: is_lost(sys.stdout))
        return
    with open_predictions(out, layout) as write:
        rows = predict_rows(loaded.model, index, blocks, write)
    typer.echo(f"{rows:,} rows: {out}", err=True)


def predict_rows(
    model: LinearModel, index: int, blocks: Blocks, write: Write, is_over: Callable[[], bool] = lambda: False
) -> int:
    """Predict block by block, until the reader of the output has gone; returns the number of rows."""
    import numpy as np

    rows = 0
    for block in blocks.rows:
        first = block.first
        logits = model.logits(block.X, index, blocks.where, lambda row, first=first: first + row)  # type: ignore[misc]
        codes = np.asarray(model.loss.predict(np, logits), np.int64)
        if block.left_out is not None:
            codes[block.left_out] = -1
        write(codes, np.asarray(model.loss.probabilities(np, logits)), block.kept)
        rows += len(codes)
        if is_over():
            break
    return rows
