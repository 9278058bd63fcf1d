"""What `predict`, `evaluate` and `export` have in common: a run, one of its models, and new data for it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpureg.config import DataConfig, options_of
from gpureg.errors import UsageError

if TYPE_CHECKING:
    from gpureg.data import Blocks, Request
    from gpureg.storage.directory import Run
    from gpureg.storage.partitions import Job

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A file, mnist, fashion-mnist or digits; - reads CSV from stdin.")
]
L2Option = Annotated[
    float | None,
    typer.Option("--l2", help="The model of this λ, within 0.1%.", metavar="X", show_default="the chosen one"),
]

EngineOption = Annotated[
    str, typer.Option(help="local, or dask: each file of a folder is read by one of Dask's workers.", metavar="NAME")
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler.", metavar="ADDRESS", show_default="none")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Dask workers to start on this machine.", metavar="N", show_default="none")
]


@contextmanager
def spread_job(
    where: tuple[str, str | None, int | None], run: Run, index: int, request: Request, data: str
) -> Iterator[Job | None]:
    """DATA for the workers that `where` names (engine, scheduler, workers), which are there within the block; None with
    the local engine.

    Raises UsageError for workers that are not there, and for data that are not files.
    """
    from gpureg.config import FitConfig
    from gpureg.data import CATALOG

    config = FitConfig(engine=where[0], scheduler=where[1], workers=where[2])
    if config.engine == "local":
        yield None
        return
    if data == "-" or data in CATALOG:
        raise UsageError(
            f"--engine dask reads files on its workers, but DATA is {data!r}; expected a file or a folder."
        )
    from gpureg.distributed.connecting import connected, describe
    from gpureg.storage.partitions import Job, Predictor, parts_of

    parts = parts_of(data)
    with connected(config.scheduler, config.workers, dask_data=False) as cluster:
        typer.echo(describe(cluster), err=True)
        yield Job(cluster, Predictor(run.model, index, request), parts, show_notice)


def model_index(run: Run, l2: float | None) -> int:
    """The model that `--l2` names, else the chosen one. Raises UsageError if there is none."""
    if l2 is not None:
        return run.model.index_of(l2)
    if run.model.selected is None and len(run.model.l2) > 1:
        raise UsageError(
            f"{run.directory}: none of its {len(run.model.l2)} models was chosen, since there were no validation rows "
            f"or folds, or all diverged. Name one by its λ, for example --l2 {run.model.l2[0]:g}; it has "
            f"{run.model.lambdas()}."
        )
    return run.model.index()


def columns(text: str | None) -> tuple[str, ...]:
    """Names separated by commas; a name that holds a comma stands in quotes. Raises UsageError."""
    names = tuple(name.strip() for name in next(csv.reader([text or ""], skipinitialspace=True), []))
    if "" in names or (text is not None and not names):
        raise UsageError(f"--keep is {text!r}; expected names of columns separated by commas.")
    return tuple(dict.fromkeys(names))


def request_for(run: Run, **given: Any) -> Request:
    """What to read from new data for a run's model: `given` options, and the column names of the run's own data."""
    from gpureg.data import Request

    own_target = run.model.target or run.config.get("target")
    own: dict[str, Any] = {"own_target": own_target, "own_weights": run.config.get("weights")}
    return Request(run.model.expected, outputs=len(run.model.classes), **own, **given)


def open_data(run: Run, data: str, request: Request) -> Blocks:
    """The rows that DATA names: a named set's validation part (the run's own classes), a file, or CSV on stdin.

    Raises UsageError, DataError.
    """
    from gpureg.data import CATALOG, load, open_blocks
    from gpureg.data.blocks import STDIN, dataset_blocks

    if data == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("- reads CSV from stdin, which is a terminal or closed; expected a pipe or a file.")
        return open_blocks(sys.stdin.buffer, request, tell=show_notice)
    if data not in CATALOG:
        return open_blocks(data, request, tell=show_notice)
    own = run.config if run.config.get("dataset") == data else {"classes": run.config.get("classes")}
    options = {name: value for name, value in own.items() if name in options_of(DataConfig)} | {"dataset": data}
    seed = run.config.get("seed", run.result.get("seed", 0))
    return dataset_blocks(load(DataConfig.from_dict(options), task=run.result["task"], seed=seed), request)


def show_notices(notices: tuple[str, ...]) -> None:
    """Each on a line of stderr."""
    for notice in notices:
        show_notice(notice)


def show_notice(notice: str) -> None:
    """One line on stderr."""
    from rich.console import Console

    from .notes import say

    say(Console(stderr=True, highlight=False), "note: ", "bold", notice)
