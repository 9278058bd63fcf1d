"""Scaling of the inputs: statistics of the training rows, and what becomes of sparse ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gpureg.data.dataset import Dataset
from gpureg.data.sparse import Csr, all_finite, is_sparse
from gpureg.data.streamed import row_pieces
from gpureg.errors import DataError, UsageError, named

ScalingKind = Literal["none", "standard", "pixels"]
KINDS: tuple[ScalingKind, ...] = ("none", "standard", "pixels")

Floats = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_BLOCK_BYTES = 1 << 20  # of float64 per block of rows: small enough to stay in a core's cache


@dataclass(frozen=True)
class Scaling:
    """x' = (x - offset) / scale, per feature, in float64. Shapes: `offset (F,)`, `scale (F,)`; no scale is 0.

    `constant (F,)`: features that are constant but for rounding; they are trained on as 0, so that their weights are 0
    and no rescaling inside a solver turns the rounding into a feature.
    """

    offset: Floats
    scale: Floats
    constant: npt.NDArray[np.bool_] | None = None


def default_scaling(dataset: Dataset) -> ScalingKind:
    """`pixels` for images, `none` for sparse features, else `standard`."""
    if is_sparse(dataset.X_train):
        return "none"
    return "standard" if dataset.pixel_max is None else "pixels"


def fit_scaling(kind: str, dataset: Dataset, weights: npt.ArrayLike | None = None) -> Scaling:
    """The scaling of a kind for a data set; statistics come from its training rows of weight above 0.

    - `none`: offset 0, scale 1.
    - `pixels`: offset = scale = max / 2, so x' = 2 x / max - 1; for max = 255 exactly (x - 127.5) / 127.5.
    - `standard`: offset = mean m, scale = sqrt(Σ v (x - m)² / Σ v) per feature, v the `weights (N,)` or 1. A feature
      that is constant but for rounding gets scale 1: one whose variance is at most `n ε variance + (n ε m)²`, the
      bound of scikit-learn's StandardScaler, n the number of rows (a weight above 1 counts as that many).

    Raises UsageError for an unknown kind, for `pixels` if the data are neither images nor uint8, and for weights of
    the wrong length; DataError if a feature's variance overflows float64.
    """
    n_features = dataset.X_train.shape[1]
    if kind == "none":
        return Scaling(np.zeros(n_features), np.ones(n_features))
    if kind == "pixels":
        half = _pixel_max(dataset) / 2
        return Scaling(np.full(n_features, half), np.full(n_features, half))
    if kind == "standard" and is_sparse(dataset.X_train):
        return _fit_sparse(dataset.X_train, _row_weights(weights, dataset.X_train.shape[0]))
    if kind == "standard":
        return _fit_standard(dataset.X_train, _row_weights(weights, len(dataset.X_train)))
    raise UsageError(f"{named('scale', kind)} is not known; expected one of {', '.join(KINDS)}.")


def sparse_design(X: Csr, scaling: Scaling, dtype: npt.DTypeLike) -> tuple[Csr, Floats | None]:
    """`X / scale` in CSR of `dtype`, 0 where constant, and what is to be subtracted from its rows, `offset / scale
    (F,)`, or None for nothing: the design matrix, of which neither the difference nor the column of ones is made.

    X itself where nothing changes. Raises as `design_matrix`.
    """
    if X.shape[1] != scaling.offset.size:
        raise UsageError(
            f"X has shape {X.shape}, but the scaling is for (N, {scaling.offset.size}): the features differ."
        )
    factor = 1.0 / scaling.scale
    if scaling.constant is not None:
        factor[scaling.constant] = 0.0
    shift = scaling.offset * factor
    data = X.data
    with np.errstate(over="ignore"):
        if (factor != 1.0).any():
            data = (data * factor[X.indices]).astype(dtype)
        data = data.astype(dtype, copy=False)
    if data is X.data:
        return X, shift if shift.any() else None
    found = type(X)((data, X.indices, X.indptr), shape=X.shape, copy=False)
    if not all_finite(found):
        raise DataError(beyond(dtype))
    found.has_canonical_format = True
    return found, shift if shift.any() else None


def beyond(dtype: npt.DTypeLike) -> str:
    """The message for a value that overflows."""
    return (
        f"a feature value is beyond the range of {np.dtype(dtype)} after scaling. "
        f"Rescale that feature in the data, use {named('scale', 'standard')}, or use {named('dtype', 'float64')}."
    )


def block_rows(n_features: int) -> int:
    """Rows that are worked on at once."""
    return max(1, _BLOCK_BYTES // (8 * max(1, n_features)))


def _pixel_max(dataset: Dataset) -> float:
    if dataset.pixel_max is not None:
        return dataset.pixel_max
    if dataset.X_train.dtype == np.uint8:
        return 255.0
    raise UsageError(
        f"{named('scale', 'pixels')} needs images, but {dataset.name!r} has {dataset.X_train.dtype} features of "
        f"unknown range. Use {named('scale', 'standard')} or none, or store the pixels as uint8."
    )


def _row_weights(weights: npt.ArrayLike | None, n_rows: int) -> Floats:
    if weights is None:
        return np.ones(n_rows)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_rows,):
        raise UsageError(f"the weights have shape {values.shape}, but there are {n_rows} training rows.")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise UsageError("the weights are not finite numbers of at least 0, one of them above 0.")
    return values


def _fit_standard(X: npt.NDArray[np.generic], weights: Floats) -> Scaling:
    """Two passes over blocks of rows: E[x²] - m² would lose every digit where the mean is large."""
    n_features = X.shape[1]
    largest = weights.max()
    shares = weights / largest  # their sum neither overflows nor vanishes
    total, at_once = shares.sum(), block_rows(n_features)
    mean, left, square = np.zeros(n_features), np.zeros(n_features), np.zeros(n_features)
    low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, share in weighted_blocks(X, shares, at_once):
            mean += share @ rows / total
            np.minimum(low, rows.min(axis=0), out=low)
            np.maximum(high, rows.max(axis=0), out=high)
        for rows, share in weighted_blocks(X, shares, at_once):
            rows -= mean
            left += share @ rows / total
            square += share @ np.square(rows) / total
        square = np.maximum(square - np.square(left), 0)  # the mean was rounded
    mean = np.where(low == high, low, mean)  # exact, where a computed mean is nearly so
    return standard_of(mean, square, weights)


def standard_of(mean: Floats, square: Floats, weights: Floats) -> Scaling:
    """The scaling of features of these means and variances; what is constant but for rounding gets scale 1."""
    scale = np.sqrt(square)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        feature = int(np.flatnonzero(~np.isfinite(mean + scale))[0])
        raise DataError(f"the variance of feature {feature} overflows float64. Rescale that feature in the data.")
    rounding = min(max(float(np.count_nonzero(weights)), float(weights.sum())) * _EPS, np.sqrt(_EPS))
    with np.errstate(under="ignore"):
        constant = (square <= rounding * square + np.square(rounding * mean)) | (scale == 0)
    return Scaling(mean, np.where(constant, 1.0, scale), constant if constant.any() else None)


def _fit_sparse(X: Csr, weights: Floats) -> Scaling:
    """The same of stored values: those that are not stored are counted, as 0."""
    F = X.shape[1]
    shares = weights / weights.max()
    total = shares.sum()
    of_row = np.repeat(shares, np.diff(X.indptr))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.bincount(X.indices, of_row * X.data, F) / total
        there = np.bincount(X.indices, of_row, F)
        left = X.data - mean[X.indices]
        square = np.bincount(X.indices, of_row * np.square(left), F) + np.square(mean) * np.maximum(total - there, 0.0)
        square /= total
    return standard_of(mean, square, weights)


def weighted_blocks(X: npt.NDArray[np.generic], weights: Floats, at_once: int) -> Iterator[tuple[Floats, Floats]]:
    """Of every `at_once` rows those of weight above 0, in float64, and their weights: what other rows hold counts
    nowhere.
    """
    start = 0
    for rows in row_pieces(X, at_once):
        share = weights[start : start + len(rows)]
        start += len(rows)
        if not share.all():
            rows, share = rows[share > 0], share[share > 0]
        if len(rows):
            yield rows.astype(np.float64), share
