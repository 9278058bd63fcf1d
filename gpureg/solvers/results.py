"""Outcome and history of some models, in another order, or of equal models more than once."""

from __future__ import annotations

from dataclasses import fields, replace

from gpureg.history import History
from gpureg.solvers.problem import Measured, Outcome
from gpureg.types import Ints, ModelTable


def rearranged(outcome: Outcome, history: History, table: ModelTable, place: Ints) -> tuple[Outcome, History]:
    """Outcome and history of the L models of `table`: for each the model `place (L,)` of those that are given."""
    certificates = outcome.certificates
    outcome = replace(
        outcome,
        weights=outcome.weights[place],
        steps=outcome.steps[place],
        reasons=tuple(outcome.reasons[model] for model in place),
        epochs=tuple(outcome.epochs[model] for model in place),
        measured=Measured(*(getattr(outcome.measured, field.name)[place] for field in fields(Measured))),
        certificates=None if certificates is None else tuple(certificates[model] for model in place),
    )
    per_model = ("l2", "lr", "fold", "seed")
    arrays = {field.name: getattr(history, field.name) for field in fields(History) if field.name not in per_model}
    there = {name: array for name, array in arrays.items() if array.ndim == 2 and array.shape[1]}
    courses = {name: array[:, place] for name, array in there.items()}
    if len(history.passes):
        courses["passes"] = history.passes[place]
    return outcome, replace(history, **courses, **{name: getattr(table, name) for name in per_model})
