"""What runs and their models are called in a legend."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gpureg.errors import UsageError
from gpureg.figures.curves import Curve
from gpureg.figures.text import plain
from gpureg.storage.directory import Run

TIMED = re.compile(r"-\d{8}-\d{6}(-\d+)?$")  # the end of a run directory's default name
# options that do not change what a run is about, or that are in its name
SAME = ("out", "device", "strict_device", "threads", "memory", "kernels", "checkpoint_seconds", "config")
MOST_OPTIONS = 2  # of which a name is made
FIRST = ("task", "solver", "l2", "lr", "cv", "seed", "dtype", "scale")  # the first that is enough, if more differ


def refits(run: Run) -> list[int]:
    """The models of a run that do not belong to a fold; all models if each belongs to a fold."""
    whole = [index for index, fold in enumerate(run.history.fold.tolist()) if fold < 0]
    return whole or list(range(len(run.result["models"])))


def run_curves(runs: Sequence[Run], labels: Sequence[str] = ()) -> list[Curve]:
    """A curve for each model of each run; its label names what distinguishes it: run, λ, learning rate, seed, fold.

    `labels` are names for the runs, in their order. Raises UsageError if their number is not that of the runs.
    """
    names = run_names(runs, labels)
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


def run_names(runs: Sequence[Run], labels: Sequence[str] = ()) -> list[str]:
    """Names for the runs as text in a figure: `labels` if there are any, else short ones that distinguish the runs.

    These are the folders' names without the time that ends a default name; if these are alike, the one or two options
    that differ; else the names preceded by as many parent folders as it takes. Raises UsageError if the number of
    `labels` is not that of the runs.
    """
    if labels:
        if len(labels) != len(runs):
            raise UsageError(
                f"{len(labels)} labels were given for {len(runs)} runs; give one for each run, in the same order."
            )
        return [plain(label) for label in labels]
    parts = [run.directory.resolve().parts for run in runs]
    short = [TIMED.sub("", part[-1]) for part in parts]
    for candidates in (short, _differing(runs), *_with_parents(parts)):
        names = [plain(name) for name in candidates]
        if len(set(names)) == len(runs):
            return names
    return [plain(f"{name} ({i + 1})") for i, name in enumerate(short)]  # the same run twice


def _differing(runs: Sequence[Run]) -> list[str]:
    """The options whose values differ, with their values, for each run; nothing if they are too many."""
    values = {key: [repr(run.config.get(key)) for run in runs] for run in runs for key in run.config if key not in SAME}
    told = [key for key in values if len(set(values[key])) > 1]
    if len(told) > MOST_OPTIONS:
        told = [key for key in FIRST if key in told and len(set(values[key])) == len(runs)][:1]
    return [", ".join(_option(key, run.config.get(key)) for key in told) for run in runs]


def _option(key: str, value: object) -> str:
    words = key.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else f"{len(value)} values"
    number = isinstance(value, (int, float))
    text = "default" if value is None else f"{value:.3g}" if number else str(value).rpartition("/")[2]
    return f"{'λ' if key == 'l2' else words} = {text}"


def _with_parents(parts: Sequence[Sequence[str]]) -> list[list[str]]:
    return [["/".join(p[-depth:]) for p in parts] for depth in range(1, max(map(len, parts)) + 1)]
