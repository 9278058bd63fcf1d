"""The λ that a path leaves out: those below the point where the held-out loss has become worse several times in a
row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpureg.errors import UsageError, named
from gpureg.fitting.assemble import Trained
from gpureg.solvers.path.patience import points_kept
from gpureg.solvers.results import rearranged
from gpureg.types import Floats, Ints


def without_the_rest(trained: Trained, patience: int) -> tuple[Trained, tuple[float, ...]]:
    """The models that are kept, and the λ `(M,)` that are not, in falling order.

    The rule looks at the mean held-out loss (of the folds, or on the validation set) in falling order of λ, whatever
    was trained beyond; where models were not even begun, it was applied on the way.
    """
    table, outcome = trained.table, trained.outcome
    scored = np.flatnonzero(table.fold >= 0)
    scored = scored if len(scored) else np.arange(len(table))
    l2 = np.unique(table.l2)[::-1]
    scores = [float(np.mean(outcome.measured.val_loss[_of(table.l2, scored, one)])) for one in l2.tolist()]
    begun = [_begun(trained, _of(table.l2, np.arange(len(table)), one)) for one in l2.tolist()]
    kept = points_kept(scores, patience) or len(l2)
    kept = min(kept, begun.index(False) if False in begun else len(l2))
    models = np.flatnonzero(np.isin(table.l2, l2[:kept]))
    if len(models) == len(table):
        return trained, ()
    own = table.take(models)
    return Trained(own, *rearranged(outcome, trained.history, own, models)), tuple(l2[kept:].tolist())


def check_held_out(patience: int, held_out: bool) -> None:
    """Raises UsageError for a patience without rows to score."""
    if patience and not held_out:
        raise UsageError(
            f"{named('path_patience', patience)} needs held-out rows to score; add {named('cv', 5)}, or keep "
            f"validation rows with {named('val_size')}."
        )


def left_out_notices(l2: Sequence[float], patience: int) -> list[str]:
    """What is said of the λ that were left out."""
    if not l2:
        return []
    return [
        f"Left out, since the held-out loss had become worse {patience} time(s) in a row before them "
        f"({named('path_patience', patience)}): λ = {', '.join(f'{one:g}' for one in l2)}."
    ]


def _of(l2: Floats, models: Ints, one: float) -> Ints:
    return models[l2[models] == one]


def _begun(trained: Trained, models: Ints) -> bool:
    return all(trained.outcome.reasons[model] != "interrupted" for model in models.tolist())
