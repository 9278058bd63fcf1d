"""What a fit can prove about its own result: the certificate of each model at its final weights, from the pass that
found them if that suffices."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpureg.config import FitConfig
from gpureg.errors import named
from gpureg.kernels.protocol import Kernels
from gpureg.solvers.lbfgs.objective import Objective, Value, gap_bound
from gpureg.solvers.problem import COLUMNS_AT_ONCE, Problem
from gpureg.types import Array, Floats, Ints, ModelTable, StopReason

Certificate = dict[str, float | bool | None]
# samples that a bound is made from if the bias is free, the next number only for models whose bound is not met:
# at least the first number, and four for each column, and one in the second
SAMPLES = ((256, 128), (1024, 32), (4096, 8), (0, 1))
FEW_SAMPLES = ((1024, 128), (0, 1))  # a part of sparse rows is a copy of them: a small one, or none
SLACK = 0.25  # of the tolerance: a solver leaves the rest for what a certificate adds, a free bias's share and rounding
FOLD_TOLERANCE = 100.0  # times the tolerance: a fold's model is needed only for its score
MODELS_AT_ONCE = 8  # at least, so that every thread has some
SHARPER = 2.0 / 3.0  # 1/2 and 1 take more passes, on MNIST and on embeddings
FURTHER = 1e-3  # of the tolerance: the least that a model of a path aims at because its λ is large
PIECE = 1 << 15  # elements of gradients that a thread takes at a time
FINE = 1e-6  # nats: no model aims at less than this because its λ is large


@dataclass(frozen=True)
class Accuracy:
    """What L models are to reach: bounds on their gaps, `tolerance (L,)`, the bounds `aim (L,)` at which they stop, and
    whether an outcome `measures` their losses and accuracies.

    Objectives whose relative difference is less than `resolution` count as equal.
    """

    tolerance: Floats
    aim: Floats
    resolution: float
    measures: bool = True

    @classmethod
    def of(cls, table: ModelTable, tol: float, *, resolution: float, measures: bool, path: bool) -> Accuracy:
        """For gaps of at most `tol` nats, of a fold's model 100 times that; `path`: see `aims`."""
        tolerance = tol * np.where(table.fold >= 0, FOLD_TOLERANCE, 1.0)
        return cls(tolerance, aims(table, tolerance) if path else tolerance, resolution, measures)

    def attainable(self, models: Ints, objective: Floats) -> Floats:
        """The tolerance of `models (A,)`, or the rounding error of their objectives `(A,)` if that is larger.

        Objectives that differ by less are the same number to a float type of that `resolution`: eps J, 1.2e-7 J in
        float32, 2.2e-16 J in float64.
        """
        return np.maximum(self.tolerance[models], self.resolution * np.abs(objective))

    def aimed(self, models: Ints, objective: Floats) -> Floats:
        """The bound at which `models (A,)` stop, as far as it is attainable."""
        return np.maximum(self.aim[models], self.resolution * np.abs(objective))


def aims(table: ModelTable, tolerance: Floats) -> Floats:
    """Where the models of a path stop, for gaps of at most `tolerance (L,)`: models of a larger λ go further, to the
    tolerance times `(λ_least / λ)^(2/3)`.

    There a pass gains much: the bound is `||∇||² / (4 λ)`, and the problem is well conditioned. One tolerance that is
    fine enough for all λ is met where it costs least, and models of a small λ need not take it. Measured (MNIST, 20,000
    samples, 96 C from 1e-6 to 1e2, to the objectives of scikit-learn's warm loop + 1e-6): 688 passes at a tolerance of
    6.3e-3, where models that all stop at one bound need one of less than 1e-5, and 2,100 passes. Folds are scored and
    not kept: they stop at their tolerance.
    """
    penalised = table.l2 > 0
    least = table.l2[penalised].min(initial=np.inf)
    share = (least / np.maximum(table.l2, least)) ** SHARPER if np.isfinite(least) else 1.0
    further = np.maximum(tolerance * np.maximum(share, FURTHER), np.minimum(tolerance, FINE))
    return np.where(penalised & (table.fold < 0), further, tolerance)


