"""From the columns of a data set to its features, by what its training rows teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from gpureg.data.dataset import Dataset
from gpureg.data.encoding import UNSEEN, Encoding, learnt, recoded, unseen_notices
from gpureg.data.labels import listed
from gpureg.data.limits import machine_limit
from gpureg.data.raw import RawData
from gpureg.data.uses import Uses
from gpureg.errors import DataError, named, size_text

Matrix = npt.NDArray[Any]


def encoded(dataset: Dataset, raw: RawData, uses: Uses) -> Dataset:
    """The data set with features instead of columns, and how they are made.

    Raises DataError for a column without a value in the training rows, and for more features than memory holds.
    """
    found = raw.features
    plain = found.words is None and found.positions is None and not uses.keeps_missing
    if plain or found.image_shape is not None or (not found.names and not found.width):
        return replace(dataset, feature_names=found.names)
    start = Encoding(len(found.names) if found.names else found.width, found.names, found.positions, (), uses.missing)
    weights, X = dataset.sample_weight, dataset.X_train
    encoding = learnt(X, found.words, uses.missing, weights, start)
    _check_size(encoding, len(X) + len(dataset.X_val), raw.name)
    X_val = recoded(dataset.X_val, found.words, encoding)
    unseen = {column: int((X_val[:, column] == UNSEEN).sum()) for column in encoding.words}
    notices = [*dataset.notices, *left_out_notices(raw.left_out, len(raw.features.X) + raw.left_out)]
    notices += unseen_notices(unseen, encoding, "validation rows")
    return replace(
        dataset,
        X_train=encoding.of_used(recoded(X, found.words, encoding)),
        X_val=encoding.of_used(X_val),
        feature_names=encoding.feature_names(),
        encoding=encoding,
        notices=tuple(notices),
    )


def left_out_notices(count: int, total: int) -> list[str]:
    """What is said of rows that were left out of training."""
    if not count:
        return []
    return [f"{count:,} of {total:,} rows have missing values and are left out ({named('missing', 'drop')})."]


def _check_size(encoding: Encoding, rows: int, name: str) -> None:
    """Raise DataError if the features don't fit the memory."""
    size, most = 8 * rows * encoding.n_features, machine_limit().most
    if not encoding.words or size <= most:
        return
    counts: Sequence[tuple[int, str]] = sorted(
        ((len(encoding.categories[c] or ()), (encoding.names or ())[c]) for c in encoding.words), reverse=True
    )
    widest = listed([f"{column} ({count:,})" for count, column in counts], 3)
    raise DataError(
        f"{name!r}: its words make {encoding.n_features:,} features, which take {size_text(size)} for {rows:,} rows; "
        f"expected {size_text(most)} or less, half of this machine's memory. The columns with most words: {widest}. "
        f"Leave them out with {named('drop', counts[0][1])}."
    )
