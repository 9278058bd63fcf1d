"""Evaluation of a trained model: rows in, metrics out; only their labels and probabilities are kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpureg.data.blocks import Blocks, left_out_text
from gpureg.data.in_memory import as_array, read_labels
from gpureg.data.kept import ALL, Kept
from gpureg.data.known import Unknown, class_numbers, known_rows
from gpureg.data.matching import read_rows
from gpureg.data.raw import check_lengths, check_weights
from gpureg.errors import DataError, GpuregWarning
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
    check_lengths(rows.shape[0], len(found.codes), "X and y")
    numbers = class_numbers(found.values, model.classes)
    weights = None
    if sample_weight is not None:
        weights = check_weights(as_array(sample_weight, "sample_weight"), rows.shape[0], "sample_weight")
    counted = np.ones(rows.shape[0], bool) if weights is None else weights > 0
    if model.expected.leaves_out:
        counted &= _complete(rows)
    Unknown().plus(found, numbers, counted).refuse(int(counted.sum()), model.classes, "y")
    if not counted.any():
        raise DataError("X has no rows to evaluate on.")
    kept = ALL if counted.all() else Kept(np.flatnonzero(counted))
    y, of_them = kept.of(numbers[found.codes]), None if weights is None else kept.of(weights)
    predicted = predicted_rows(model, index, kept.of(rows), y, of_them, "X", kept.number)
    return measure(predicted, model.classes, bootstrap=bootstrap, seed=seed)


def _complete(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The rows without missing values; warns of others, which training left out."""
    there: npt.NDArray[np.bool_] = ~np.isnan(rows).any(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
    if not there.all():
        warnings.warn(left_out_text("X", int((~there).sum()), len(rows)), GpuregWarning, stacklevel=4)
    return there


def labelled_rows(model: LinearModel, index: int | None, blocks: Blocks, *, select: bool = False) -> Rows:
    """The rows of opened data, predicted by the model `index`: labels and probabilities, for `measure`.

    `select`: rows of classes that the model does not know are left out. Raises DataError for those rows otherwise, with
    their number, and for data without rows.
    """
    parts = [
        predicted_rows(model, index, rows.X, rows.y, rows.weights, rows.where, rows.number)
        for rows in known_rows(blocks, model.classes, select=select)
    ]
    return joined(parts)


def predicted_rows(
    model: LinearModel,
    index: int | None,
    X: npt.NDArray[Any],
    y: Ints,
    weights: Doubles | None,
    where: str = "X",
    number: Callable[[int], int | str] = lambda row: row,
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
