"""The end of a fit: certificates, measurements, history, and warnings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpureg.config import FitConfig
from gpureg.history import History
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.certificate import Accuracy, Ends, certify
from gpureg.solvers.lbfgs.separation import separated
from gpureg.solvers.lbfgs.state import LbfgsState, build_history
from gpureg.solvers.problem import Measured, Outcome, Passed, Problem, measure_final
from gpureg.types import Floats


def finished(
    state: LbfgsState, problem: Problem, kernels: Kernels, config: FitConfig, accuracy: Accuracy
) -> tuple[Outcome, History]:
    """Outcome and history of a state whose L models all have final weights and a reason."""
    L = len(problem.table)
    weights = np.stack([state.finals[model] for model in range(L)])
    done = tuple(found for found in state.reasons if found is not None)
    weights, certificates, reasons, warnings = certify(
        problem, kernels, config, weights, done, accuracy, Ends(state.losses, state.gradients)
    )
    final = np.ascontiguousarray(np.swapaxes(weights, 1, 2))
    passed = Passed(state.losses, state.hits / problem.n)
    measured = _measured(problem, kernels, final, passed, everything=accuracy.measures)
    history = build_history(state, problem.table, measured, certificates)
    warnings += _separable(problem, measured, separated(problem, kernels, weights, free=not config.penalizes_bias))
    none: tuple[int | None, ...] = (None,) * L
    return Outcome(final, state.iterations.copy(), reasons, none, measured, certificates, warnings), history


def _measured(problem: Problem, kernels: Kernels, final: Floats, passed: Passed, *, everything: bool) -> Measured:
    """Losses and accuracies; without `everything` only those of models without a penalty, which tell whether they have
    an optimum.
    """
    if everything:
        return measure_final(kernels, problem, final, passed)
    models = np.flatnonzero((problem.table.l2 == 0) & (problem.table.fold < 0))
    numbers = np.full((len(Measured.__dataclass_fields__), len(final)), np.nan)
    if len(models):
        found = measure_final(kernels, problem.take(models), final[models], passed.take(models))
        numbers[:, models] = [getattr(found, name) for name in Measured.__dataclass_fields__]
    return Measured(*numbers)


def _separable(problem: Problem, measured: Measured, found: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """A warning if models without a penalty have no optimum: those `found (L,)` to have none, and those that fit their
    training data without an error.
    """
    folds = problem.table.fold >= 0
    perfect = np.where(folds, measured.train_loss < 1e-3, measured.train_accuracy == 1.0)
    count = int(((problem.table.l2 == 0) & (found | perfect)).sum())
    if not count:
        return ()
    return (
        f"{count} model(s) without a penalty (λ = 0) separate the training data, or a part of them: the loss keeps "
        "falling as the weights grow, so there is no optimum. The weights are those of the last iteration; a small λ "
        "gives a definite answer.",
    )
