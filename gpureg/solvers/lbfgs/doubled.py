"""Models for which float32 was too coarse, and which float64 has finished: their two stretches as one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from gpureg.config import FitConfig
from gpureg.history import History
from gpureg.solvers.lbfgs.certificate import shortfall
from gpureg.solvers.problem import Measured, Outcome
from gpureg.solvers.results import rearranged
from gpureg.types import Floats, Ints, ModelTable

MOST_DOUBLE_BYTES = 1 << 31  # of samples that are placed a second time, in float64


def coarse(outcome: Outcome, max_iter: int) -> Ints:
    """The models that their float type kept from the tolerance, and that have iterations left."""
    short = np.flatnonzero([reason == "precision" for reason in outcome.reasons])
    going = (outcome.steps[short] < max_iter) & np.isfinite(outcome.weights[short]).all(axis=(1, 2))
    return np.asarray(short[going], np.int64)


def together(
    config: FitConfig,
    table: ModelTable,
    first: tuple[Outcome, History],
    later: Sequence[tuple[Ints, Outcome, History]],
) -> tuple[Outcome, History]:
    """Outcome and history of the models of `table`, of which those that the parts of `later` name, `(B,)` each, went on
    from the `first` ones in float64; any that overflowed there stay as they were.

    Steps and histories of the later ones count from where they began; passes are added up.
    """
    (outcome, history), double = first, replace(config, dtype="float64")
    others, finished = _others(config, table, outcome), []
    for models, found, course in later:
        others = others or _others(double, table.take(models), found)
        sound = np.flatnonzero([reason != "diverged" for reason in found.reasons])
        models = models[sound]
        found, course = rearranged(found, course, table.take(models), sound)
        history = _history(history, models, course, outcome.steps[models])
        outcome = _outcome(outcome, models, found)
        finished += models.tolist()
    told = shortfall(table, config, outcome.certificates or (), outcome.reasons, finished)
    return replace(outcome, warnings=(*told, *others)), history


def _others(config: FitConfig, table: ModelTable, outcome: Outcome) -> tuple[str, ...]:
    """The warnings of an outcome that are not about models that stopped short."""
    told = shortfall(table, config, outcome.certificates or (), outcome.reasons)
    return tuple(text for text in outcome.warnings if text not in told)


def _outcome(first: Outcome, models: Ints, later: Outcome) -> Outcome:
    """The first with `models (B,)` as they were found later."""
    reasons, certificates = list(first.reasons), list(first.certificates or ())
    for place, model in enumerate(models.tolist()):
        reasons[model] = later.reasons[place]
        certificates[model] = (later.certificates or ())[place]

    def put(old: Floats, new: Floats) -> Floats:
        old = old.copy()
        old[models] = new
        return old

    names = [field.name for field in fields(Measured)]
    measured = Measured(*(put(getattr(first.measured, name), getattr(later.measured, name)) for name in names))
    steps = first.steps.copy()
    steps[models] = later.steps
    return replace(
        first,
        weights=put(first.weights, later.weights),
        steps=steps,
        reasons=tuple(reasons),
        measured=measured,
        certificates=tuple(certificates),
    )


def _history(first: History, models: Ints, later: History, begun: Ints) -> History:
    """The first, in which `models (B,)` have the later rows from the iteration `begun (B,)` at which they went on."""
    rows = max(len(first.eval_step), len(later.eval_step))
    number, passes = np.arange(rows)[:, None], first.passes.copy()
    passes[models] += later.passes

    def course(name: str) -> Floats:
        old, new = _of_rows(getattr(first, name), rows), _of_rows(getattr(later, name), rows)
        here = old[:, models]
        if name in ("objective", "gap_bound"):  # are known where a model went on, if only of the first stretch
            new = np.where((number == begun) & np.isnan(new), here, new)
        old[:, models] = np.where(number < begun, here, new)
        return old

    return replace(
        first,
        eval_step=np.arange(rows),
        objective=course("objective"),
        gap_bound=course("gap_bound"),
        val_loss=course("val_loss"),
        val_accuracy=course("val_accuracy"),
        train_accuracy=course("train_accuracy"),
        passes=passes,
    )


def _of_rows(values: Floats, rows: int) -> Floats:
    """A copy with that number of rows, NaN in further ones."""
    return np.pad(values, ((0, rows - len(values)), (0, 0)), constant_values=np.nan)
