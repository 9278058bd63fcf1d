"""Whether data can be fitted with a configuration, before anything is placed or trained."""

from __future__ import annotations

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.errors import UsageError, named
from gpureg.solvers.protocol import Solver


def check_data(data: Dataset, config: FitConfig, solver: Solver) -> None:
    """Raise UsageError for data that the configuration and the solver can't be fitted to."""
    K = len(data.classes)
    held_out = config.cv is not None or len(data.y_val) > 0
    _check_held_out(config.path_patience, held_out)
    _check_refit(config, held_out)
    if config.loss.binary and K != 2:
        raise UsageError(
            f"The {config.loss.name} task takes two classes, but {data.name} has {K}. Name two, the positive one "
            f"first, with {named('classes')}, or use {named('task', 'softmax')}."
        )
    if K < 2:
        raise UsageError(f"{data.name} has {K} class; expected at least two.")
    if len(data.y_train) == 0:
        raise UsageError(f"{data.name} has no training rows; expected at least one.")
    if len(data.y_val) or not solver.wants_validation:
        return
    best = f"{named('keep', 'best')} takes the weights of the lowest validation loss"
    if config.cv is None:
        why = best if config.keep == "best" else f"early stopping ({named('patience', config.patience)}) needs them"
        raise UsageError(
            f"{data.name} has no validation rows, but {why}. Give {named('patience', 0)} and {named('keep', 'last')}, "
            f"validation rows ({named('val_size')}), or {named('solver', 'lbfgs')}."
        )
    if config.keep == "best":
        raise UsageError(
            f"{best}, but the refit on {data.name} has no validation rows. Give {named('keep', 'last')}, or validation "
            f"rows ({named('val_size')})."
        )


def _check_held_out(patience: int, held_out: bool) -> None:
    """Raises UsageError for a patience without rows to score."""
    if patience and not held_out:
        raise UsageError(
            f"{named('path_patience', patience)} needs held-out rows to score; add {named('cv', 5)}, or keep "
            f"validation rows with {named('val_size')}."
        )


def _check_refit(config: FitConfig, held_out: bool) -> None:
    """Raises UsageError for a refit of a model that nothing chooses."""
    if config.refit == "all" and not held_out:
        raise UsageError(
            f"{named('refit', 'all')} fits the chosen model again, but nothing chooses one: there are neither "
            f"validation rows nor folds. Give {named('cv', 5)}, or keep validation rows with {named('val_size')}."
        )
