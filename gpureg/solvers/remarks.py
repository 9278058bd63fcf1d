"""Warnings about models that did not train well, with a solver's advice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpureg.solvers.problem import Outcome
from gpureg.types import Ints, ModelTable

ROUNDED = 1e-6  # of a loss: what float32 may add to a constant predictor's

Advice = Callable[[Ints], str]  # of some models: what to do, as a sentence


def diverged(table: ModelTable, outcome: Outcome, advice: Advice) -> list[str]:
    """A sentence if some models diverged."""
    models = np.flatnonzero([reason == "diverged" for reason in outcome.reasons])
    if not len(models):
        return []
    named = ", ".join(sorted({f"{l2:g}" for l2 in table.l2[models]}))
    return [f"{len(models)} of {len(table)} models diverged (λ = {named}): a loss was not finite. {advice(models)}"]


def worse_than_a_constant(table: ModelTable, outcome: Outcome, constant: float, advice: Advice) -> list[str]:
    """A sentence if some models predict worse than the best constant predictor, whose loss is `constant` nats."""
    loss = np.where(np.isfinite(outcome.measured.train_loss), outcome.measured.train_loss, -np.inf)
    models = np.flatnonzero(loss > constant * (1 + ROUNDED))
    if not len(models):
        return []
    top = models[loss[models].argmax() :][:1]
    return [
        f"{len(models)} of {len(table)} models predict worse than a constant ({constant:.4f} nats); the worst, "
        f"λ = {table.l2[top[0]]:g}, ends at {loss[top[0]]:.5g}. {advice(top)}"
    ]