def certify(
    problem: Problem,
    kernels: Kernels,
    config: FitConfig,
    weights: Floats,
    reasons: tuple[StopReason, ...],
    accuracy: Accuracy,
    ends: Ends,
) -> tuple[Floats, tuple[Certificate, ...], tuple[StopReason, ...], tuple[str, ...]]:
    """Weights `(L, K, D)`, free biases shifted to a sum of 0 if that changes nothing, their certificates, reasons to
    match, and warnings.

    A certificate has `objective` (nats, with the penalty), `gradient_norm`, `gap_bound` and `converged`. The bound is
    `||∇||² / (4 λ)` (`objective.gap_bound`), None without a penalty. If the bias is free, it is that of `rows.dual`,
    from a part of the samples if that is enough, or the objective itself if that is less, since no loss is below 0.
    `converged`: the bound is at most what is `attainable` (without a bound, the solver decides).
    """
    weights = weights.copy()
    numbers = np.full((3, len(weights)), np.nan)
    at_once = max(MODELS_AT_ONCE, COLUMNS_AT_ONCE // kernels.n_columns)
    finite = np.flatnonzero(np.isfinite(weights).all(axis=(1, 2)))
    turns = -(-len(finite) // at_once)
    certifier = _Certifier.of(problem, kernels, config, accuracy, ends)
    with kernels.steady():
        for turn in range(turns):
            models = finite[len(finite) * turn // turns : len(finite) * (turn + 1) // turns]
            weights[models, :, -1], numbers[:, models] = certifier.measured(weights[models], models)
    objective, slope, bound = numbers
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
    return weights, tuple(certificates), tuple(final), shortfall(problem.table, config, certificates, final)


def _reason(reason: StopReason, met: bool) -> StopReason:
    """`converged` only if the certificate says so; if only the solver said so, its float type could not tell."""
    if reason in ("diverged", "interrupted"):
        return reason
    if met:
        return "converged"
    return "precision" if reason == "converged" else reason


@dataclass(frozen=True)
class Ends:
    """What the last pass measured at the final weights: the loss `(L,)`, NaN for a model that has none, and the
    gradients of the objective `(K, D)`, by model.
    """

    losses: Floats
    gradients: Mapping[int, Floats]

    def value(self, objective: Objective, models: Ints, W: Array) -> Value:
        """The objective of `models (A,)` at `W (A, K, D)`; one pass unless it is known for all of them."""
        if not np.isfinite(self.losses[models]).all():
            return objective.value(W)
        from_host, gradients = objective.kernels.backend.from_host, [self.gradients[model] for model in models.tolist()]
        loss, hits = from_host(self.losses[models]), from_host(np.full(len(models), np.nan))
        return Value(loss, objective.penalty(W), from_host(np.stack(gradients)), hits)


@dataclass(frozen=True)
class _Certifier:
    """Makes the certificates of some models at a time; its numbers, `(3, A)`, are the objective, the squared norm of
    the gradient in the penalised weights, about the `centre (D,)` where the bias is free, and the bound on the gap.
    """

    problem: Problem
    kernels: Kernels
    config: FitConfig
    accuracy: Accuracy
    ends: Ends
    centre: Array

    @classmethod
    def of(cls, problem: Problem, kernels: Kernels, config: FitConfig, accuracy: Accuracy, ends: Ends) -> _Certifier:
        """For the models of a problem."""
        centre = np.zeros(problem.D) if config.penalizes_bias else problem.train.mean()
        return cls(problem, kernels, config, accuracy, ends, kernels.backend.from_host(centre))

    def measured(self, weights: Floats, models: Ints) -> tuple[Floats, Floats]:
        """The biases `(A, K)` of `models (A,)` at weights `(A, K, D)`, free ones shifted so that their sum is 0 if a
        shift changes nothing, and the models' numbers.
        """
        kernels, l2 = self.kernels, self.problem.table.l2[models]
        objective = self._objective(models)
        W = kernels.backend.from_host(weights)
        value = self.ends.value(objective, models, W)
        biases, host = weights[:, :, -1], self._host(value)
        if self.config.penalizes_bias:
            return biases, np.stack([*host, self._stated(gap_bound(host[1], l2), host[0])])
        bound = np.where(l2 > 0, np.inf, np.nan)
        n = objective.rows.n
        parts = SAMPLES if self.problem.train.rotates else FEW_SAMPLES
        for samples in sorted({min(n, max(least, 4 * self.kernels.n_columns, n // share)) for least, share in parts}):
            unmet = ~(bound <= self.accuracy.attainable(models, host[0])) & (l2 > 0) & np.isfinite(host[1])
            some = np.flatnonzero(unmet)
            if len(some):
                bound[some] = np.minimum(bound[some], self._free_bound(objective.take(some), W, value, some, samples))
        if kernels.loss.shift_invariant:
            biases = biases - biases.mean(axis=1, keepdims=True)
        return biases, np.stack([*host, np.where(l2 > 0, self._stated(bound, host[0]), np.nan)])

    def _stated(self, bound: Floats, objective: Floats) -> Floats:
        """Bounds `(A,)`, at most the objective with what rounding 1 - p to multiples of the float type's eps may have
        taken from it; at least eps if the objective is at most twice that: there gradients are rounded to 0, too.
        """
        eps = float(np.finfo(self.config.dtype).eps)
        least = np.where(objective <= 2.0 * eps, eps, 0.0)
        return np.maximum(np.minimum(bound, objective + eps), least)

    def _objective(self, models: Ints) -> Objective:
        return Objective(
            self.kernels,
            self.problem.train,
            self.problem.table.take(models),
            self.problem.D,
            weighted=self.problem.weighted,
            penalize_bias=self.config.penalizes_bias,
        )

    def _free_bound(self, objective: Objective, W: Array, value: Value, places: Ints, samples: int) -> Floats:
        """The bound of `rows.dual` for the models at `places (B,)`, those of `objective`."""
        xp, index = self.kernels.backend.xp, self.kernels.backend.from_host(places)
        own, gradient = xp.take(W, index, axis=0), xp.take(value.gradient, index, axis=0)
        column = objective.table.column if objective.weighted else None
        imbalance = self.kernels.to_host(gradient[:, :, -1])  # sync
        found = objective.rows.balanced(objective.columns(own), column, imbalance, samples)
        total = self.kernels.to_host(self._squares(gradient, found.slope))  # sync
        return np.asarray(gap_bound(total, objective.table.l2) + found.cost)

    def _squares(self, gradient: Array, change: Array | None = None) -> Array:
        """The squared norm `(A,)` of the gradient `(A, K, D)`, with this change to it, in the penalised weights; of
        centred features if the bias is free. The kernels' threads take a few models at a time, which fit their caches.
        """
        xp, A = self.kernels.backend.xp, gradient.shape[0]
        few = A if self.kernels.lanes == 1 else max(1, PIECE // math.prod(gradient.shape[1:]))
        parts: list[Array] = [None] * -(-A // few)

        def task(number: int) -> None:
            models = slice(number * few, min((number + 1) * few, A))
            own = gradient[models, :, :]
            own = own if change is None else own + change[models, :, :]
            if not self.config.penalizes_bias:
                own = (own - own[:, :, -1:] * self.centre)[:, :, :-1]
            parts[number] = xp.sum(own * own, axis=(1, 2))

        self.kernels.share_out(len(parts), task)
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)

    def _host(self, value: Value) -> Floats:
        """Objectives and squared norms of the gradient, `(2, A)`."""
        numbers = [value.loss + value.penalty, self._squares(value.gradient)]
        return self.kernels.to_host(self.kernels.backend.xp.stack(numbers, axis=0))


def shortfall(
    table: ModelTable,
    config: FitConfig,
    certificates: Sequence[Certificate],
    reasons: Sequence[StopReason],
    in_double: Collection[int] = (),
) -> tuple[str, ...]:
    """One warning for all models that stopped short; `in_double`: those that ended in float64 in spite of the
    configuration's type.
    """
    short = [model for model, reason in enumerate(reasons) if reason in ("max_iter", "precision")]
    if not short:
        return ()
    bounds = [float(b) for b in (certificates[model]["gap_bound"] for model in short) if b is not None]
    worst = f"; the gap to the optimum is at most {max(bounds):.2g} nats" if bounds else ""
    least = min(float(table.l2[model]) for model in short)
    remedies = [f"more iterations ({named('max_iter')})"] if any(reasons[m] == "max_iter" for m in short) else []
    coarse = [model for model in short if reasons[model] == "precision" and model not in in_double]
    if config.dtype == "float32" and coarse:
        remedies.append(f"{named('dtype', 'float64')} (float32 can't go below a gradient of about 1e-6)")
    return (
        f"{len(short)} of {len(reasons)} model(s), λ from {least:g}, stopped before the tolerance {config.tol:g} was "
        f"met{worst}. Give {', '.join([*remedies, 'a larger tolerance'])}, or a larger λ.",
    )
