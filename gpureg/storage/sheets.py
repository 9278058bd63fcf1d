"""A run as CSV tables, for spreadsheets and other programs: weights, path, history."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from gpureg.atomic import replacing
from gpureg.errors import UsageError, named
from gpureg.history import History
from gpureg.storage.directory import Run

Row = Sequence[Any]
PER_MODEL = ("l2", "lr", "fold", "seed")


def write_sheets(run: Run, directory: Path, index: int) -> list[Path]:
    """Write weights.csv, path.csv, history.csv and, if they have rows, cv.csv and steps.csv; returns their paths.

    weights.csv: a row for each model and feature: the scaling of the feature and its weight `w_<class>` on scaled
    values; the model `index` has 1 in the column `chosen`. path.csv: a row for each model of the result. cv.csv: of
    each λ the score over the folds. history.csv: a row for each evaluation of a model. steps.csv: the loss of each
    minibatch.

    Raises UsageError if the folder can't be written.
    """
    tables = {
        "weights": _weights(run, index),
        "path": _path(run),
        "cv": _rows_of(run.result.get("cv") or []),
        "history": _history(run.history),
        "steps": _steps(run.history),
    }
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            content = _text(rows)
            if content.count(b"\n") > 1:
                path = directory / f"{name}.csv"
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
                paths.append(path)
    except OSError as error:
        raise UsageError(
            f"{named('csv', str(directory))} can't be written ({error.strerror or error}); give another folder."
        ) from error
    return paths


def _weights(run: Run, index: int) -> Iterator[Row]:
    model = run.model
    L, K, D = model.coef.shape
    names = model.feature_names or tuple(str(number) for number in range(D))
    yield ["l2", "lr", "seed", "chosen", "feature", "offset", "scale", *(f"w_{name}" for name in model.classes[:K])]
    for row in range(L):
        lr = None if model.lr is None else float(model.lr[row])
        seed = None if model.seed is None or model.seed[row] < 0 else int(model.seed[row])
        start = [float(model.l2[row]), lr, seed, int(row == index)]
        for feature, name in enumerate(names):
            scaling = [float(model.offset[feature]), float(model.scale[feature])]
            yield [*start, name, *scaling, *model.coef[row, :, feature].tolist()]
        yield [*start, "(intercept)", None, None, *model.intercept[row].tolist()]


def _path(run: Run) -> Iterator[Row]:
    flat = [
        {name: value for name, value in model.items() if name != "certificate"} | (model.get("certificate") or {})
        for model in run.result["models"]
    ]
    yield from _rows_of(flat)


def _rows_of(entries: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Entries as rows under the union of their keys."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    yield names
    yield from ([entry.get(name) for name in names] for entry in entries)


def _history(history: History) -> Iterator[Row]:
    E, L = history.eval_step.shape[0], len(history.l2)
    names = [field.name for field in fields(History) if np.shape(getattr(history, field.name)) == (E, L)]
    names = [name for name in names if name != "step_loss"]
    yield ["model", *PER_MODEL, "eval_step", *names]
    for model in range(L):
        values = np.stack([np.asarray(getattr(history, name), np.float64)[:, model] for name in names], axis=1)
        for row in np.flatnonzero(np.isfinite(values).any(axis=1)):
            yield [*_model(history, model), int(history.eval_step[row]), *values[row].tolist()]


def _steps(history: History) -> Iterator[Row]:
    yield ["model", *PER_MODEL, "step", "loss"]
    for model in range(len(history.l2)):
        start = _model(history, model)
        for step in np.flatnonzero(np.isfinite(history.step_loss[:, model])):
            yield [*start, int(step), float(history.step_loss[step, model])]


def _model(history: History, model: int) -> list[Any]:
    """What identifies a model of the history."""
    fold, seed = (None if values[model] < 0 else int(values[model]) for values in (history.fold, history.seed))
    return [model, float(history.l2[model]), float(history.lr[model]), fold, seed]


def _text(rows: Iterable[Row]) -> bytes:
    """CSV; what does not exist is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None or value != value else value for value in row])
    return text.getvalue().encode()
