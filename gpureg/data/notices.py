"""Notices about oddities in data that could mislead a user, one line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.labels import listed
from gpureg.data.pieces import lies_elsewhere
from gpureg.data.raw import RawData
from gpureg.data.sparse import is_sparse
from gpureg.data.spelling import EXACT
from gpureg.errors import named

FEW_ROWS = 20  # in this few rows, measurements too are often all different
TARGETS, SHARE = 50, 0.05  # whole numbers that may be classes: their maximum number, or share of the rows
_FIRST = 64  # rows in which a number that repeats is looked for first


def data_notices(raw: RawData) -> tuple[str, ...]:
    """What is odd about the features and the target of data, over all their rows."""
    found = []
    ids = _all_different(raw) if raw.ids is None else list(raw.ids)
    if ids:
        many = len(ids) > 1
        words = raw.features.words is not None and any(raw.features.words[column] is not None for column in ids)
        names = raw.features.names or [str(n) for n in raw.features.positions or range(raw.features.X.shape[1])]
        shown = [names[column] if raw.features.names else f"feature {names[column]}" for column in ids]
        found.append(
            f"{listed(shown, 5)}: {'features' if many else 'a feature'} of "
            f"{'words or ' if words else ''}whole numbers that are all different "
            f"({'ids' if many else 'an id'}?). An id says nothing about new rows, and if rows are sorted by class it "
            f"gives the class away: leave {'such columns' if many else 'the column'} out "
            f"({named('drop', ','.join(names[column] for column in ids[:5]))})."
        )
    rows = len(raw.codes) + (0 if raw.codes_val is None else len(raw.codes_val))
    whole = all(isinstance(label, int) and not isinstance(label, bool) for label in raw.labels)
    if whole and len(raw.labels) > TARGETS and len(raw.labels) > SHARE * rows:
        target = f"the target {listed([raw.target])!r}" if raw.target else "the target"
        found.append(
            f"{target} holds {len(raw.labels):,} different whole numbers in {rows:,} rows (a measurement?). If another "
            f"column is the label, name it with {named('target')}."
        )
    return tuple(found)


def _all_different(raw: RawData) -> list[int]:
    """The columns of whole numbers, or words, that are all different in the training rows."""
    X = raw.features.X
    if (
        is_sparse(X)
        or lies_elsewhere(X)
        or len(X) < FEW_ROWS
        or raw.features.image_shape is not None
        or (X.dtype.itemsize == 1 and len(X) > 256)
    ):
        return []
    maybe = may_be_ids(X[:_FIRST])
    return [int(column) for column in np.flatnonzero(maybe) if _whole_and_different(X[:, column])]


def may_be_ids(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The columns of `rows (n, F)` that hold whole numbers, all of them different, as a mask `(F,)`."""
    ordered = np.sort(rows, axis=0)
    maybe = (ordered[1:] != ordered[:-1]).all(axis=0)
    if ordered.dtype.kind == "f":
        whole = ordered == np.floor(ordered)
        maybe &= (whole & (np.abs(ordered.astype(np.float64)) < EXACT)).all(axis=0)  # beyond it all are whole
    return np.asarray(maybe)


def _whole_and_different(values: npt.NDArray[np.generic]) -> bool:
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return False
    return len(np.unique(values)) == len(values)
