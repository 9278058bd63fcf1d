"""New rows for a trained model, read front to back in blocks: never more than one block is held."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gpureg.data.dataset import Dataset
from gpureg.data.encoding import unseen_notices
from gpureg.data.labels import Found, listed
from gpureg.data.matching import Expected
from gpureg.data.raw import check_weights
from gpureg.errors import DataError, GpuregWarning, UsageError, named

Matrix = npt.NDArray[Any]
Table = Any  # pyarrow.Table; pyarrow has no types
Schema = Any  # pyarrow.Schema

BLOCK_ROWS, BLOCK_BYTES = 1 << 16, 1 << 25  # of a block in float64
STDIN = "-"


@dataclass(frozen=True)
class Request:
    """What is read of new data: the `expected` features, `keep` (further columns, as they are), and if `labelled` the
    labels and, if there are any, weights.

    `target` and `weights` are named by the caller and must be there. `own_target` and `own_weights` are those of the
    training data, and may be missing where no label is needed. `outputs`: the probabilities that a row gets. `parts`:
    of an archive that has several, the first of them that is there is read. `labels`: a file of the labels of an npy.
    """

    expected: Expected
    labelled: bool = False
    target: str | None = None
    weights: str | None = None
    own_target: str | None = None
    own_weights: str | None = None
    keep: tuple[str, ...] = ()
    outputs: int = 1
    parts: tuple[str, ...] = ("test", "val", "train", "")
    labels: str | None = None

    @property
    def block_rows(self) -> int:
        """The maximum number of rows of a block."""
        widest = max(1, self.expected.n_features, 4 * self.outputs)  # logits, probabilities, and their copies
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (8 * widest)))


@dataclass(frozen=True)
class Block:
    """Some rows, of which the first has the number `first` in the data, from 0.

    `X (n, D)` the model's features (as they are read, the columns that it takes), missing values as NaN; `labels` and
    `weights (n,)` if they were asked for; `kept`: the further columns. `left_out (n,)`: rows that training would have
    left out, None for none. `file`: of a folder's rows what messages call the file that holds them, and the number of
    the first in it.
    """

    first: int
    X: Matrix
    labels: Found | None = None
    weights: npt.NDArray[np.float64] | None = None
    kept: Table = None
    left_out: npt.NDArray[np.bool_] | None = None
    file: tuple[str, int] | None = None

    def place(self, where: str) -> tuple[str, int]:
        """What messages call the file of these rows, and the number of the first in it; `where`: what they call the
        data.
        """
        return (where, self.first) if self.file is None else self.file


@dataclass(frozen=True)
class Blocks:
    """Opened data: what messages call them (`where`), the columns that are kept (`schema`), what the user should know
    (`notices`), and the rows, which can be read once.
    """

    where: str
    schema: Schema
    rows: Iterator[Block]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their use; `features` hold the model's, each once."""

    features: tuple[str, ...]
    label: str | None
    weights: str | None
    keep: tuple[str, ...]
    notices: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read, once."""
        named = [name for name in (self.label, self.weights) if name is not None]
        return tuple(dict.fromkeys((*self.features, *named, *self.keep)))


def open_blocks(
    data: str | Path | BinaryIO, request: Request, option: str = "DATA", tell: Callable[[str], None] | None = None
) -> Blocks:
    """The rows of a file (npz, npy, CSV, Parquet, IDX images), or of CSV text that is read from a stream.

    `option` named the file, for messages. `tell` gets notices of what the rows held, after the last one; without it
    they are GpuregWarnings.

    A table gives its columns by name if the model knows names, else by number; an npz its features `X`, or those for
    testing or validation if it has several parts; IDX images need no labels.

    Raises UsageError for a path or a column that is not there, DataError for what can't be read.
    """
    if not isinstance(data, (str, Path)):
        from gpureg.data.csv_blocks import stream_blocks

        return _encoded(stream_blocks(data, request), request.expected, tell or _warn)
    from gpureg.data.files import existing
    from gpureg.data.formats import format_of

    file = existing(data, option)
    if request.labels is not None:
        from gpureg.data.labels_file import refuse_labels

        refuse_labels(file, request.labels)
    return _encoded(format_of(file).blocks(file, request), request.expected, tell or _warn)


def _encoded(blocks: Blocks, expected: Expected, tell: Callable[[str], None]) -> Blocks:
    """Blocks of features instead of columns."""
    encoding = expected.encoding
    if encoding is None:
        return blocks

    def rows() -> Iterator[Block]:
        unseen: Counter[int] = Counter()
        left_out = total = 0
        for block in blocks.rows:
            unseen.update(expected.unseen(block.X))
            X = expected.encoded(block.X)
            absent: npt.NDArray[np.bool_] | None = None
            if expected.leaves_out and X.dtype.kind == "f":
                absent = np.asarray(np.isnan(X).any(axis=1))
                left_out += int(absent.sum())
            total += len(X)
            yield replace(block, X=X, left_out=absent)
        for notice in unseen_notices(unseen, encoding, f"{blocks.where}: rows"):
            tell(notice)
        if left_out:
            tell(left_out_text(blocks.where, left_out, total))

    return replace(blocks, rows=rows())


def left_out_text(where: str, count: int, total: int) -> str:
    """The notice of rows that training would have left out."""
    return (
        f"{where}: {count:,} of {total:,} rows have missing values: training left out such rows, and they get no label."
    )


def _warn(notice: str) -> None:
    warnings.warn(notice, GpuregWarning, stacklevel=4)


def dataset_blocks(data: Dataset, request: Request) -> Blocks:
    """The validation rows of a data set in memory."""
    import pyarrow as pa

    F = data.X_val.shape[1]
    if request.expected.n_features != F:
        raise UsageError(f"{data.name} has {F} features; this model was trained on {request.expected.n_features}.")
    for option, value in (("target", request.target), ("weights", request.weights), ("keep", request.keep or None)):
        if value is not None:
            raise UsageError(f"{named(option)}: {data.name} has no columns to name. Leave out {named(option)}.")
    if not len(data.y_val):
        raise DataError(f"{data.name} has no validation rows in this run. Name a file instead.")

    def rows() -> Iterator[Block]:
        for start in range(0, len(data.y_val), request.block_rows):
            part = slice(start, start + request.block_rows)
            labels = Found(data.y_val[part], data.classes, data.name) if request.labelled else None
            yield Block(start, data.X_val[part], labels)

    return Blocks(f"{data.name} (validation part)", pa.schema([]), rows())


def table_columns(names: tuple[str, ...], hidden: tuple[str, ...], request: Request, where: str) -> Columns:
    """`choose_columns` for a table, with a notice if its names are ignored. Raises DataError for a name that is used
    and belongs to two columns.
    """
    chosen = choose_columns(names, hidden, request, where)
    twice = sorted({name for name in chosen.all if (*names, *hidden).count(name) > 1})
    if twice:
        raise DataError(f"{where}: columns with the same name: {listed(twice)}. Rename them.")
    if request.expected.names is not None:
        return chosen
    text = f"The run has no feature names: the columns of {where} are matched by number, in their order."
    return replace(chosen, notices=(text, *chosen.notices))


def choose_columns(names: tuple[str, ...], hidden: tuple[str, ...], request: Request, where: str) -> Columns:
    """Which columns of a table are read. `hidden` ones (pandas' index) are used only if they are named.

    The label is the column that the caller names, else that of the training data, else the only one that is not a
    feature, else the last one. Raises UsageError for a column that is not there.
    """
    for column in request.keep:
        _check(column, (*names, *hidden), "keep", where)
    weights = request.weights if request.weights is not None else _own(request.own_weights, names, hidden)
    if weights is not None:
        _check(weights, (*names, *hidden), "weights", where)
    label = _label(names, hidden, weights, request, where)
    if label is not None and label == weights:
        raise UsageError(f"{named('weights', weights)} is the label column of {where}. Name another column.")
    others = tuple(name for name in names if name not in (label, weights))
    notices: tuple[str, ...] = ()
    if request.expected.names is None and len(others) == request.expected.n_features + 1 and label is None:
        notices = (f"{where}: its last column, {listed([others[-1]])!r}, is taken for the label and left out.",)
        others = others[:-1]
    features = request.expected.columns(others if request.expected.names is None else (*names, *hidden), where)
    if not request.labelled:
        label = weights = None
    return Columns(features, label, weights, request.keep, notices)


def checked_weights(values: Matrix, rows: int, where: str) -> npt.NDArray[np.float64]:
    """Weights `(rows,)` of a block, all of which may be 0. Raises DataError."""
    if not values.any():
        return np.zeros(rows)
    return check_weights(values, rows, where)


def _check(column: str, names: tuple[str, ...], option: str, where: str) -> None:
    if column not in names:
        raise UsageError(f"{named(option, column)}: {where} has no such column; it has {listed(names, 40)}.")


def _own(column: str | None, names: Sequence[str], hidden: Sequence[str]) -> str | None:
    return column if column in names or column in hidden else None


def _label(
    names: tuple[str, ...], hidden: tuple[str, ...], weights: str | None, request: Request, where: str
) -> str | None:
    if request.target is not None:
        _check(request.target, (*names, *hidden), "target", where)
        return request.target
    own = _own(request.own_target, names, hidden)
    if own is not None or not request.labelled:
        return own
    if request.own_target is not None:
        raise UsageError(
            f"{where} has no column {request.own_target!r}, the label of the training data; it has "
            f"{listed(names, 40)}. Name the label column with {named('target')}."
        )
    features = set(request.expected.names or ())
    others = [name for name in names if name not in features and name != weights]
    single = [name for name in others if name not in request.keep]
    if len(single) == 1 or (others and others[-1] == names[-1]):
        return (single if len(single) == 1 else others)[-1]
    raise UsageError(f"{where}: which column is the label? It has {listed(names, 40)}. Name it with {named('target')}.")
