"""The arguments of `fit`, checked as scikit-learn checks them, and turned into what a solver takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from gpureg.data import check_class_weights, class_weights
from gpureg.data.sparse import is_sparse, read_sparse
from gpureg.errors import UsageError
from gpureg.estimators.arrays import HOST, Home, HostArray, home_of, to_host
from gpureg.types import Array, Floats, Ints

SHORT = 256  # numbers of rows that are added as one
AT_ONCE = 1 << 17  # numbers that are added by a product
FEW_LABELS = 1024  # between the least and the largest, which are counted if samples are fewer


@dataclass(frozen=True)
class Samples:
    """N samples on the host: `X (N, F)`, an array or CSR, in the type of the arithmetic, `y (N,)` labels as given,
    `label (N,)` their places in `classes (K,)` (sorted), `given (N,)` the caller's sample weights or None, `home` and
    `label_home` where X and y came from, `mean (F,)` that of the features without weights, or None if it is not known.
    """

    X: Any
    y: HostArray
    label: Ints
    classes: HostArray
    given: Floats | None
    home: Home
    label_home: Home
    mean: Floats | None = None

    @property
    def binary(self) -> bool:
        """Whether there are two classes, and so one column of weights."""
        return len(self.classes) == 2

    def bring(self, weights: tuple[Floats, Floats]) -> tuple[Array, Array]:
        """Weights in the type of the arithmetic, at home with the samples."""
        coef, intercept = (self.home.bring(np.ascontiguousarray(array, self.X.dtype)) for array in weights)
        return coef, intercept

    def weights(self, class_weight: Any) -> Floats | None:
        """Sample x class weights `(N,)`, None if every sample weighs 1.

        `balanced` gives every class the same total of sample weights, a dict names classes' weights (1 for those that
        it does not name). Raises UsageError.
        """
        if class_weight is None:
            return self.given
        if isinstance(class_weight, str):
            by_class = class_weights(class_weight, self.label, len(self.classes), self.given)
        else:
            by_class = compute_class_weight(class_weight, classes=self.classes, y=self.y)
            check_class_weights(by_class, self.classes)
        weights = by_class[self.label]
        return weights if self.given is None else weights * self.given


def read_samples(estimator: Any, X: Any, y: Any, sample_weight: Any, dtype: str | None) -> Samples:
    """Check what `fit` was given; sets `n_features_in_` and `feature_names_in_`. Raises ValueError or TypeError."""
    home, label_home = home_of(X), home_of(y)
    types: list[np.dtype[Any]] = [np.dtype(np.float64), np.dtype(np.float32)] if dtype is None else [np.dtype(dtype)]
    mean = _mean_of_plain(X, y, types)
    if mean is not None:
        estimator.n_features_in_ = X.shape[1]
        vars(estimator).pop("feature_names_in_", None)
    else:
        X, y = validate_data(estimator, to_host(X), to_host(y), dtype=types, order="C", accept_sparse="csr")
        X = read_sparse(X, "X") if is_sparse(X) else X
    if y.dtype.kind not in "biu":
        check_classification_targets(y)
    classes, label = two_classes(y)
    if 2 * len(classes) > len(y):  # whole numbers are always classes: the check costs more than a small fit's loop
        check_classification_targets(y)  # and warns of as many as here
    given = None if sample_weight is None else checked_weights(sample_weight, X)
    return Samples(X, y, label, classes, given, home, label_home, mean)


def _mean_of_plain(X: Any, y: Any, types: list[np.dtype[Any]]) -> Floats | None:
    """The mean `(F,)` of samples that need no change and that nothing is wrong with; None for others. The checks of
    scikit-learn, with one more pass over the samples, take as long as the loop of a small fit.
    """
    if not (type(X) is type(y) is np.ndarray and X.ndim == 2 and y.ndim == 1 and y.dtype.kind in "biu"):
        return None
    if not (X.dtype in types and X.flags.c_contiguous and X.size and len(X) == len(y)):
        return None
    with np.errstate(all="ignore"):
        mean = mean_of(X)
    return mean if np.isfinite(mean).all() else None


def mean_of(X: HostArray) -> Floats:
    """The mean `(F,)` of samples `X (n, F)`.

    Several short rows are added as one, since NumPy is slow at them. The product is of few samples at a time: more
    would wake the BLAS's threads, which keep a core busy after it.
    """
    n, F = X.shape
    together = max(1, SHORT // F)
    whole = n - n % together
    wide, rest = X[:whole].reshape(-1, together * F), X[whole:].sum(axis=0, dtype=np.float64)
    if X.dtype == np.float64:
        step = max(1, AT_ONCE // wide.shape[1])
        ones = np.ones(min(step, len(wide)))
        parts = (wide[start : start + step] for start in range(0, len(wide), step))
        total = sum((ones[: len(part)] @ part for part in parts), np.zeros(wide.shape[1]))
    else:
        total = wide.sum(axis=0, dtype=np.float64)
    return np.asarray((total.reshape(together, F).sum(axis=0) + rest) / n)


def two_classes(y: HostArray) -> tuple[HostArray, Ints]:
    """The classes `(K,)` of labels `y (N,)`, and their places in them `(N,)`. Raises UsageError for a single one."""
    classes, label = _counted(y) if y.dtype.kind in "iu" and len(y) else np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"y has only one class, {classes.tolist()[0]!r}; expected samples of at least two classes.")
    return classes, label.reshape(-1)


def _counted(y: HostArray) -> tuple[HostArray, Ints]:
    """`np.unique` of whole numbers, which is faster by counting than by sorting if they lie close together."""
    least, largest = int(y.min()), int(y.max())
    if largest - least > max(len(y), FEW_LABELS) or largest > np.iinfo(np.int64).max:
        return np.unique(y, return_inverse=True)
    place = np.subtract(y, least, dtype=np.int64, casting="unsafe")
    there = np.bincount(place, minlength=largest - least + 1) > 0
    if there.all():
        return np.arange(least, largest + 1).astype(y.dtype), place
    found = np.flatnonzero(there)
    return (found + least).astype(y.dtype), (np.cumsum(there) - 1)[place]


def checked_weights(sample_weight: Any, X: Any) -> Floats:
    """The caller's weights of the rows of X `(N,)`. Raises ValueError unless they are at least 0, and one above."""
    given = np.asarray(_check_sample_weight(to_host(sample_weight), X, dtype=np.float64))
    if (given < 0).any():
        raise UsageError(f"sample_weight has negative numbers (the least is {given.min():g}); expected 0 or more.")
    if not given.any():  # scikit-learn's own check since 1.9
        raise UsageError("Sample weights must contain at least one non-zero number; all are 0.")
    return given


def read_rows(estimator: Any, X: Any, home: Home) -> Any:
    """Rows to predict `(N, F)`, as an array of `home`, that of X. Raises ValueError if they don't fit."""
    if home.host:
        types = [np.float64, np.float32]
        return validate_data(estimator, to_host(X), dtype=types, reset=False, accept_sparse="csr")
    xp = home.xp
    if X.ndim != 2 or X.shape[0] == 0:
        raise ValueError(f"X has the shape {tuple(X.shape)}; expected 2 dimensions (rows, features) and a row.")
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input."
        )
    if not xp.isdtype(X.dtype, "real floating"):
        X = xp.astype(X, estimator.coef_.dtype)
    if not bool(xp.all(xp.isfinite(X))):
        raise ValueError("X contains NaN or infinity; expected finite numbers.")
    return X.detach() if hasattr(X, "detach") else X


def fitted_home(estimator: Any) -> Home:
    """Where the fitted arrays of an estimator are."""
    return home_of(estimator.coef_) if hasattr(estimator, "coef_") else HOST
