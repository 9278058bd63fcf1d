"""Groups and folds that a call of `fit` gives to the rows of its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data import Dataset
from gpureg.data.in_memory import mark_array
from gpureg.data.marks import Marks
from gpureg.data.split import VAL_FRACTION, group_split
from gpureg.errors import UsageError
from gpureg.types import Ints


def fold_numbers(folds: Any, cv: int | None) -> Ints | None:
    """Folds as numbers from 0. Folds that are such numbers already stay as they are, and so do any if `cv`, the number
    of folds, is given; the names of others `(N,)` (numbers, words, dates) are numbered in order. Raises DataError.
    """
    if folds is None:
        return None
    found = np.asarray(folds)
    if found.dtype.kind in "iuf" and (found.ndim != 1 or cv is not None):
        return found  # their values are checked where they are used
    array = mark_array(folds, "folds")
    return Marks.of({"folds": array}, len(array), "the array").folds


def grouped(data: Dataset, groups: npt.ArrayLike, seed: int, *, split: bool) -> Dataset:
    """The data with the group of each training row `(N,)`; with `split`, the validation rows are split off again, in
    whole groups.

    Raises UsageError if the validation rows were split off earlier, without regard to the groups.
    """
    if split and data.whole is None:
        raise UsageError(
            f"groups: {data.name!r} has its own validation rows, so nothing is split here. Give cv, or pass the groups "
            "to make_dataset or load_dataset."
        )
    data = data.for_folds() if split else data
    codes = Marks.of({"groups": mark_array(groups, "groups")}, len(data.y_train), data.name).groups
    data = replace(data, groups=codes)
    if not split or codes is None:
        return data
    if data.encoding is not None:
        raise UsageError(
            "groups: the features were learnt from all rows, before these could be split. Pass the groups to "
            "make_dataset or load_dataset."
        )
    train, val = group_split(data.y_train, codes, max(1, round(VAL_FRACTION * len(codes))), seed)
    weights = data.sample_weight
    return replace(
        data,
        X_train=data.X_train[train],
        y_train=data.y_train[train],
        X_val=data.X_train[val],
        y_val=data.y_train[val],
        sample_weight=None if weights is None else weights[train],
        val_weight=None if weights is None else weights[val],
        groups=codes[train],
    )
