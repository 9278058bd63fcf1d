"""Warnings about models that minibatch descent left far from trained, with advice."""

from __future__ import annotations

import numpy as np

from gpureg.errors import named
from gpureg.history import History
from gpureg.solvers.problem import Outcome
from gpureg.solvers.remarks import diverged, worse_than_a_constant
from gpureg.types import Floats, Ints, ModelTable

FALLING = 0.005  # of the loss, in the last epoch: at least this is worth going on for


def remarks(table: ModelTable, outcome: Outcome, history: History, constant: float, epochs: int) -> list[str]:
    """A sentence each on models that diverged, that predict worse than a constant does, and whose loss was still
    falling at the last of the `epochs`; `constant`: the best constant predictor's loss, in nats.
    """
    fall = _last_fall(outcome, history, epochs)

    def smaller(models: Ints) -> str:
        return f"Use a learning rate smaller than {table.lr[models].max():g}."

    def more(model: int) -> str:
        rate = f"a larger learning rate ({named('lr', float(f'{3 * table.lr[model]:.1g}'))})"
        return f"more epochs ({named('epochs', 4 * epochs)}), {rate}, or {named('solver', 'lbfgs')}"

    def help_worst(models: Ints) -> str:
        model = int(models[0])
        if not outcome.steps[model]:
            return "It was stopped before its first step."
        if outcome.measured.train_loss[model] > history.step_loss[0, model]:  # above where it began: it overshoots
            return smaller(models)
        if fall[model] > FALLING:
            return f"Its loss was still falling: give it {more(model)}."
        return "The penalty keeps it there: use a smaller λ."

    told = diverged(table, outcome, smaller) + worse_than_a_constant(table, outcome, constant, help_worst)
    falling = np.flatnonzero((fall > FALLING) & ~(outcome.measured.train_loss > constant * (1 + 1e-9)))
    if len(falling):
        most = int(falling[fall[falling].argmax()])
        told.append(
            f"{len(falling)} of {len(table)} models stopped at the last epoch while their loss was still falling (λ = "
            f"{table.l2[most]:g}: by {fall[most]:.1%} in that epoch): they are not fully trained. Use {more(most)}."
        )
    return told


def _last_fall(outcome: Outcome, history: History, epochs: int) -> Floats:
    """The share by which each model's loss fell in the last epoch, `(L,)`: the loss of its steps, or of its evaluations
    if that fell less. -inf for models that did not run out of epochs, and for fewer than two epochs.
    """
    fall = np.full(len(outcome.reasons), -np.inf)
    for model in np.flatnonzero([reason == "max_epochs" for reason in outcome.reasons]).tolist():
        steps, each = int(outcome.steps[model]), int(outcome.steps[model]) // epochs
        loss = history.step_loss[:steps, model]
        if epochs < 2 or len(loss) < 2 * each:  # it began with steps of another fit
            continue
        fall[model] = _share(loss[-2 * each : -each], loss[-each:])
        evaluated = history.val_loss[:, model]
        before, last = (
            evaluated[(history.eval_step >= steps - back * each) & (history.eval_step < steps - (back - 1) * each)]
            for back in (2, 1)
        )
        if len(before) and len(last) and np.isfinite(before).all() and np.isfinite(last).all():
            fall[model] = min(fall[model], _share(before, last))
    return fall


def _share(before: Floats, last: Floats) -> float:
    """The share of the mean `before` that is gone in the mean of the `last`."""
    start, end = float(before.mean()), float(last.mean())
    return (start - end) / start if start > 0.0 else -np.inf
