"""`gpureg export`: a run's model as ONNX, its numbers as CSV, a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpureg.errors import UsageError

from .using import L2Option, RunArgument, model_index


def export(
    run: RunArgument,
    onnx: Annotated[
        Path | None,
        typer.Option(help="The model as ONNX: X in, label and probabilities out.", metavar="FILE", show_default=False),
    ] = None,
    sheets: Annotated[
        Path | None,
        typer.Option("--csv", help="Weights, path and history as CSV tables.", metavar="DIR", show_default=False),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="A model card in Markdown.", metavar="FILE", show_default=False)
    ] = None,
    l2: L2Option = None,
) -> None:
    """Write a run's model as ONNX, its numbers as CSV tables, or a model card, and print the paths."""
    from gpureg.storage.directory import load_run

    if onnx is None and sheets is None and card is None:
        raise UsageError("There is nothing to export; name --onnx FILE, --csv DIR or --card FILE.")
    loaded = load_run(run)
    index = model_index(loaded, l2)
    paths: list[Path] = []
    if onnx is not None:
        paths.append(loaded.model.to_onnx(onnx, index))
    if sheets is not None:
        from gpureg.storage.sheets import write_sheets

        paths += write_sheets(loaded, sheets, index)
    if card is not None:
        from gpureg.storage.card import write_card

        paths.append(write_card(loaded, card, index))
    for path in paths:
        typer.echo(path)
