"""What minibatch gradient descent returns: the outcome and the history of a state in which every model has stopped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.problem import Outcome, Problem, measure_final
from gpureg.solvers.sgd.state import SgdState
from gpureg.types import Floats, ModelTable, StopReason


def finished(
    state: SgdState, problem: Problem, kernels: Kernels, keep: str, steps_per_epoch: int
) -> tuple[Outcome, History]:
    """Every model measured at its final weights: the last ones, or with `keep` "best" those of its best evaluation."""
    weights = np.empty((len(problem.table), problem.D, kernels.n_columns))
    for model in range(len(weights)):
        chosen = state.best.get(model) if keep == "best" else None
        weights[model] = state.finals[model] if chosen is None else chosen
        if state.reasons[model] == "diverged":
            weights[model] = np.nan
    measured = measure_final(kernels, problem, weights)
    reasons = _last_divergences(state, measured.train_loss, weights)
    early = [reason in ("patience", "diverged") for reason in reasons]
    last = np.maximum(state.steps - 1, 0) // steps_per_epoch
    epochs = tuple(int(epoch) if stopped else None for epoch, stopped in zip(last, early, strict=True))
    before = 0 if problem.start is None else problem.start.steps
    outcome = Outcome(weights, state.steps + before, reasons, epochs, measured)
    return outcome, build_history(state, problem.table)


def _last_divergences(state: SgdState, train_loss: Floats, weights: Floats) -> tuple[StopReason, ...]:
    """The reasons, with the models whose very last update overflowed among the diverged."""
    reasons: list[StopReason] = []
    for model, reason in enumerate(state.reasons):
        assert reason is not None
        if not np.isfinite(train_loss[model]):
            weights[model] = np.nan
            reason = "diverged"
        reasons.append(reason)
    return tuple(reasons)


def build_history(state: SgdState, table: ModelTable) -> History:
    """The history of all L models, cut back to each model's stop: NaN from there on."""
    L = len(table)
    total = max((first + len(block) for first, _, block in state.losses), default=0)
    step_loss = np.full((total, L), np.nan)
    for first, models, block in state.losses:
        step_loss[first : first + len(block), models] = block
    step_loss[np.arange(total)[:, None] >= state.steps[None, :]] = np.nan
    step_loss = step_loss[: _last_row(~np.isnan(step_loss))]
    values = np.full((3, len(state.evaluations), L), np.nan)
    for row, (_, models, measured) in enumerate(state.evaluations):
        values[:, row, models] = measured
    keep = _last_row(~np.isnan(values).all(axis=0))
    eval_step = np.array([step for step, _, _ in state.evaluations], np.int64)[:keep]
    val_loss, val_accuracy, train_accuracy = values[:, :keep]
    return History(
        step_loss, eval_step, val_loss, val_accuracy, train_accuracy, table.l2, table.lr, table.fold, table.seed
    )


def _last_row(filled: npt.NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(filled.any(axis=1))
    return int(rows[-1]) + 1 if len(rows) else 0
