"""`load_features`: rows to predict for, with or without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from gpureg.data.catalog import CATALOG
from gpureg.data.files import existing, file_format
from gpureg.data.raw import as_features
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
    if X.shape[1] != n_features:
        raise DataError(
            f"{name_or_path} has {X.shape[1]} features, but the model was trained on {n_features}. "
            "Give data with the same features in the same order."
        )
    return X


def _read(name_or_path: str | Path, n_features: int, names: tuple[str, ...] | None) -> npt.NDArray[Any]:
    spec = CATALOG.get(str(name_or_path))
    if spec is not None:
        from gpureg.data.named import read_named

        raw = read_named(spec)
        return raw.X if raw.X_val is None else raw.X_val
    file = existing(name_or_path)
    kind = "idx" if file.is_dir() else file_format(file)
    if kind == "idx":
        from gpureg.data.idx_set import images_in, read_idx

        return as_features(read_idx(images_in(file) if file.is_dir() else file), str(file))[0]
    if kind in ("npz", "npy"):
        from gpureg.data.arrays import load_npy, load_npz_features

        return load_npz_features(file) if kind == "npz" else _without_label(load_npy(file), n_features, str(file))
    from gpureg.data.tables import read_columns

    return read_columns(file, csv=kind == "csv", features=names, n_features=n_features)


def _without_label(matrix: npt.NDArray[Any], n_features: int, where: str) -> npt.NDArray[Any]:
    labelled = matrix.ndim == 2 and matrix.shape[1] == n_features + 1
    return as_features(matrix[:, :n_features] if labelled else matrix, where)[0]
