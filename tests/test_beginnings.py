"""Where fits to the optimum begin: at the class shares if the penalty is large or the classes are of uneven sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from full_batch import WAYS, config, place

import gpureg
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.problem import Outcome


def uneven(n: int = 1500, features: int = 12, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = random.choice(classes, n, p=np.array([1.0, *[0.06] * (classes - 1)]) / (1 + 0.06 * (classes - 1)))
    y[: 2 * classes] = np.arange(2 * classes) % classes
    return random.normal(size=(n, features)) + 0.5 * random.normal(size=(classes, features))[y], y


@pytest.mark.filterwarnings("ignore:.*predict worse than a constant", "ignore:The chosen", "ignore:No λ was chosen")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("task", "classes"), [("softmax", 2), ("softmax", 4), ("logistic", 2)])
@pytest.mark.parametrize("more", [{}, {"class_weight": "balanced"}, {"cv": 3}], ids=str)
def test_a_wildly_large_penalty_leaves_the_class_shares(
    task: str, classes: int, dtype: str, more: dict[str, Any]
) -> None:
    """To the certificate: from biases of 0 the float type has no digits left for them."""
    X, y = uneven(classes=classes)
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    data = gpureg.make_dataset(X, y, sample_weight=weight)
    l2 = (1e30, 1e300, 1e12)
    found = gpureg.fit(data, solver="lbfgs", task=task, l2=l2, dtype=dtype, tol=1e-7, device="cpu", **more)
    assert {model.stop_reason for model in found.models} == {"converged"}
    if more:
        return
    rows = data
    shares = np.bincount(rows.y_train, rows.sample_weight, classes) / np.sum(rows.sample_weight)
    for index in range(len(l2)):
        one = replace(found.model, selected=index)
        np.testing.assert_allclose(one.predict_proba(X[:3]), np.tile(shares, (3, 1)), atol=1e-3)


def solved(problem: Any, kernels: Any) -> tuple[int, Outcome]:
    """The models' passes, and their outcome."""
    descent = Lbfgs(config(problem, kernels, tol=1e-8), hessians=WAYS["alone"], alone=False).on(problem, kernels)
    state = descent.start()
    while not descent.done(state):
        list(descent.advance(state))
    outcome, history = descent.finish(state)
    return int(history.passes.sum()), outcome


@pytest.mark.parametrize(("task", "classes"), [("softmax", 2), ("logistic", 2), ("softmax", 3)])
def test_uneven_classes_begin_nearer_to_the_optimum(task: str, classes: int) -> None:
    """The same optima in fewer passes; even classes begin at 0."""
    X, y = uneven(classes=classes)
    problem, kernels = place(X, y, [1.0, 0.1, 1e-2, 1e-3], task)
    shares = np.bincount(y) / len(y)
    (cold, before), (passes, after) = (solved(replace(problem, shares=s), kernels) for s in (None, shares[None, :]))
    assert passes < cold
    assert before.certificates is not None
    assert after.certificates is not None
    for one, other in zip(before.certificates, after.certificates, strict=True):
        assert other["converged"]
        bounds = float(one["gap_bound"] or 0.0) + float(other["gap_bound"] or 0.0)
        assert abs(float(one["objective"] or 0.0) - float(other["objective"] or 0.0)) <= bounds
    even = np.full((1, classes), 1.0 / classes)
    passes, _ = solved(replace(problem, shares=even), kernels)
    assert passes == cold


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_shares_that_round_to_0_and_1_are_no_error(task: str) -> None:
    X, y = uneven(n=90)
    weight = 10.0 ** np.random.default_rng(2).uniform(-300, 300, len(y))
    data = gpureg.make_dataset(X, y, sample_weight=weight)
    found = gpureg.fit(data, solver="lbfgs", task=task, l2=(10.0, 1e-3), cv=3, dtype="float64", device="cpu")
    assert all(np.isfinite(model.train_loss) for model in found.models)
