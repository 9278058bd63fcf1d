"""`gpureg plot`: figures from run directories. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpureg.config import FIGURE_FORMATS, FIGURES, DataConfig, options_of
from gpureg.errors import RunError, UsageError

AT_ONCE = 1 << 12  # validation rows that are streamed

if TYPE_CHECKING:
    from gpureg.storage.directory import Run


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories; several are overlaid.")],
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure", "-f", help=f"One of {', '.join(FIGURES)}; may be repeated.", show_default="what suits the runs"
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"One of {', '.join(FIGURE_FORMATS)}; may be repeated.", show_default="png"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "-l",
            metavar="NAME",
            help="A run's name in the legends; give it once for each run, in the same order.",
            show_default="what distinguishes the runs",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for the figures.", show_default="RUN/figures; for several runs ./figures"
        ),
    ] = None,
) -> None:
    """Draw figures from one or more run directories and print their paths. Nothing is trained.

    `confusion` loads the run's data set again and predicts its validation rows.
    """
    from gpureg.figures.choice import default_figures, draw
    from gpureg.figures.style import save_figure
    from gpureg.storage.directory import load_run

    formats = _known("--format", kind or ["png"], FIGURE_FORMATS)
    names = _known("--figure", figure or [], FIGURES)
    loaded = [load_run(path) for path in runs]
    folder = out or (runs[0] / "figures" if len(runs) == 1 else Path("figures"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names or default_figures(loaded):
            predicted = _predicted(loaded[0]) if name == "confusion" and len(loaded) == 1 else None
            for path in save_figure(draw(name, loaded, predicted, label or ()), folder, name, formats):
                typer.echo(path)
    except OSError as error:
        raise RunError(f"--out {folder} can't be written ({error.strerror or error}); give another --out.") from error


def _known(option: str, given: list[str], known: tuple[str, ...]) -> list[str]:
    """The distinct values given; commas separate values too."""
    values = list(dict.fromkeys(part.strip() for value in given for part in value.split(",")))
    for value in values:
        if value not in known:
            raise UsageError(f"{option} is {value!r}; expected one of {', '.join(known)}.")
    return values


def _predicted(run: Run) -> tuple[object, object]:
    """True and predicted labels `(M,)` of the validation rows of the run's data set."""
    import numpy as np

    from gpureg.data import load
    from gpureg.data.streamed import is_streamed, row_pieces

    config = {name: value for name, value in run.config.items() if name in options_of(DataConfig)}
    named = DataConfig.from_dict({"dataset": run.result["dataset"]} | config)
    seed = run.config.get("seed", run.result["seed"])
    data = load(named, task=run.result["task"], seed=seed, folds="cv" in run.config)
    if not len(data.y_val):
        raise UsageError(
            f"The figure `confusion` shows validation rows, but {run.directory} was trained without any. Choose other "
            "figures."
        )
    if tuple(data.classes) != tuple(run.model.classes):
        raise UsageError(
            f"The data set {data.name!r} has the classes {list(data.classes)}, but {run.directory} was trained on "
            f"{list(run.model.classes)}. The data have changed since: train again, or choose figures other than "
            "`confusion`."
        )
    pieces = row_pieces(data.X_val, AT_ONCE) if is_streamed(data.X_val) else [data.X_val]
    predicted = np.concatenate([run.model.predict(piece) for piece in pieces])
    return np.asarray(data.classes)[data.y_val], predicted
