"""What a fit can prove about itself: the certificate of each model at its final weights, from the pass that found them
if that suffices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import named
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.bound import BiasCurvature, free_gap_bound
from gpureg.solvers.lbfgs.conditioning import MOST_ROTATED
from gpureg.solvers.lbfgs.objective import Objective, Value, gap_bound
from gpureg.solvers.problem import COLUMNS_AT_ONCE, Problem
from gpureg.types import Array, Floats, Ints, StopReason

Certificate = dict[str, float | bool | None]
BIAS_STEPS = 2  # of Newton's method on the biases of a model whose bound is not met


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
    `||∇||² / (4 λ)` (`objective.gap_bound`), None without a penalty. Where the bias is free, it is that of
    `bound.free_gap_bound`, or the objective itself if that is less, since no loss is below 0; Newton steps on the
    biases alone bring them to their optimum if the bound is not met yet. `converged`: the bound is at most what is
    `attainable` (without a bound: the solver says so).
    """
    weights = weights.copy()
    numbers = np.full((3, len(weights)), np.nan)
    at_once = max(1, COLUMNS_AT_ONCE // kernels.n_columns)
    finite = np.flatnonzero(np.isfinite(weights).all(axis=(1, 2)))
    certifier = _Certifier.of(problem, kernels, config, accuracy, ends)
    with kernels.steady():
        for start in range(0, len(finite), at_once):
            models = finite[start : start + at_once]
            weights[models], numbers[:, models] = certifier.measured(weights[models], models)
        certifier = certifier.sharpened(numbers)
    objective, slope, _ = numbers
    bound = certifier.bound(numbers, np.arange(len(weights)))
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
    """Makes the certificates of some models at a time; its numbers, `(3, A)`, are the objective, the squared norm of
    the gradient in the penalised weights, about the `centre (D,)` where the bias is free, and what is left to gain by a
    free bias alone. `reach (L,)`: R of `bound.free_gap_bound`, NaN if the loss does not allow that bound.
    """

    problem: Problem
    kernels: Kernels
    config: FitConfig
    accuracy: Accuracy
    ends: Ends
    centre: Floats
    reach: Floats

    @classmethod
    def of(cls, problem: Problem, kernels: Kernels, config: FitConfig, accuracy: Accuracy, ends: Ends) -> _Certifier:
        """For the models of a problem."""
        centre, reach = np.zeros(problem.D), np.full(len(problem.table), np.nan)
        if not config.penalizes_bias:
            centre = problem.train.mean()
            most = kernels.loss.most_curved
            if most is not None:
                centre[-1] = 1.0  # the biases are no part of it
                reach = most * problem.train.spread(centre)[problem.table.column if problem.weighted else 0] / problem.n
                reach = np.broadcast_to(reach, len(problem.table))
            centre[-1] = 0.0
        return cls(problem, kernels, config, accuracy, ends, centre, reach)

    def bound(self, numbers: Floats, models: Ints) -> Floats:
        """The bound on the gaps of `models (A,)` to the optimum; NaN where there is none."""
        objective, slope, rest = numbers
        l2 = self.problem.table.l2[models]
        if self.config.penalizes_bias:
            return gap_bound(slope, l2)
        return np.minimum(free_gap_bound(slope, rest, self.reach[models], l2), objective)

    def sharpened(self, numbers: Floats) -> _Certifier:
        """With R by the largest second moment in place of their sum, if that may bring a bound to its tolerance: then
        it is worth a product of the samples with themselves.
        """
        models, train = np.arange(len(self.reach)), self.problem.train
        tolerance = self.accuracy.attainable(models, numbers[0])
        least = gap_bound(numbers[1], self.problem.table.l2) + numbers[2]
        hopeful = (self.bound(numbers, models) > tolerance) & (least <= tolerance)
        if train.features > MOST_ROTATED or not hopeful.any():
            return self
        xp, most = self.kernels.backend.xp, self.kernels.loss.most_curved or np.nan
        second = train.scatter(self.centre)[:-1, :-1]
        largest = float(self.kernels.to_host(xp.max(xp.linalg.eigvalsh(second))))  # sync
        columns = len(train.spread(self.centre))  # of which the moments are a mean
        return replace(self, reach=np.minimum(self.reach, most * columns * largest * (1.0 + 1e-6)))

    def measured(self, weights: Floats, models: Ints) -> tuple[Floats, Floats]:
        """Weights `(A, K, D)` of `models (A,)`, with their biases nearer to the optimum if that is needed, and their
        numbers.
        """
        kernels, objective = self.kernels, self._objective(models)
        W = kernels.backend.from_host(weights)
        value = self.ends.value(objective, models, W)
        if self.config.penalizes_bias:
            return weights, self._numbers(value, None)
        moved = weights.copy()
        if kernels.loss.shift_invariant:  # a common shift of free biases changes nothing: their sum is 0 by convention
            moved[:, :, -1] -= moved[:, :, -1].mean(axis=1, keepdims=True)
        bias, curvature = np.array(kernels.to_host(value.gradient[:, :, -1])), self._curvature(objective, W)
        numbers = self._numbers(value, curvature.remainder(bias))
        for number in range(BIAS_STEPS):
            gains = self._gains(numbers, models, first=number == 0)
            if not len(gains):
                break
            some, at = objective.take(gains), moved[gains]
            here = self._curvature(some, kernels.backend.from_host(at)) if number else curvature.take(gains)
            moved[gains], bias[gains], numbers[:, gains] = self._profiled(
                some, at, bias[gains], here, numbers[:, gains], models[gains]
            )
        return moved, numbers

    def _objective(self, models: Ints) -> Objective:
        return Objective(
            self.kernels,
            self.problem.train,
            self.problem.table.take(models),
            self.problem.D,
            weighted=self.problem.weighted,
            penalize_bias=self.config.penalizes_bias,
        )

    def _curvature(self, objective: Objective, W: Array) -> BiasCurvature:
        """That of the biases at `W (A, K, D)`; half a pass."""
        column = objective.table.column if objective.weighted else None
        H = self.kernels.to_host(objective.rows.bias_curvature(objective.columns(W), column)) / objective.rows.n
        return BiasCurvature.of(H, shift_invariant=self.kernels.loss.shift_invariant)

    def _gains(self, numbers: Floats, models: Ints, *, first: bool) -> Ints:
        """The places of the models whose bound is not met and would be another if their biases were optimal."""
        bound, l2 = self.bound(numbers, models), self.problem.table.l2[models]
        unmet = ~(bound <= self.accuracy.attainable(models, numbers[0]))
        return np.flatnonzero(unmet & np.where(np.isfinite(bound), bound > 1.05 * gap_bound(numbers[1], l2), first))

    def _profiled(
        self,
        objective: Objective,
        weights: Floats,
        bias: Floats,
        curvature: BiasCurvature,
        numbers: Floats,
        models: Ints,
    ) -> tuple[Floats, Floats, Floats]:
        """Weights, gradients in the biases and numbers after a Newton step on the biases, whose gradients are `bias
        (A, K)`, where that brings them nearer to their optimum.
        """
        kernels, step = self.kernels, curvature.step(bias)
        moved = weights.copy()
        moved[:, :, -1] += step
        there = objective.value(kernels.backend.from_host(moved))
        left = kernels.to_host(there.gradient[:, :, -1])
        found = self._numbers(there, curvature.after(step).remainder(left))
        before, after = self.bound(numbers, models), self.bound(found, models)
        nearer = (left**2).sum(axis=1) <= (bias**2).sum(axis=1)
        better = np.where(np.isfinite(before) & np.isfinite(after), after <= before, nearer)
        return (
            np.where(better[:, None, None], moved, weights),
            np.where(better[:, None], left, bias),
            np.where(better, found, numbers),
        )

    def _numbers(self, value: Value, rest: Floats | None) -> Floats:
        """The numbers of some models at a point; `rest (A,)`: what is left to gain by free biases."""
        kernels = self.kernels
        xp, slope = kernels.backend.xp, value.gradient
        if rest is not None:
            slope = (slope - slope[:, :, -1:] * kernels.backend.from_host(self.centre))[:, :, :-1]
        host = kernels.to_host(xp.stack([value.loss + value.penalty, xp.sum(slope**2, axis=(1, 2))], axis=0))  # sync
        return np.concatenate([host, np.zeros((1, host.shape[1])) if rest is None else rest[None, :]])


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
