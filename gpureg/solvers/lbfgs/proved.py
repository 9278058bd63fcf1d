"""The proof that a single model's point is near enough to the optimum, from the pass that found it."""

from __future__ import annotations

from math import sqrt

import numpy as np

from gpureg.kernels.cpu.one_model import NumpyOneModel
from gpureg.solvers.lbfgs.trials import Goal, Trial
from gpureg.types import Floats

WIDEST = 1e-3  # tilt of which the series of its cost is used


def proved_bound(goal: Goal, model: NumpyOneModel, trial: Trial) -> float:
    """An upper bound on the gap to the optimum at the point that the model evaluated last; infinite if there is none.

    With a penalised bias it is `||∇||² / (4 λ)` (`objective.gap_bound`). A free bias's residuals have to sum to 0: they
    are tilted by the c for which they do, as in `rows.dual`, from all samples; that costs half a pass, unless c is so
    small that the longest that its part of the gradient can be is short enough.
    """
    if not goal.l2 > 0.0:
        return np.inf
    if goal.centre is None:
        return trial.bound
    imbalance = trial.gradient[:, -1]
    H = model.biases() / goal.n
    c = _solved(H, imbalance, shift=goal.loss.shift_invariant)
    wide = float(np.ptp(c) if goal.loss.shift_invariant else np.abs(c).max())
    if not wide <= WIDEST:
        return np.inf
    slope = trial.gradient[:, :-1]
    rest = 0.5 * (1.0 + wide) * float(c @ H @ c) + float(np.abs(imbalance - H @ c).sum()) * (1.0 + wide)
    steepest = _norm(slope) + 0.5 * _norm(c) * model.length / sqrt(goal.n)  # no curvature is above 1/2
    bound = steepest**2 / (4.0 * goal.l2) + rest
    if not bound <= goal.tolerance:
        bound = _norm(slope - model.tilted(c) / goal.n) ** 2 / (4.0 * goal.l2) + rest
    return bound if np.isfinite(bound) else np.inf


def _norm(x: Floats) -> float:
    return sqrt(float(np.vdot(x, x)))


def _solved(H: Floats, right: Floats, *, shift: bool) -> Floats:
    """`H^-1 right`; NaN if H has no inverse. `shift`: H is 0 for a shift of all classes, and so is `right`."""
    size = float(np.trace(H)) / len(H)
    if not size > 0.0:
        return np.full_like(right, np.nan)
    if len(H) == 1:
        return right / H[0]
    lift = size / len(H) if shift else 0.0
    try:
        return np.asarray(np.linalg.solve(H + lift + 1e-15 * size * np.eye(len(H)), right))
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)
