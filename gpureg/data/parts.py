"""From `RawData` to a `Dataset`: the first rows of each part, or a split of all of them, and the choice of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpureg.config import DataConfig
from gpureg.data.dataset import Dataset
from gpureg.data.labels import Codes, listed, match_classes
from gpureg.data.notices import data_notices
from gpureg.data.pieces import lies_elsewhere
from gpureg.data.raw import RawData
from gpureg.data.sparse import is_sparse
from gpureg.data.spelling import Label
from gpureg.data.split import VAL_FRACTION, group_split, stratified_split
from gpureg.errors import DataError, UsageError, named
from gpureg.losses import Loss

A = TypeVar("A", bound=Any)


def taken_rows(raw: RawData, config: DataConfig, seed: int) -> Dataset:
    """The first rows of each part, or a split; labels are still indices into all of the data's labels."""
    train_size, val_size = config.train_size, config.val_size
    train: slice | Codes
    val: slice | Codes
    if raw.X_val is None or raw.codes_val is None:
        X_val, codes_val = raw.features.X, raw.codes
        if val_size == 0:
            train, val = (
                slice(_first("train_size", train_size, raw.features.X.shape[0], "training", raw.name)),
                slice(0),
            )
        else:
            train, val = _split_rows(raw, train_size, val_size, seed)
    else:
        X_val, codes_val = raw.X_val, raw.codes_val
        train = slice(_first("train_size", train_size, raw.features.X.shape[0], "training", raw.name))
        val = slice(_first("val_size", val_size, X_val.shape[0], "validation", raw.name))
    notices = (*data_notices(raw), *_size_notices(raw, val_size, val))  # before training rows are moved
    marks = raw.marks.take(train)
    if raw.read and X_val is raw.features.X:
        rows_train, rows_val = parted(X_val, train, val)
    else:
        rows_train, rows_val = _rows(raw.features.X, train), _rows(X_val, val)
    return Dataset(
        name=raw.name,
        X_train=rows_train,
        y_train=raw.codes[train],
        X_val=rows_val,
        y_val=codes_val[val],
        classes=raw.labels,
        sample_weight=None if raw.weights is None else raw.weights[train],
        image_shape=raw.features.image_shape,
        pixel_max=raw.features.pixel_max,
        index_base=raw.features.index_base,
        source=raw.source,
        notices=notices,
        val_weight=_val_weight(raw, val_size, val),
        target=raw.target,
        groups=marks.groups,
        folds=marks.folds,
    )


def _val_weight(raw: RawData, val_size: int | None, val: slice | Codes) -> npt.NDArray[np.float64] | None:
    own = raw.weights_val if raw.X_val is not None else raw.weights
    return None if own is None or (raw.X_val is None and val_size == 0) else own[val]


def _size_notices(raw: RawData, val_size: int | None, val: slice | Codes) -> list[str]:
    """Groups can't be cut to the size that was asked for."""
    if not val_size or raw.marks.groups is None or isinstance(val, slice) or len(val) == val_size:
        return []
    return [f"Groups stay whole: {len(val):,} rows are for validation, not {val_size:,}."]


def _rows(X: npt.NDArray[np.generic], rows: slice | Codes) -> npt.NDArray[np.generic]:
    """Chosen rows; a copy if they are few, so that the rest can be freed, else a view."""
    if is_sparse(X) and isinstance(rows, slice) and rows.indices(X.shape[0]) == (0, X.shape[0], 1):
        return X  # SciPy's slice would be a copy
    if is_sparse(X) or lies_elsewhere(X):
        return X[rows]
    if not isinstance(rows, slice):
        return X.take(rows, axis=0)  # quicker than X[rows]
    part = X[rows]
    return part.copy() if 2 * len(part) < len(X) else part


