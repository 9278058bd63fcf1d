"""Samples of the estimators that are Dask's collections: read, placed on workers, and scored there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from gpureg.backend import numpy_backend
from gpureg.data.collections import dask_features, is_dask
from gpureg.data.pieces import Pieces, in_pieces
from gpureg.data.raw import check_lengths
from gpureg.data.uses import Uses
from gpureg.distributed.collections import by_partitions
from gpureg.distributed.connecting import connected
from gpureg.distributed.spread import Options, Placeable, Spread, spread_over
from gpureg.estimators.arrays import HOST, HostArray, to_host
from gpureg.estimators.design import held
from gpureg.estimators.inputs import Samples, checked_weights, read_samples, two_classes
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import Softmax
from gpureg.rows.blocked import BlockedRows
from gpureg.types import Floats, Ints


def read_any(estimator: Any, X: Any, y: Any, sample_weight: Any, dtype: str | None) -> Samples:
    """`inputs.read_samples`; of a Dask array or data frame the rows stay in their partitions, labels and weights are
    brought here.
    """
    if not is_dask(X):
        return read_samples(estimator, X, y, sample_weight, dtype)
    features = dask_features(X, "X", Uses())
    pieces: Pieces = features.X
    wide = pieces.dtype if pieces.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    pieces = replace(pieces, dtype=np.dtype(dtype) if dtype is not None else wide)
    y = column_or_1d(to_host(y), warn=True)
    check_lengths(len(pieces), len(y), "X and y")
    check_classification_targets(y)
    classes, label = two_classes(y)
    given = None if sample_weight is None else checked_weights(sample_weight, pieces)
    estimator.n_features_in_ = pieces.width
    vars(estimator).pop("feature_names_in_", None)
    if features.names is not None:
        estimator.feature_names_in_ = np.array(features.names, object)
    return Samples(pieces, y, label, classes, given, HOST, HOST)


@contextmanager
def on_workers(estimator: Any, samples: Samples) -> Iterator[Samples]:
    """The samples, for the workers of the caller's Dask client within the block if they are in pieces (without a client
    for a worker in this process); others as they are.
    """
    if not in_pieces(samples.X):
        yield samples
        return
    with connected(None, None, dask_data=True) as cluster:
        options = Options(device=estimator.device)
        yield replace(samples, X=spread_over(cluster, options, samples.X))


@dataclass(frozen=True)
class Logits:
    """Rows `(n, F)` of which only the logits are known, `values (n, K)`: what a scorer hands to `predict_proba`."""

    values: HostArray
    features: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, F)."""
        return len(self.values), self.features

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class HeldOut:
    """Samples on workers, placed once, of which models see some."""

    rows: BlockedRows
    features: int

    @classmethod
    def of(cls, X: Spread) -> HeldOut:
        """All rows of X. As they are all of one class, they are stored in their own order."""
        kernels = choose_kernels(numpy_backend(X.dtype.name), Softmax(), 2)
        placeable = Placeable(X, partial(held, centre=np.zeros(X.width, X.dtype), dtype=X.dtype))
        return cls(placeable.place(kernels, np.zeros(len(X), np.int64), None, None, None), X.width)

    def logits(self, rows: Ints, coef: Floats, intercept: Floats) -> list[Logits]:
        """The logits that L models, `coef (L, K, F)` and `intercept (L, K)`, give some rows, in their order."""
        unique, place = np.unique(rows, return_inverse=True)
        finite = np.where(np.isfinite(intercept), intercept, 0.0)  # a missing class's is -inf
        W = np.concatenate([np.moveaxis(coef, 2, 0), finite[None]], axis=0).reshape(self.features + 1, -1)
        found, _, _ = self.rows.subset(unique).outputs(self.rows.kernels.weights(W))
        found = found[place.reshape(-1)].reshape(len(rows), *intercept.shape)
        found = found + (intercept - finite)[None]
        return [Logits(found[:, model], self.features) for model in range(len(coef))]


def predicted(estimator: Any, method: str, X: Any) -> Any:
    """What a fitted estimator's `method` gives for a Dask collection: a Dask array, computed partition by partition."""
    one = np.zeros((1, estimator.n_features_in_))
    blank = np.asarray(getattr(nameless(estimator._on_host()), method)(one))
    return by_partitions(X, partial(_apply, estimator._on_host(), method), blank.shape[1:], blank.dtype)


def _apply(estimator: Any, method: str, rows: Any) -> HostArray:
    return np.asarray(getattr(estimator, method)(rows))


def nameless(estimator: Any) -> Any:
    """A copy for rows that are an array, which has no names."""
    twin = copy(estimator)
    vars(twin).pop("feature_names_in_", None)
    return twin
