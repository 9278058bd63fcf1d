"""Data for a model that is trained already: `load_features` to predict for, `load_labelled` to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.catalog import CATALOG
from gpureg.data.files import existing, read_path
from gpureg.data.formats import format_of
from gpureg.data.labels import Codes, find_class, listed
from gpureg.data.limits import machine_limit
from gpureg.data.named import read_named
from gpureg.data.raw import refuse_absent
from gpureg.data.spelling import Label
from gpureg.errors import DataError


def load_features(
    name_or_path: str | Path, *, n_features: int, feature_names: tuple[str, ...] | None = None
) -> npt.NDArray[Any]:
    """The features of new data as a matrix X (N, F), F = `n_features`, in the order that a model was trained on.

    A table gives the columns `feature_names` and may have others (the label, an id); an npz gives `X`; IDX images need
    no labels; a named data set gives its validation part, or all rows where it has none. Where columns have no names,
    one more than F is taken for a label in the last column and left out.

    Raises UsageError for a path or a column that is not there, DataError for data that can't be read or have another
    number of features.
    """
    X = _read(name_or_path, n_features, feature_names)
    _check_width(X, n_features, name_or_path)
    return X


@dataclass(frozen=True)
class Labelled:
    """Rows to evaluate on. Shapes: `X (N, F)`, `y (N,)` indices into the model's classes, `sample_weight (N,)`."""

    X: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    sample_weight: npt.NDArray[np.float64] | None


def load_labelled(
    name_or_path: str | Path,
    *,
    classes: Sequence[object],
    n_features: int,
    feature_names: tuple[str, ...] | None = None,
    target: str | None = None,
    weights: str | None = None,
) -> Labelled:
    """The rows of a data set that have one of a model's `classes`, with y in the model's numbering.

    The validation part where the data have one of their own, else all rows: nothing is split. Labels match classes as
    `--classes` does (`"2"` and 2 are one); a class may be absent. Named columns are put in the model's order.

    Raises UsageError for a path or a column that is not there, DataError for data that can't be read, have another
    number of features, or no row of these classes.
    """
    spec = CATALOG.get(str(name_or_path))
    raw = read_path(name_or_path, target=target, weights=weights) if spec is None else read_named(spec)
    if raw.X_val is None or raw.codes_val is None:
        X, codes, row_weights = raw.X, raw.codes, raw.weights
    else:
        X, codes, row_weights = raw.X_val, raw.codes_val, None
    if feature_names is not None and raw.feature_names is not None:
        refuse_absent(name_or_path, feature_names, raw.feature_names)
        X = X[:, [raw.feature_names.index(name) for name in feature_names]]
    _check_width(X, n_features, name_or_path)
    y = _renumber(classes, raw.labels)[codes]
    kept = y >= 0
    if not kept.any():
        raise DataError(
            f"{name_or_path}: no row has one of the classes {listed(classes)}; it has {listed(raw.labels)}."
        )
    return Labelled(X[kept], y[kept], None if row_weights is None else row_weights[kept])


def _renumber(classes: Sequence[object], labels: Sequence[Label]) -> Codes:
    """For each of the data's labels the index of its class, -1 for a label that is no class of the model."""
    numbers = np.full(len(labels), -1, dtype=np.int64)
    for index, name in enumerate(classes):
        position = find_class(name, labels)
        if position is not None:
            numbers[position] = index
    return numbers


def _check_width(X: npt.NDArray[Any], n_features: int, where: str | Path) -> None:
    if X.shape[1] != n_features:
        raise DataError(
            f"{where} has {X.shape[1]} features, but the model was trained on {n_features}. "
            "Give data with the same features in the same order."
        )


def _read(name_or_path: str | Path, n_features: int, names: tuple[str, ...] | None) -> npt.NDArray[Any]:
    spec = CATALOG.get(str(name_or_path))
    if spec is not None:
        raw = read_named(spec)
        return raw.X if raw.X_val is None else raw.X_val
    file = existing(name_or_path)
    return format_of(file).features(file, n_features, names, machine_limit())
