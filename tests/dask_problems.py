"""Problems for the tests with Dask, and what "the same result" means for them: certificates, and probabilities."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import gpureg
from gpureg.errors import GpuregWarning
from gpureg.fitting.results import FitResult

EXACT = {"dtype": "float64", "tol": 1e-18}  # to rounding: probabilities are then those of the optimum


def problem(rows: int = 3000, features: int = 12, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`X (rows, features)` of different scales and offsets, and `y (rows,)` that follows from it, with noise."""
    random = np.random.RandomState(seed)
    X = random.randn(rows, features)
    y = (X @ random.randn(features, classes) / np.sqrt(features) * 3 + random.gumbel(size=(rows, classes))).argmax(
        axis=1
    )
    return X * np.exp(random.randn(features)) + 3 * random.randn(features), y


def weights_of(rows: int, seed: int = 1) -> np.ndarray:
    """Sample weights, some of them 0."""
    random = np.random.RandomState(seed)
    return random.choice([0.0, 0.5, 1.0, 2.0], rows)


def fitted(data: gpureg.Dataset, **options: Any) -> FitResult:
    """`gpureg.fit`, which may say that rounding has ended it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*stopped before the tolerance 1e-18 was met", GpuregWarning)
        return gpureg.fit(data, **options)


def assert_within_certificates(one: FitResult, other: FitResult, resolution: float = 1e-14) -> None:
    """The objectives of equal models differ by no more than their certificates allow, and the float type's rounding."""
    assert len(one.models) == len(other.models)
    for a, b in zip(one.models, other.models, strict=True):
        assert (a.l2, a.fold, a.seed) == (b.l2, b.fold, b.seed)
        assert a.certificate is not None
        assert b.certificate is not None
        for found in (a.certificate, b.certificate):  # at a tolerance below rounding it is rounding that ends a fit
            assert found["converged"] or float(found["gap_bound"] or 0) < 1e-13
        bound = max(float(a.certificate["gap_bound"] or 0), float(b.certificate["gap_bound"] or 0))
        assert abs(a.certificate["objective"] - b.certificate["objective"]) <= bound + resolution


def assert_same_probabilities(one: Any, other: Any, X: np.ndarray, most: float = 1e-9) -> None:
    """All models of the two give the same probabilities."""
    assert one.model.l2.tolist() == other.model.l2.tolist()
    for index in range(len(one.model.l2)):
        a, b = (run.model.predict_proba(X, index) for run in (one, other))
        assert np.abs(a - b).max() <= most
