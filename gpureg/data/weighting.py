"""Class weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from gpureg.errors import UsageError, named


def check_class_weights(weights: npt.NDArray[np.float64], classes: Iterable[object]) -> None:
    """Raise UsageError unless the weights `(K,)` of the classes are finite numbers of at least 0, one of them above."""
    for weight, label in zip(weights.tolist(), classes, strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(
                f"{named('class_weight')} gives the class {label} the weight {weight:g}; expected finite numbers of at "
                "least 0."
            )
    if not (weights > 0).any():
        raise UsageError(f"{named('class_weight')} gives every class the weight 0; expected one above 0.")


def class_weights(
    kind: str | None, y: npt.NDArray[np.int64], n_classes: int, sample_weight: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """The weight of each class, (K,): `balanced` gives every class the same total, None gives 1.

    w_k = Σ v / (K Σ_{y = k} v), v the sample weights or 1; a class without a row gets 0. Shapes: `y (N,)` indices into
    the classes. Source: King and Zeng, Logistic Regression in Rare Events Data, 2001; as scikit-learn computes it.

    Raises UsageError for another kind.
    """
    if kind is None or kind == "none":
        return np.ones(n_classes)
    if kind != "balanced":
        raise UsageError(f"{named('class_weight', kind)} is not known; expected balanced or none.")
    counts = np.bincount(y, weights=sample_weight, minlength=n_classes).astype(np.float64)
    weights = np.zeros(n_classes)
    np.divide(counts.sum(), n_classes * counts, out=weights, where=counts > 0)
    return weights
