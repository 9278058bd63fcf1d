"""The choice among the models of a fit, and the refit that follows a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling
from gpureg.errors import named
from gpureg.fitting.assemble import Trained, join, linear_model
from gpureg.fitting.defaults import total_weight
from gpureg.fitting.finishing import Held
from gpureg.fitting.grid import select_row
from gpureg.fitting.notices import of_choice
from gpureg.fitting.prepare import refit_problem
from gpureg.fitting.results import CvRow
from gpureg.fitting.scores import Scored
from gpureg.fitting.stages import Stages
from gpureg.model.linear import LinearModel
from gpureg.solvers.problem import Limit
from gpureg.types import Ints


@dataclass(frozen=True)
class Refit:
    """A last model, fitted to the `rows` for training and validation with their own `scaling`: the model of λ `of`
    again, whose score was `score`."""

    rows: Dataset
    scaling: Scaling
    of: float
    score: float


@dataclass(frozen=True)
class Chosen:
    """All models with their refits, the rows of a cross-validation, the `index` of the chosen model, notices about the
    choice, and the last refit if there is one: then that is the chosen model."""

    trained: Trained
    cv: tuple[CvRow, ...] | None
    index: int | None
    notices: Sequence[str] = ()
    refit: Refit | None = None

    def refit_model(self, data: Dataset, config: FitConfig) -> LinearModel | None:
        """The last refit alone, as the model file has it."""
        if self.refit is None:
            return None
        last = np.array([len(self.trained.table) - 1])
        alone = self.trained.take(last)
        model = linear_model(alone, data, config, self.refit.scaling, None, 0)
        score, weight = np.array([self.refit.score]), total_weight(self.refit.rows, config)
        return replace(model, scores=score, total_weight=weight, refit_of=self.refit.of)


def select(stages: Stages, held: Held, trained: Trained, data: Dataset, config: FitConfig, scored: Scored) -> Chosen:
    """The chosen model, with its refit after a cross-validation."""
    validated = len(data.y_val) > 0
    cv, chosen = _choose(trained, config, scored, validated)
    notices = [*_unchosen(trained, config, validated), *of_choice(cv, chosen, trained.table)]
    if config.cv is None:
        return Chosen(trained, cv, chosen, notices)
    if cv is None or chosen is None:
        return Chosen(trained, cv, None, notices)
    refits = np.flatnonzero(trained.table.fold < 0)
    if len(refits):
        return Chosen(trained, cv, int(refits[chosen]), notices)
    refit = refit_problem(held.problem, data, config, cv[chosen].l2, cv[chosen].lr or config.rates[0])
    if stages.solver.wants_validation and refit.val is None:
        refit = replace(refit, limit=_median_steps(trained, cv[chosen]))
    trained = join([trained, stages.train(refit, np.array([-1]))])
    return Chosen(trained, cv, len(trained.table) - 1, notices)


def _median_steps(trained: Trained, row: CvRow) -> Limit:
    """The number of steps of a refit that has no validation set to decide when to stop."""
    steps = trained.outcome.steps[_of(trained, row)]
    return Limit(max(1, round(float(np.median(steps)))), "cv_steps")


def _of(trained: Trained, row: CvRow) -> Ints:
    return np.flatnonzero((trained.table.l2 == row.l2) & (trained.table.lr == (row.lr or 0.0)))


def _choose(
    trained: Trained, config: FitConfig, scored: Scored, validated: bool
) -> tuple[tuple[CvRow, ...] | None, int | None]:
    """The cross-validation's rows and the chosen one; without folds (None, the index of the chosen model).

    Without folds and validation rows a single candidate is chosen, but none of several.
    """
    table, outcome = trained.table, trained.outcome
    if "interrupted" in outcome.reasons and config.cv is not None:
        return None, None
    rows = scored.rows(table, outcome.measured)
    if config.cv is not None:
        return rows, select_row(rows, config.select)
    if not validated:
        return None, 0 if len(rows) == 1 and outcome.reasons[0] != "diverged" else None
    chosen = select_row(rows, config.select)
    return None, None if chosen is None else int(_of(trained, rows[chosen])[0])


def _unchosen(trained: Trained, config: FitConfig, validated: bool) -> list[str]:
    """A notice if nothing says which of several candidates is the best."""
    several = len(set(zip(trained.table.l2.tolist(), trained.table.lr.tolist(), strict=True))) > 1
    if not several or validated or config.cv is not None:
        return []
    return [
        f"No λ was chosen: there are neither validation rows nor folds. Give {named('cv', 5)} or a larger "
        f"{named('val_size')}, or name the λ of the model to use ({named('l2')})."
    ]
