"""Evaluation of a trained model: rows in, metrics out; only labels and probabilities are kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import Blocks
from gpureg.data.in_memory import as_array, read_labels
from gpureg.data.kept import Kept
from gpureg.data.known import Unknown, class_numbers
from gpureg.data.matching import read_rows
from gpureg.data.raw import check_lengths, check_weights
from gpureg.errors import DataError
from gpureg.model.metrics import Evaluation, measure
from gpureg.model.rows import Doubles, Ints, Rows, joined

if TYPE_CHECKING:
    from gpureg.model.linear import LinearModel


def evaluate(
    model: LinearModel, X: Any, y: Any, sample_weight: Any, *, index: int | None, bootstrap: int, seed: int
) -> Evaluation:
    """`LinearModel.evaluate`: metrics of the model `index` on labelled rows in memory."""
    rows = read_rows(X, model.expected)
    found = read_labels(y, "y")
    check_lengths(len(rows), len(found.codes), "X and y")
    numbers = class_numbers(found.values, model.classes)
    weights = None
    if sample_weight is not None:
        weights = check_weights(as_array(sample_weight, "sample_weight"), len(rows), "sample_weight")
    counted = np.ones(len(rows), bool) if weights is None else weights > 0
    Unknown().plus(found, numbers, counted).refuse(int(counted.sum()), model.classes, "y")
    kept = Kept.of_weights(weights)
    y, of_them = kept.of(numbers[found.codes]), None if weights is None else kept.of(weights)
    predicted = predicted_rows(model, index, kept.of(rows), y, of_them, "X", kept.number)
    return measure(predicted, model.classes, bootstrap=bootstrap, seed=seed)


def labelled_rows(model: LinearModel, index: int | None, blocks: Blocks, *, select: bool = False) -> Rows:
    """The rows of opened data, predicted by the model `index`: labels and probabilities, for `measure`.

    `select`: rows of classes that the model does not know are left out. Raises DataError for those rows otherwise, with
    their number, and for data without rows.
    """
    parts = [
        predicted_rows(model, index, rows.X, rows.y, rows.weights, blocks.where, rows.number)
        for rows in known_rows(blocks, model.classes, select=select)
    ]
    return joined(parts)


@dataclass(frozen=True)
class Known:
    """Rows whose classes `y (n,)` a model knows, as they were read: `X (n, D)`, `weights (n,)` above 0 or None, and the
    `numbers (n,)` that they have in the data.
    """

    X: npt.NDArray[Any]
    y: Ints
    weights: Doubles | None
    numbers: Ints

    def number(self, row: int) -> int:
        """The number of a row in the data."""
        return int(self.numbers[row])


def known_rows(blocks: Blocks, classes: Sequence[Any], *, select: bool = False) -> Iterator[Known]:
    """The rows of opened data that count, block by block. Raises DataError as `labelled_rows`, after the last one."""
    unknown, total = Unknown(), 0
    known: dict[Any, int] = {}  # the labels seen so far, of which each block has the same few
    for block in blocks.rows:
        found, weights = block.labels, block.weights
        assert found is not None, "labels were asked for"
        fresh = [value for value in found.values if value not in known]
        known |= dict(zip(fresh, class_numbers(fresh, classes).tolist(), strict=True))
        numbers = np.array([known[value] for value in found.values], np.int64)
        y = numbers[found.codes]
        counted = np.ones(len(y), bool) if weights is None else weights > 0
        if select:
            counted &= y >= 0
        unknown = unknown.plus(found, numbers, counted)
        total += int(counted.sum())
        rows = np.flatnonzero(counted)
        if len(rows) and not unknown.rows:
            some = slice(None) if counted.all() else rows
            yield Known(block.X[some], y[some], None if weights is None else weights[some], block.first + rows)
    unknown.refuse(total, classes, blocks.where)
    if not total:
        raise DataError(f"{blocks.where} has no rows to evaluate on.")


def predicted_rows(
    model: LinearModel,
    index: int | None,
    X: npt.NDArray[Any],
    y: Ints,
    weights: Doubles | None,
    where: str = "X",
    number: Callable[[int], int] = lambda row: row,
) -> Rows:
    """Rows `X (N, D)` with the classes `y (N,)`, predicted; for messages `where` names the data, and `number` numbers
    a row.
    """
    logits = model.logits(X, index, where, number)
    return Rows(
        y,
        np.asarray(model.loss.predict(np, logits), np.int64),
        np.asarray(model.loss.probabilities(np, logits)),
        np.asarray(model.loss.value(np, logits[:, None, :], y)[0][:, 0]),
        weights,
    )
