"""The bound on the gap to the optimum is one, however early a fit stops and however little its biases are optimal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from full_batch import WAYS, objective, place, solve
from scipy.optimize import minimize

from gpureg.losses import Logistic, Softmax
from gpureg.solvers.lbfgs.bound import BiasCurvature, free_gap_bound


def random_problem(random: np.random.Generator) -> tuple[Any, Any, float, str, Any, int]:
    """Few rows, features of any scale and offset or constant, weights of any size, λ over seven decades."""
    n, F = int(random.integers(3, 40)), int(random.integers(1, 5))
    task = str(random.choice(["softmax", "logistic"]))
    K = 2 if task == "logistic" else int(random.integers(2, 5))
    X = random.normal(size=(n, F)) * 10.0 ** random.integers(-2, 3, F) + random.normal() * 10.0 ** random.integers(
        -1, 3
    )
    if random.random() < 0.15:
        X[:] = 0.0
    y = random.integers(0, K, n)
    y[:K] = np.arange(K)[:n]
    weights = None
    if random.random() < 0.5:
        weights = 10.0 ** random.uniform(-13 if random.random() < 0.3 else -1, 1, n)
    return X, y, 10.0 ** random.uniform(-6, 1), task, weights, K


def check(seeds: range) -> None:
    stated = 0
    for seed in seeds:
        random = np.random.default_rng(seed)
        X, y, l2, task, weights, K = random_problem(random)
        placed = place(X, y, [l2], task, weights=weights, classes=K)
        way, free = str(random.choice(list(WAYS))), bool(random.random() < 0.8)
        best, _ = solve(*placed, free=free, tol=1e-15, max_iter=3000)
        assert best.certificates is not None
        least: Any = best.certificates[0]["objective"]
        for limit in (1, 2, 3, 5, 8):
            outcome, _ = solve(*placed, free=free, max_iter=limit, hessians=WAYS[way])
            assert outcome.certificates is not None
            found, bound = (outcome.certificates[0][name] for name in ("objective", "gap_bound"))
            assert found is not None
            assert bound is not None
            assert found - least <= bound * (1 + 1e-9) + 1e-13 * (1 + abs(found)), (seed, limit)
            stated += bound < found
    assert stated > 3 * len(seeds)  # and more than that no loss is below 0


def test_a_stated_bound_is_one() -> None:
    check(range(100))


@pytest.mark.long
def test_a_stated_bound_is_one_a_thousand_times() -> None:
    check(range(100, 1100))


def test_a_bias_far_from_its_optimum() -> None:
    """One row of next to no weight: the bias has thirty steps to go, and all that the weights can tell is 0."""
    y = np.array([0] + [1] * 19)
    weights = np.array([1e-12] + [1.0] * 19)
    for limit in (1, 2, 10):
        outcome, _ = solve(*place(np.zeros((20, 1)), y, [1e-3], "logistic", weights=weights), max_iter=limit)
        gap = objective(np.zeros((20, 1)), y, outcome.weights[0], 1e-3, free=True, weights=weights / weights.mean())
        assert outcome.certificates is not None
        assert gap <= outcome.certificates[0]["gap_bound"] * (1 + 1e-9) + 1e-15  # type: ignore[operator]


@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_what_biases_may_still_gain_is_bounded(K: int) -> None:
    """At random biases, against their optimum by other means; and from the Hessian of another place."""
    loss: Any = Logistic() if K == 1 else Softmax()
    tight = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        n = 30
        z = random.normal(size=(n, K)) * random.uniform(0.1, 4)
        y, s = random.integers(0, max(K, 2), n), random.uniform(0, 2, n)
        s /= s.mean()

        def parts(
            b: np.ndarray, n: int = n, z: Any = z, y: Any = y, s: Any = s
        ) -> tuple[float, np.ndarray, np.ndarray]:
            logits = (z + b)[:, None, :]
            value, _, residual = loss.value(np, logits, y)
            d, f = loss.second(np, logits, y)
            H = np.einsum("i,ik,kj->kj", s, d[:, 0], np.eye(K)) / n
            H = H if f is None else H - np.einsum("i,ik,ij->kj", s, f[:, 0], f[:, 0]) / n
            return float(s @ value[:, 0] / n), s @ residual[:, 0] / n, H

        best = minimize(lambda b, parts=parts: parts(b)[:2], np.zeros(K), jac=True, options={"gtol": 1e-11})
        least, b = best.fun, best.x + random.normal(size=K) * 10.0 ** random.uniform(-3, 0.3)
        value, slope, H = parts(b)
        curvature = BiasCurvature.of(H[None], shift_invariant=loss.shift_invariant)
        rest = curvature.remainder(slope[None])[0]
        assert value - least <= rest * (1 + 1e-9) + 1e-14
        step = curvature.step(slope[None])
        if np.isfinite(rest):
            there, left, exact = parts(b + step[0])
            assert there <= value
            after = curvature.after(step)
            assert there - least <= after.remainder(left[None])[0] * (1 + 1e-9) + 1e-14
            here = BiasCurvature.of(exact[None], shift_invariant=loss.shift_invariant)
            assert here.widest[0] <= after.widest[0] * (1 + 1e-9)
            tight += rest < 3 * (value - least)
    assert tight > 10


def test_where_there_is_no_curvature_there_is_no_bound() -> None:
    H = np.stack([np.zeros((2, 2)), np.diag([1.0, 0.0]), np.full((2, 2), np.nan)])
    curvature = BiasCurvature.of(H, shift_invariant=False)
    assert np.isinf(curvature.remainder(np.ones((3, 2)))).all()
    assert (curvature.step(np.ones((3, 2))) == 0.0).all()
    zero, some = np.zeros(1), np.ones(1)
    assert free_gap_bound(some, some * np.inf, some, some)[0] == np.inf
    assert np.isnan(free_gap_bound(some, zero, some, zero)[0])
    assert free_gap_bound(some * 4, zero, some, some)[0] == 1.0
