"""What a fit can prove about itself: the certificate of each model at its final weights, from the pass that found them
if that suffices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import named
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.objective import Objective, Value, gap_bound
from gpureg.solvers.problem import COLUMNS_AT_ONCE, Problem
from gpureg.types import Array, Floats, Ints, StopReason

Certificate = dict[str, float | bool | None]


@dataclass(frozen=True)
class Accuracy:
    """What is asked of L models: bounds on their gaps, `tolerance (L,)`, and whether an outcome `measures` their losses
    and accuracies.

    Objectives that differ by less than `resolution`, relatively, are as good as equal.
    """

    tolerance: Floats
    resolution: float
    measures: bool = True

    def attainable(self, models: Ints, objective: Floats) -> Floats:
        """The tolerance of `models (A,)`, or the rounding error of their objectives `(A,)` where that is larger.

        Objectives that differ by less are the same number to a float type of that `resolution`: eps J, 1.2e-7 J in
        float32, 2.2e-16 J in float64.
        """
        return np.maximum(self.tolerance[models], self.resolution * np.abs(objective))


def certify(
    problem: Problem,
    kernels: Kernels,
    config: FitConfig,
    weights: Floats,
    reasons: tuple[StopReason, ...],
    accuracy: Accuracy,
    ends: Ends,
) -> tuple[Floats, tuple[Certificate, ...], tuple[StopReason, ...], tuple[str, ...]]:
    """Weights `(L, K, D)` with a free bias at its optimum, their certificates, reasons to match, and warnings.

    A certificate has `objective` (nats, with the penalty), `gradient_norm`, `gap_bound` and `converged`. The bound is
    `||∇||² / (4 λ)` (`objective.gap_bound`), None without a penalty. Where the bias is free, a Newton step on the
    biases alone brings them to their optimum if the bound is not met yet, and what is left of their gradient is added
    as `∇_b' H_b^-1 ∇_b`, twice what it is worth. `converged`: the bound is at most what is `attainable` (without a
    penalty: the solver says so).
    """
    weights = weights.copy()
    numbers = np.full((3, len(weights)), np.nan)
    at_once = max(1, COLUMNS_AT_ONCE // kernels.n_columns)
    finite = np.flatnonzero(np.isfinite(weights).all(axis=(1, 2)))
    centre = np.zeros(problem.D) if config.penalizes_bias else problem.train.mean()
    centre[-1] = 0.0
    certifier = _Certifier(problem, kernels, config, accuracy, ends, centre)
    with kernels.steady():
        for start in range(0, len(finite), at_once):
            models = finite[start : start + at_once]
            weights[models], numbers[:, models] = certifier.measured(weights[models], models)
    objective, slope, rest = numbers
    bound = gap_bound(slope, problem.table.l2) + rest
    tolerance = accuracy.attainable(np.arange(len(weights)), objective)
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


@dataclass(frozen=True)
class Ends:
    """What the last pass has measured at the final weights: the loss `(L,)`, NaN for a model that has none, and the
    gradients of the objective `(K, D)`, by model.
    """

    losses: Floats
    gradients: Mapping[int, Floats]

    def value(self, objective: Objective, models: Ints, W: Array) -> Value:
        """The objective of `models (A,)` at `W (A, K, D)`; one pass if it is not known of all of them."""
        if not np.isfinite(self.losses[models]).all():
            return objective.value(W)
        slope = np.stack([self.gradients[model] for model in models.tolist()])
        gradient = objective.without_penalty(objective.kernels.to_host(W), slope)
        return objective.known(W, self.losses[models], gradient)


@dataclass(frozen=True)
class _Certifier:
    """Makes the certificates of some models at a time."""

    problem: Problem
    kernels: Kernels
    config: FitConfig
    accuracy: Accuracy
    ends: Ends
    centre: Floats

    def measured(self, weights: Floats, models: Ints) -> tuple[Floats, Floats]:
        """Weights `(A, K, D)` of `models (A,)`, with their bias profiled out if that is needed, and objective, squared
        gradient norm and the bias's rest, `(3, A)`.
        """
        kernels, table = self.kernels, self.problem.table.take(models)
        whole = Objective(
            kernels,
            self.problem.train,
            table,
            self.problem.D,
            weighted=self.problem.weighted,
            penalize_bias=self.config.penalizes_bias,
        )
        W = kernels.backend.from_host(weights)
        value = self.ends.value(whole, models, W)
        if self.config.penalizes_bias:
            return weights, self._numbers(value, None)
        column = table.column if self.problem.weighted else None
        H = kernels.to_host(self.problem.train.bias_curvature(whole.columns(W), column)) / self.problem.n
        inverse = np.asarray(
            np.linalg.pinv(H, rcond=1e-10, hermitian=True), np.float64
        )  # equal shifts of all biases change nothing
        numbers = self._numbers(value, inverse)
        moved = weights.copy()
        if kernels.loss.shift_invariant:  # a common shift of free biases changes nothing: their sum is 0 by convention
            moved[:, :, -1] -= moved[:, :, -1].mean(axis=1, keepdims=True)
        bound = gap_bound(numbers[1], table.l2) + numbers[2]
        short = np.flatnonzero(~(bound <= self.accuracy.attainable(models, numbers[0])))
        if len(short):
            bias = kernels.to_host(value.gradient[:, :, -1])[short]
            moved[short], numbers[:, short] = self._profiled(
                whole.take(short), moved[short], bias, inverse[short], numbers[:, short]
            )
        return moved, numbers

    def _profiled(
        self, objective: Objective, weights: Floats, bias: Floats, inverse: Floats, numbers: Floats
    ) -> tuple[Floats, Floats]:
        """Weights and numbers after a Newton step on the biases, whose gradients are `bias (A, K)`, where that brings
        them nearer to their optimum.
        """
        kernels = self.kernels
        moved = weights.copy()
        moved[:, :, -1] -= np.einsum("lij,lj->li", inverse, bias)
        there = objective.value(kernels.backend.from_host(moved))
        left = kernels.to_host(there.gradient[:, :, -1])
        better = (left**2).sum(axis=1) <= (bias**2).sum(axis=1)
        chosen = np.where(better, self._numbers(there, inverse), numbers)
        return np.where(better[:, None, None], moved, weights), chosen

    def _numbers(self, value: Value, inverse: Floats | None) -> Floats:
        """Objective, squared norm of the gradient in the penalised weights, and the rest of a free bias, `(3, A)`."""
        kernels = self.kernels
        xp = kernels.backend.xp
        slope, rest = value.gradient, np.zeros(value.loss.shape[0])
        if inverse is not None:
            tail = value.gradient[:, :, -1:]
            slope = (value.gradient - tail * kernels.backend.from_host(self.centre))[:, :, :-1]
            left = kernels.to_host(tail[:, :, 0])
            rest = np.maximum(np.einsum("li,lij,lj->l", left, inverse, left), 0.0)
        host = kernels.to_host(xp.stack([value.loss + value.penalty, xp.sum(slope**2, axis=(1, 2))], axis=0))  # sync
        return np.concatenate([host, rest[None, :]])


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
