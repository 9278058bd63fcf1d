"""Small seeded data sets and problems that the tests train on."""

from __future__ import annotations

import numpy as np

from gpureg.data import Dataset


def blobs(
    n: int = 200,
    m: int = 80,
    features: int = 6,
    classes: int = 3,
    seed: int = 0,
    spread: float = 1.5,
    ties: bool = False,
) -> Dataset:
    """Gaussian blobs that overlap; `ties` puts equal rows into different classes."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, features))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = random.permutation(np.arange(count) % classes)
        X = centres[y] + spread * random.normal(size=(count, features))
        if ties:
            X[: count // 2] = X[0]
        return X, y.astype(np.int64)

    X, y = draw(n)
    X_val, y_val = draw(m)
    return Dataset("blobs", X, y, X_val, y_val, tuple(range(classes)))
