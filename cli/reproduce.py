"""`gpureg reproduce`: the whole report from one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpureg.config import FitConfig


def reproduce(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page, the figures and the runs.")] = Path(
        "reproduction"
    ),
    dtype: Annotated[
        str, typer.Option("--dtype", help="float64 gives the report's printed digits; float32 is faster.")
    ] = "float64",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = FitConfig.device,
    strict_device: Annotated[
        bool, typer.Option("--strict-device", help="Fail (exit 3) rather than fall back to the CPU.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads of the BLAS.", show_default="the library's own")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Reproduce the report: train what is missing, draw its nine figures, and compare every printed number.

    Writes one page that needs no network (index.html) and the same as Markdown (report.md), with the figures next to
    them. Runs that already exist with the same options are not trained again. Prints the page's path.
    """
    from gpureg.report.reproduce import reproduce as reproduce_report

    def tell(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    done = reproduce_report(out, dtype=dtype, device=device, strict_device=strict_device, threads=threads, tell=tell)
    tell(done.summary)
    typer.echo(done.page)
