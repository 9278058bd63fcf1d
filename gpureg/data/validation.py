"""A validation set of the caller's own: a file, read as new data are, for the classes and columns of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import BLOCK_BYTES, BLOCK_ROWS, Blocks, Request, open_blocks
from gpureg.data.both_sides import Groups
from gpureg.data.catalog import CATALOG
from gpureg.data.dataset import Dataset, Unseen
from gpureg.data.known import Known, known_rows
from gpureg.data.limits import machine_limit
from gpureg.data.matching import Expected, NotFinite, not_finite
from gpureg.data.opened_rows import OpenedRows, stamps_of
from gpureg.data.sparse import all_finite, as_in_training, is_sparse, sparse_parts, stacked
from gpureg.data.streamed import Part, Streamed, is_streamed
from gpureg.errors import UsageError, named


def expected_of(data: Dataset) -> Expected:
    """The columns that a model of these data takes."""
    return Expected.of(data.X_train.shape[1], data.feature_names, data.encoding, data.index_base)


def opened_for(data: Dataset, unseen: Unseen, option: str, tell: Callable[[str], None] | None = None) -> Blocks:
    """The labelled rows of the file that an option names. Raises UsageError and DataError."""
    if unseen.path in CATALOG:
        raise UsageError(f"{named(option, unseen.path)} is a named data set; expected a file.")
    own = data.target if unseen.target is None else None
    parts = ("val", "", "test", "train") if option == "val" else Request.parts
    request = Request(
        expected_of(data),
        True,
        unseen.target,
        None,
        own,
        own_weights=unseen.weights,
        outputs=len(data.classes),
        parts=parts,
    )
    return open_blocks(unseen.path, request, option, tell)


def finite(part: Known, data: Dataset) -> Known:
    """The rows. Raises DataError if a value is not finite."""
    if is_sparse(part.X):
        if not all_finite(part.X):
            raise not_finite(NotFinite.of_sparse(part.X, part.number), expected_of(data), part.where)
    elif not np.isfinite(part.X).all():
        raise not_finite(NotFinite.among(part.X, 0, part.number), expected_of(data), part.where)
    return part


def with_validation(data: Dataset, unseen: Unseen, groups: Groups | None = None) -> Dataset:
    """The data set with the rows of a file for validation, without those of weight 0. A notice says if they are of
    `groups` that training rows have too.

    Raises UsageError and DataError for rows that can't be validated on: columns that are not there, classes that no
    training row has.
    """
    if is_streamed(data.X_train):
        return _streamed(data, unseen, groups)
    notices: list[str] = []
    blocks = opened_for(data, unseen, "val", notices.append)
    limit, size, parts = machine_limit(), 0, []
    for part in known_rows(blocks, data.classes, select=unseen.selected):
        own = as_in_training(finite(part, data).X, data.X_train)
        parts.append(replace(part, X=_narrow(own, data.X_train.dtype)))
        size += sum(array.nbytes for array in sparse_parts(parts[-1].X))
        limit.check(2 * size, Path(unseen.path))
    numbers = np.concatenate([part.numbers for part in parts])
    notices += [] if groups is None else groups.notices(unseen.path, numbers)
    return _with(data, stacked([part.X for part in parts]), parts, notices)


def _streamed(data: Dataset, unseen: Unseen, groups: Groups | None) -> Dataset:
    """The same, with features that stay in the file: a pass checks them, and keeps their labels."""
    notices: list[str] = []
    stamps = stamps_of(unseen.path)
    parts, narrow, kind = [], True, data.X_train.dtype
    for part in known_rows(opened_for(data, unseen, "val", notices.append), data.classes, select=unseen.selected):
        own = _narrow(np.asarray(finite(part, data).X), kind)
        narrow &= own.dtype == kind
        parts.append(replace(part, X=own[:0].copy()))  # a view would keep the block
    numbers = np.concatenate([part.numbers for part in parts])
    notices += [] if groups is None else groups.notices(unseen.path, numbers)
    dtype = kind if narrow else np.result_type(*(part.X.dtype for part in parts))
    shape, block = (int(numbers[-1]) + 1, data.X_train.shape[1]), 2 * 8 * data.X_train.shape[1] * BLOCK_ROWS
    again = partial(opened_for, data, unseen, "val", lambda notice: None)
    rows = OpenedRows(unseen.path, again, shape, dtype, stamps, min(block, 2 * BLOCK_BYTES))
    return _with(data, Streamed((Part(rows, numbers),)), parts, notices)


def _with(data: Dataset, X_val: Any, parts: Sequence[Known], notices: Sequence[str]) -> Dataset:
    """The data set with these validation rows, and with the labels and weights of their parts."""
    weights = [part.weights for part in parts if part.weights is not None]
    return replace(
        data,
        X_val=X_val,
        y_val=np.concatenate([part.y for part in parts]),
        val_weight=np.concatenate(weights) if weights else None,
        notices=(*data.notices, *notices),
    )


def _narrow(X: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The same numbers in the type of the training rows, if it holds them."""
    if is_sparse(X):
        return X
    if kind == X.dtype or kind.kind not in "f":
        return np.ascontiguousarray(X)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(X.astype(kind))
    return narrow if np.array_equal(narrow, X) else np.ascontiguousarray(X)
