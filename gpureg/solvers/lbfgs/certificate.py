"""What a fit can prove about itself: the certificate of each model, made in a pass of its own at the final weights."""

from __future__ import annotations

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import named
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.objective import Objective, gap_bound
from gpureg.solvers.problem import COLUMNS_AT_ONCE, Problem
from gpureg.types import Floats, Ints, StopReason

Certificate = dict[str, float | bool | None]


def attainable(tol: float, resolution: float, objective: Floats) -> Floats:
    """The tolerance `(A,)`: `tol`, or the rounding error of the objective where that is larger.

    Objectives that differ by less are the same number to a float type of that `resolution`: eps J, 1.2e-7 J in
    float32, 2.2e-16 J in float64.
    """
    return np.maximum(tol, resolution * np.abs(objective))


def certify(
    problem: Problem,
    kernels: Kernels,
    config: FitConfig,
    weights: Floats,
    reasons: tuple[StopReason, ...],
    resolution: float,
) -> tuple[Floats, tuple[Certificate, ...], tuple[StopReason, ...], tuple[str, ...]]:
    """Weights `(L, K, D)` with a free bias at its optimum, their certificates, reasons to match, and warnings.

    A certificate has `objective` (nats, with the penalty), `gradient_norm`, `gap_bound` and `converged`. The bound is
    `||∇||² / (4 λ)` (`objective.gap_bound`), None without a penalty. Where the bias is free, a Newton step on the
    biases alone brings them to their optimum first, and what is left of their gradient is added as `∇_b' H_b^-1
    ∇_b`, twice what it is worth. `converged`: the bound is at most what is `attainable` (without a penalty: the solver
    says so).
    """
    weights = weights.copy()
    numbers = np.full((3, len(weights)), np.nan)
    at_once = max(1, COLUMNS_AT_ONCE // kernels.n_columns)
    finite = np.flatnonzero(np.isfinite(weights).all(axis=(1, 2)))
    centre = np.zeros(problem.D) if config.penalizes_bias else problem.train.mean()
    centre[-1] = 0.0
    with kernels.steady():
        for start in range(0, len(finite), at_once):
            models = finite[start : start + at_once]
            weights[models], numbers[:, models] = _measured(problem, kernels, config, weights[models], models, centre)
    objective, slope, rest = numbers
    bound = gap_bound(slope, problem.table.l2) + rest
    tolerance = attainable(config.tol, resolution, objective)
    certificates: list[Certificate] = []
    final: list[StopReason] = []
    for model, reason in enumerate(reasons):
        known = bool(np.isfinite(bound[model]))
        met = bool(bound[model] <= tolerance[model]) if known else reason == "converged"
        norm = float(np.sqrt(slope[model])) if np.isfinite(slope[model]) else None
        certificates.append(
            {
                "objective": float(objective[model]) if np.isfinite(objective[model]) else None,
                "gradient_norm": norm,
                "gap_bound": float(bound[model]) if known else None,
                "converged": met and reason != "diverged",
            }
        )
        final.append(_reason(reason, met))
    return weights, tuple(certificates), tuple(final), _warnings(problem, config, certificates, final)


def _reason(reason: StopReason, met: bool) -> StopReason:
    """`converged` is what the certificate says it is; if only the solver said so, its float type could not tell."""
    if reason in ("diverged", "interrupted"):
        return reason
    if met:
        return "converged"
    return "precision" if reason == "converged" else reason


def _measured(
    problem: Problem, kernels: Kernels, config: FitConfig, weights: Floats, models: Ints, centre: Floats
) -> tuple[Floats, Floats]:
    """Weights with their bias profiled out, and objective, squared gradient norm and the bias's rest, `(3, A)`."""
    backend = kernels.backend
    xp = backend.xp
    table = problem.table.take(models)
    whole = Objective(
        kernels, problem.train, table, problem.D, weighted=problem.weighted, penalize_bias=config.penalizes_bias
    )
    W = backend.from_host(weights)
    value = whole.value(W)
    if config.penalizes_bias:
        host = kernels.to_host(xp.stack([value.loss + value.penalty, xp.sum(value.gradient**2, axis=(1, 2))], axis=0))
        return weights, np.concatenate([host, np.zeros((1, len(models)))])
    column = table.column if problem.weighted else None
    H = kernels.to_host(problem.train.bias_curvature(whole.columns(W), column)) / problem.n
    inverse = np.linalg.pinv(H, rcond=1e-10, hermitian=True)  # equal shifts of all biases change nothing
    bias = kernels.to_host(value.gradient[:, :, -1])
    moved = weights.copy()
    moved[:, :, -1] -= np.einsum("lij,lj->li", inverse, bias)
    if kernels.loss.shift_invariant:  # a common shift of free biases changes nothing: their sum is 0 by convention
        moved[:, :, -1] -= moved[:, :, -1].mean(axis=1, keepdims=True)
    there = whole.value(backend.from_host(moved))
    better = kernels.to_host(xp.sum(there.gradient[:, :, -1] ** 2, axis=1)) <= (bias**2).sum(axis=1)
    numbers = []
    for point in (value, there):
        tail = point.gradient[:, :, -1:]
        slope = (point.gradient - tail * backend.from_host(centre))[:, :, :-1]
        left = kernels.to_host(tail[:, :, 0])
        rest = np.maximum(np.einsum("li,lij,lj->l", left, inverse, left), 0.0)
        host = kernels.to_host(xp.stack([point.loss + point.penalty, xp.sum(slope**2, axis=(1, 2))], axis=0))
        numbers.append(np.concatenate([host, rest[None, :]]))
    return np.where(better[:, None, None], moved, weights), np.where(better, numbers[1], numbers[0])


def _warnings(
    problem: Problem, config: FitConfig, certificates: list[Certificate], reasons: list[StopReason]
) -> tuple[str, ...]:
    """One warning for all models that stopped short."""
    short = [model for model, reason in enumerate(reasons) if reason in ("max_iter", "precision")]
    if not short:
        return ()
    bounds = [float(b) for b in (certificates[model]["gap_bound"] for model in short) if b is not None]
    worst = f"; the gap to the optimum is at most {max(bounds):.2g} nats" if bounds else ""
    least = min(float(problem.table.l2[model]) for model in short)
    why = {reasons[model] for model in short}
    remedies = [f"more iterations ({named('max_iter')})"] if "max_iter" in why else []
    if config.dtype == "float32" and "precision" in why:
        remedies.append(f"{named('dtype', 'float64')} (float32 can go no further than a gradient of about 1e-6)")
    return (
        f"{len(short)} of {len(reasons)} model(s), λ from {least:g}, stopped before the tolerance {config.tol:g} was "
        f"met{worst}. Give {', '.join([*remedies, 'a larger tolerance'])}, or a larger λ.",
    )
