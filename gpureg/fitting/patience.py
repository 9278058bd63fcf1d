"""The λ that a path leaves out: those below the point where the held-out score has become worse several times in a
row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpureg.errors import named
from gpureg.fitting.assemble import Trained
from gpureg.fitting.scores import Scored
from gpureg.model.scores import cost
from gpureg.solvers.path.patience import points_kept
from gpureg.types import Floats, Ints


def without_the_rest(trained: Trained, patience: int, scored: Scored) -> tuple[Trained, tuple[float, ...]]:
    """The models that are kept, and the λ `(M,)` that are not, in falling order.

    The rule looks at the mean held-out score (over the folds, or on the validation set) in falling order of λ, however
    far the training went; if some models were never begun, the rule was already applied during the training.
    """
    table, outcome = trained.table, trained.outcome
    rows = {row.l2: row for row in scored.rows(table, outcome.measured)}
    l2 = np.unique(table.l2)[::-1]
    scores = [np.nan if (mean := rows[one].mean) is None else cost(scored.score, mean) for one in l2.tolist()]
    begun = [_begun(trained, _of(table.l2, np.arange(len(table)), one)) for one in l2.tolist()]
    kept = points_kept(scores, patience) or len(l2)
    kept = min(kept, begun.index(False) if False in begun else len(l2))
    models = np.flatnonzero(np.isin(table.l2, l2[:kept]))
    if len(models) == len(table):
        return trained, ()
    return trained.take(models), tuple(l2[kept:].tolist())


def left_out_notices(l2: Sequence[float], patience: int, score: str) -> list[str]:
    """The notice about the λ that were left out."""
    if not l2:
        return []
    return [
        f"Left out, since the held-out {score} had become worse {patience} time(s) in a row before them "
        f"({named('path_patience', patience)}): λ = {', '.join(f'{one:g}' for one in l2)}."
    ]


def _of(l2: Floats, models: Ints, one: float) -> Ints:
    return models[l2[models] == one]


def _begun(trained: Trained, models: Ints) -> bool:
    return all(trained.outcome.reasons[model] != "interrupted" for model in models.tolist())
