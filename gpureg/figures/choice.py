"""Which figure for which runs, by name: what `gpureg plot` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gpureg.config import FIGURES
from gpureg.errors import UsageError, named
from gpureg.figures import curves, images, path
from gpureg.figures.confusion import confusion
from gpureg.figures.curves import Curve
from gpureg.figures.labels import run_curves
from gpureg.storage.directory import Run

MEASURES = {"path": "loss", "path-accuracy": "accuracy", "path-score": ""}  # "": what λ was chosen by
ROWS = 4  # the most models whose weights are shown in one figure


def default_figures(runs: Sequence[Run]) -> list[str]:
    """The figures that suit these runs: curves; the path for several λ; the comparison of runs without and with
    shuffle.
    """
    names = ["loss"]
    if not all(run.history.full_batch for run in runs):
        names.append("accuracy")
    if shuffle_pair(runs) is not None:
        names.append("shuffle")
    if len(runs) == 1:
        (run,) = runs
        if np.unique(run.history.l2).size > 1:
            of_its_own = ["path-score"] if run.model.scored_by not in ("loss", "accuracy") else []
            names += ["path", "path-accuracy", *of_its_own, "norm"]
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


def draw(
    name: str, runs: Sequence[Run], predicted: tuple[object, object] | None = None, labels: Sequence[str] = ()
) -> Figure:
    """Figure `name` (one of `gpureg.config.FIGURES`) of `runs`, which `labels` names in a legend.

    `predicted` is (true labels, predicted labels), `(N,)` each, for `confusion`, the only figure that needs more than
    the run. Raises UsageError if the runs have nothing that this figure could show.
    """
    if name in ("loss", "accuracy"):
        drawn = run_curves(runs, labels)
        return curves.loss(drawn) if name == "loss" else curves.accuracy(drawn)
    if name == "shuffle":
        pair = shuffle_pair(runs)
        if pair is None:
            given = ", ".join(str(run.directory) for run in runs)
            raise UsageError(
                f"The figure `shuffle` compares two runs of one model each, trained with {named('shuffle', False)} and "
                f"with {named('shuffle', True)} on the same data; given {len(runs)}: {given}."
            )
        return curves.shuffle(*pair)
    run = _the_only(name, runs)
    if name == "confusion" and predicted is not None:
        return confusion(*predicted, run.model.classes)  # type: ignore[arg-type]
    if name in MEASURES or name == "norm":
        result = without_the_last_refit(run)
        if name == "norm":
            return path.norm(result)
        score, select = run.model.scored_by, str(run.config.get("select", "min"))
        scores = run.history.score[: len(result["models"])].tolist()
        return path.path(result, MEASURES[name] or score, select=select, score=score, scores=scores)
    if name == "weights":
        return images.weights(run.model, weight_rows(run), _image_shape(run))
    raise UsageError(f"The figure {name!r} is unknown; expected one of {', '.join(FIGURES)}.")


def without_the_last_refit(run: Run) -> Mapping[str, Any]:
    """The result of a run whose λ is that of the grid: without the refit to training and validation rows, at another λ
    of the same C, if there is one.
    """
    result, model = run.result, run.model
    if model.refit_of is None or result["selected"] is None:
        return result
    models = [entry for index, entry in enumerate(result["models"]) if index != result["selected"]]
    rate = result["models"][result["selected"]].get("lr")
    mine = [i for i, entry in enumerate(models) if entry["l2"] == model.refit_of and entry.get("lr") == rate]
    refits = [i for i in mine if models[i].get("fold") is None]
    return {**result, "models": models, "selected": next(iter([*refits, *mine]), None)}


def _the_only(name: str, runs: Sequence[Run]) -> Run:
    if len(runs) != 1:
        raise UsageError(
            f"The figure `{name}` shows one run, but {len(runs)} were given. Name one run, or other figures."
        )
    return runs[0]


def weight_rows(run: Run) -> list[int]:
    """The models whose weights are shown, by λ: all if few, else those of the smallest, chosen and largest λ."""
    model = run.model
    rows = [row for row in np.argsort(model.l2, kind="stable").tolist() if np.isfinite(model.coef[row]).all()]
    if not rows:
        raise UsageError(f"No model of this run has weights: all diverged. Train with a smaller {named('lr')}.")
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