def parted(
    X: npt.NDArray[np.generic], train: slice | Codes, val: slice | Codes, at_once: int = 1 << 12
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """Training and validation rows of a matrix that nobody else needs, in rising order each. Training rows are moved
    to the front of it, so that no second matrix is made; X is read once.
    """
    if isinstance(train, slice) or isinstance(val, slice) or is_sparse(X) or lies_elsewhere(X):
        return _rows(X, train), _rows(X, val)
    if 2 * len(train) < len(X) or not X.flags.c_contiguous or not X.flags.writeable:
        return _rows(X, train), _rows(X, val)
    own = np.empty((len(val), X.shape[1]), X.dtype)
    begins = [*range(0, len(X), at_once), len(X)]
    ends = [np.searchsorted(rows, begins).tolist() for rows in (train, val)]
    for (t, next_t), (v, next_v) in zip(pairwise(ends[0]), pairwise(ends[1]), strict=True):
        own[v:next_v] = X.take(val[v:next_v], axis=0)
        X[t:next_t] = X.take(train[t:next_t], axis=0)
    return X[: len(train)], own


def _first(option: str, size: int | None, available: int, part: str, name: str) -> int:
    if size is not None and size > available:
        raise UsageError(f"{named(option, size)}: {name!r} has only {available} {part} rows. Ask for no more.")
    return available if size is None else size


def _split_rows(raw: RawData, train_size: int | None, val_size: int | None, seed: int) -> tuple[Codes, Codes]:
    n_rows = raw.features.X.shape[0]
    if n_rows < 2:
        raise DataError(f"{raw.name!r} has {n_rows} row; training and validation need at least one each.")
    asked = (train_size or 1) + (val_size or 1)
    if asked > n_rows:
        sizes = (("train_size", train_size), ("val_size", val_size))
        given = ", ".join(named(option, size) for option, size in sizes if size is not None)
        raise UsageError(
            f"{given}: {raw.name!r} has {n_rows} rows in all, from which "
            "training and validation are split. Ask for fewer."
        )
    n_val = val_size or max(1, min(round(VAL_FRACTION * n_rows), n_rows - (train_size or 1)))
    if raw.marks.groups is not None:
        train, val = group_split(raw.codes, raw.marks.groups, n_val, seed)
        if train_size is not None and train_size > len(train):
            raise UsageError(
                f"{named('train_size', train_size)}: whole groups for validation leave only {len(train)} training rows "
                f"of {raw.name!r}. Ask for fewer."
            )
        return train[:train_size], val
    train, val = stratified_split(raw.codes, n_val, seed)
    return train[:train_size], val


def chosen_classes(dataset: Dataset, loss: Loss, classes: Sequence[object] | None) -> Dataset:
    """Keep the rows of the chosen classes and renumber their labels in class order."""
    present = np.flatnonzero(np.bincount(dataset.y_train, minlength=len(dataset.classes)))
    labels = [dataset.classes[code] for code in present]
    if classes is None:
        _check_val_classes(dataset, present)
        chosen = list(range(len(labels)))
        if loss.binary:
            chosen.reverse()  # the larger label is positive, and positive comes first
    else:
        chosen = match_classes(classes, labels)
        if not loss.binary:
            chosen.sort()
    _check_class_count(loss, [labels[position] for position in chosen], dataset.name, by_name=classes is not None)
    renumber = np.full(len(dataset.classes), -1, dtype=np.int64)
    renumber[present[chosen]] = np.arange(len(chosen))
    X_train, y_train, kept = _keep(dataset.X_train, renumber.take(dataset.y_train))
    X_val, y_val, kept_val = _keep(dataset.X_val, renumber.take(dataset.y_val))
    if len(dataset.y_val) and not len(y_val):
        raise DataError(f"{dataset.name!r}: no validation row has any of the classes. Raise {named('val_size')}.")
    return replace(
        dataset,
        X_train=X_train,
        y_train=y_train,
        X_val=X_val,
        y_val=y_val,
        sample_weight=_of_kept(dataset.sample_weight, kept),
        val_weight=_of_kept(dataset.val_weight, kept_val),
        groups=_of_kept(dataset.groups, kept),
        folds=_of_kept(dataset.folds, kept),
        classes=tuple(labels[position] for position in chosen),
    )


def _keep(X: npt.NDArray[np.generic], y: Codes) -> tuple[npt.NDArray[np.generic], Codes, npt.NDArray[np.bool_] | None]:
    """Rows whose label is kept (>= 0). Without anything to drop, X is passed on, not copied."""
    kept = y >= 0
    if kept.all():
        return X if is_sparse(X) or lies_elsewhere(X) else np.ascontiguousarray(X), y, None
    return X[kept], y[kept], kept


def _of_kept(values: A, kept: npt.NDArray[np.bool_] | None) -> A:
    return values if values is None or kept is None else values[kept]


def _check_val_classes(dataset: Dataset, present: Codes) -> None:
    counts = np.bincount(dataset.y_val, minlength=len(dataset.classes))
    counts[present] = 0
    unseen = np.flatnonzero(counts)
    if unseen.size:
        names = listed([dataset.classes[code] for code in unseen])
        raise DataError(
            f"{dataset.name!r}: the validation rows have classes that no training row has: {names}. "
            f"Raise {named('train_size')}, or name the classes to keep with {named('classes')}."
        )


def _check_class_count(loss: Loss, chosen: Sequence[Label], name: str, *, by_name: bool) -> None:
    names = listed(chosen if by_name else sorted(chosen))
    given = f"{named('classes')} names {names}" if by_name else f"{name!r} has {len(chosen)}: {names}"
    if loss.binary and len(chosen) != 2:
        raise UsageError(
            f"{named('task', loss.name)} needs exactly two classes, but {given}. "
            f"Name two, the positive one first, with {named('classes')}; or use {named('task', 'softmax')}."
        )
    if len(chosen) < 2:
        raise UsageError(f"{named('task', loss.name)} needs at least two classes, but {given}. Keep more classes.")
