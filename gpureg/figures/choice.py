"""Which figure for which runs, by name: what `gpureg plot` draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gpureg.config import FIGURES
from gpureg.errors import UsageError
from gpureg.figures import curves, images, path
from gpureg.figures.confusion import confusion
from gpureg.figures.curves import Curve
from gpureg.storage.directory import Run

ROWS = 4  # the most models whose weights are shown in one figure


def refits(run: Run) -> list[int]:
    """The models of a run that do not belong to a fold; all models if each belongs to a fold."""
    whole = [index for index, fold in enumerate(run.history.fold.tolist()) if fold < 0]
    return whole or list(range(len(run.result["models"])))


def run_curves(runs: Sequence[Run]) -> list[Curve]:
    """A curve for each model of each run; its label names what distinguishes it: run, λ, learning rate, seed, fold."""
    names = run_names(runs)
    found = []
    for run, name in zip(runs, names, strict=True):
        history, models = run.history, refits(run)
        for model in models:
            parts = [name] if len(runs) > 1 else []
            for symbol, values in (
                ("λ", history.l2),
                ("lr", history.lr),
                ("seed", history.seed),
                ("fold", history.fold),
            ):
                several = np.unique(values[models]).size > 1
                if several or (symbol == "λ" and not parts and len(models) > 1):
                    parts.append(f"{symbol} = {values[model]:.3g}")
            found.append(Curve(history, model, ", ".join(parts) or name))
    return found


def run_names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs' folders, preceded by as many parent folders as tell them apart."""
    parts = [run.directory.resolve().parts for run in runs]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{p[-1]} ({i + 1})" for i, p in enumerate(parts)]  # the same run twice


def default_figures(runs: Sequence[Run]) -> list[str]:
    """The figures that suit these runs: curves; the path for several λ; the comparison of runs without and with
    shuffle.
    """
    names = ["loss", "accuracy"]
    if shuffle_pair(runs) is not None:
        names.append("shuffle")
    if len(runs) == 1:
        (run,) = runs
        if np.unique(run.history.l2).size > 1:
            names += ["path", "path-accuracy", "norm"]
        if _shows_images(run):
            names.append("weights")
    return names


def shuffle_pair(runs: Sequence[Run]) -> tuple[Curve, Curve] | None:
    """The two runs if each has one model, both have the same data and task, and only one was shuffled; else None."""
    if len(runs) != 2 or any(len(run.result["models"]) != 1 for run in runs):
        return None
    if any(runs[0].result[key] != runs[1].result[key] for key in ("task", "dataset")):
        return None
    by_shuffle = {run.config.get("shuffle"): Curve(run.history, 0, "") for run in runs}
    return (by_shuffle[False], by_shuffle[True]) if set(by_shuffle) == {False, True} else None


def draw(name: str, runs: Sequence[Run], labels: tuple[object, object] | None = None) -> Figure:
    """Figure `name` (one of `gpureg.config.FIGURES`) of `runs`; `labels` (true, predicted), `(N,)` each, are for
    `confusion`, the only figure that needs more than the run: predictions on its data set.

    Raises UsageError if the runs have nothing that this figure could show.
    """
    if name in ("loss", "accuracy"):
        drawn = run_curves(runs)
        return curves.loss(drawn) if name == "loss" else curves.accuracy(drawn)
    if name == "shuffle":
        pair = shuffle_pair(runs)
        if pair is None:
            raise UsageError(
                "The figure `shuffle` compares two runs of one model each, trained with --no-shuffle and with "
                f"--shuffle on the same data; given {len(runs)}: {', '.join(str(run.directory) for run in runs)}."
            )
        return curves.shuffle(*pair)
    run = _the_only(name, runs)
    if name == "confusion" and labels is not None:
        return confusion(labels[0], labels[1], run.model.classes)  # type: ignore[arg-type]
    if name in ("path", "path-accuracy"):
        return path.path(run.result, "loss" if name == "path" else "accuracy")
    if name == "norm":
        return path.norm(run.result)
    if name == "weights":
        return images.weights(run.model, weight_rows(run), _image_shape(run))
    raise UsageError(f"The figure {name!r} is unknown; expected one of {', '.join(FIGURES)}.")


def _the_only(name: str, runs: Sequence[Run]) -> Run:
    if len(runs) != 1:
        raise UsageError(
            f"The figure `{name}` shows one run; given {len(runs)}. Name one run directory, or other figures."
        )
    return runs[0]


def weight_rows(run: Run) -> list[int]:
    """The models whose weights are shown, by λ: all if few, else those of the smallest, chosen and largest λ."""
    model = run.model
    rows = [row for row in np.argsort(model.l2, kind="stable").tolist() if np.isfinite(model.coef[row]).all()]
    if not rows:
        raise UsageError("No model of this run has weights: all diverged. Train with a smaller --lr.")
    if len(rows) <= ROWS:
        return rows
    chosen = {rows[0], rows[-1], model.selected}
    return [row for row in rows if row in chosen]


def _image_shape(run: Run) -> tuple[int, int]:
    known = run.result.get("image_shape") or run.config.get("image_shape")
    return images.image_shape(run.model.coef.shape[2], known)


def _shows_images(run: Run) -> bool:
    """Whether the run's features are pixels, judged by its scaling and image shape: a square number of features proves
    nothing."""
    said = run.result.get("image_shape") or run.config.get("image_shape") or run.config.get("scale") == "pixels"
    return bool(said) or run.result["dataset"] in ("mnist", "fashion-mnist", "digits")
