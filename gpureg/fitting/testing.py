"""A test set: read and checked before anything is trained, and the chosen model evaluated on it once, at the end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpureg.config import FitConfig
from gpureg.data import Dataset
from gpureg.data.dataset import Unseen
from gpureg.data.known import known_rows
from gpureg.data.validation import finite, opened_for
from gpureg.errors import GpuregError, GpuregWarning, UsageError, named
from gpureg.fitting.results import FitResult
from gpureg.model.evaluation import labelled_rows
from gpureg.model.linear import LinearModel
from gpureg.model.metrics import Evaluation, measure

TestRows = str | os.PathLike[str] | tuple[Any, ...]


@dataclass(frozen=True)
class Tester:
    """A checked test set: `evaluate(model)`, and what the user should know of its rows, one line each."""

    evaluate: Callable[[LinearModel], Evaluation]
    notices: tuple[str, ...] = ()


def tester(data: Dataset, config: FitConfig, rows: TestRows | None) -> Tester | None:
    """What evaluates a model on the test set (`rows`, or that of the data); None if there is none.

    Raises UsageError and DataError for rows that can't be used for evaluation, and if nothing would choose a model.
    """
    if rows is None and data.unseen is None:
        if config.bootstrap:
            raise UsageError(f"{named('bootstrap', config.bootstrap)} needs a test set; give {named('test')}.")
        return None
    candidates = len(config.lambdas) * len(config.rates)
    if candidates > 1 and config.cv is None and not len(data.y_val):
        if rows is None and data.unseen is not None and data.unseen.own:
            return None
        raise UsageError(
            f"{named('test')} is for the chosen model, but nothing chooses among {candidates}: there are neither "
            f"validation rows nor folds. Give {named('cv', 5)} or a larger {named('val_size')}."
        )
    if isinstance(rows, tuple):
        return _of_arrays(data, config, rows)
    unseen = data.unseen if rows is None else Unseen(os.fspath(rows), data.target)
    assert unseen is not None
    notices: list[str] = []
    checking = opened_for(data, unseen, "test", notices.append)
    for part in known_rows(checking, data.classes, select=unseen.selected):
        finite(part, data)

    def test(model: LinearModel) -> Evaluation:
        again = opened_for(data, unseen, "test", lambda notice: None)  # it was taken down above
        found = labelled_rows(model, None, again, select=unseen.selected)
        return measure(found, model.classes, bootstrap=config.bootstrap, seed=config.seed)

    return Tester(test, tuple(notices))


def tested(result: FitResult, test: Tester | None) -> FitResult:
    """The result with the metrics of its chosen model, and the notices of the test set among its warnings; as it is if
    it has no chosen model, or was interrupted.

    If the test set has changed since it was checked, its metrics are lost, with a warning, but not the result.
    """
    interrupted = any(model.stop_reason == "interrupted" for model in result.models)
    if test is None or interrupted or not _is_chosen(result):
        return result
    notices = list(test.notices)
    try:
        result = replace(result, test=test.evaluate(result.model))
    except GpuregError as error:
        notices.append(f"The test set could not be evaluated: {error}")
    for notice in notices:
        warnings.warn(notice, GpuregWarning, stacklevel=3)
    return replace(result, warnings=(*result.warnings, *notices))


def _is_chosen(result: FitResult) -> bool:
    model = result.model
    index = model.selected if model.selected is not None else 0 if len(model.coef) == 1 else None
    return index is not None and bool(np.isfinite(model.coef[index]).all())


def _of_arrays(data: Dataset, config: FitConfig, rows: tuple[Any, ...]) -> Tester:
    if len(rows) not in (2, 3):
        raise UsageError(f"test is a tuple of length {len(rows)}; expected (X, y) or (X, y, sample_weight).")
    F, K = data.X_train.shape[1], config.loss.columns(len(data.classes))
    zero = np.zeros((1, K, F))
    blank = LinearModel(
        config.task, data.classes, zero, zero[:, :, 0], zero[0, 0], zero[0, 0] + 1, zero[0, 0, :1], 0,
        feature_names=data.feature_names, encoding=data.encoding,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", GpuregWarning)
        blank.evaluate(*rows)  # which checks them

    def test(model: LinearModel) -> Evaluation:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GpuregWarning)  # they were taken down above
            return model.evaluate(*rows, bootstrap=config.bootstrap, seed=config.seed)

    return Tester(test, tuple(str(one.message) for one in told if issubclass(one.category, GpuregWarning)))
