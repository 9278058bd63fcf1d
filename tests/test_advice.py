"""What is said of models that are far from trained helps them: never a smaller learning rate while the loss falls."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from small_problems import blobs

import gpureg
from gpureg.errors import GpuregWarning


def rare(n: int = 2000) -> gpureg.Dataset:
    """A class of few rows, well told from the other one."""
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 5))
    return gpureg.make_dataset(X, (X[:, 0] + 0.3 * random.normal(size=n) > 2.2).astype(int))


def told(data: gpureg.Dataset, **options: Any) -> tuple[list[str], gpureg.FitResult]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", GpuregWarning)
        result = gpureg.fit(data, device="cpu", **options)
    return [str(warning.message) for warning in found], result


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.1])
def test_while_the_loss_falls_the_advice_is_to_go_on(lr: float) -> None:
    texts, result = told(rare(), solver="sgd", lr=lr)
    (text,) = [text for text in texts if "falling" in text]
    assert "more epochs (epochs=200)" in text
    assert f"a larger learning rate (lr={3 * lr:g})" in text
    assert "solver='lbfgs'" in text
    assert "smaller" not in " ".join(texts)
    better = (
        told(rare(), solver="sgd", lr=lr, epochs=200)[1],
        told(rare(), solver="sgd", lr=3 * lr)[1],
        told(rare(), solver="lbfgs")[1],
    )
    for other in better:  # it helps
        assert other.models[0].val_loss < result.models[0].val_loss  # type: ignore[operator]
    if lr < 0.1:
        assert "worse than a constant" in text


def test_models_that_fall_are_counted_and_the_fastest_is_named() -> None:
    texts, result = told(rare(), solver="sgd", l2=[0.0, 0.001, 0.5], lr=0.1, epochs=20)
    (text,) = [text for text in texts if "last epoch" in text]
    assert text.startswith("2 of 3 models stopped at the last epoch while their loss was still falling (λ = 0: by ")
    assert text in result.warnings


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 400, "lr": 0.5, "patience": 0},  # at rest
        {"epochs": 400, "lr": 0.5, "patience": 3},  # stopped by the rule
        {"epochs": 1},  # nothing to compare with
        {"epochs": 50, "lr": 0.5, "cv": 3, "l2": [0.1, 0.3]},
    ],
)
def test_models_that_do_not_fall_are_not_named(options: dict[str, Any]) -> None:
    texts, _ = told(blobs(300, 100, spread=3.0), solver="sgd", **options)
    assert not [text for text in texts if "falling" in text]


def test_without_validation_rows_the_steps_tell() -> None:
    data = gpureg.make_dataset(rare().X_train, rare().y_train, val_size=0)
    texts, _ = told(data, solver="sgd", lr=0.1, patience=0)
    assert [text for text in texts if "last epoch" in text]


def test_an_overshoot_is_told_to_step_less() -> None:
    texts, _ = told(blobs(200, 80), solver="sgd", lr=90.0, epochs=2, batch_size=20, patience=0)
    (text,) = [text for text in texts if "worse than a constant" in text]
    assert "Use a learning rate smaller than 90." in text


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_where_the_penalty_holds_a_model_neither_helps(solver: str) -> None:
    options = {"lr": 0.05, "epochs": 60} if solver == "sgd" else {}
    texts, _ = told(rare(), solver=solver, l2=5.0, penalize_bias=True, **options)
    (text,) = [text for text in texts if "worse than a constant" in text]
    assert text.endswith("The penalty keeps it there: use a smaller λ.")


def test_a_limit_of_iterations_is_to_be_raised() -> None:
    texts, _ = told(rare(), solver="lbfgs", l2=1e-6, max_iter=1, penalize_bias=True)
    for text in texts:
        assert "max_iter" in text
