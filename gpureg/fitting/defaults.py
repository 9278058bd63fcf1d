"""What a configuration leaves to the data: the solver, λ, and the number of the folds that are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gpureg.config import OWNERS, FitConfig, decide_solver, layered
from gpureg.data import CATALOG, Dataset, class_weights
from gpureg.data.pieces import in_pieces
from gpureg.errors import UsageError, named
from gpureg.types import Floats, Ints


def configured(
    data: Dataset, config: FitConfig | None, options: Mapping[str, Any], folds: Ints | None
) -> tuple[FitConfig, list[str]]:
    """The options of a call over those of a configuration, with the solver that they choose; and a notice of any left
    out.

    Raises UsageError.
    """
    given, left_out = layered({} if config is None else config.given(), options, OWNERS)
    if given.get("cv") is None and (count := folds_of(data, folds)) is not None:
        given["cv"] = count
    checked = FitConfig(**given)
    choice = decide_solver(given, OWNERS, is_named(data))
    notices = []
    if left_out:
        notices.append(
            f"config: the solver is {choice.solver}; {', '.join(left_out)} "
            f"{'belong' if len(left_out) > 1 else 'belongs'} to the other solver and "
            f"{'are' if len(left_out) > 1 else 'is'} left out."
        )
    return replace(checked, solver=choice.solver), notices


def settled(config: FitConfig, data: Dataset, folds: Ints | None = None) -> FitConfig:
    """The configuration with every default filled in; a settled one is returned as it is.

    `solver` is `sgd` for a named data set and `lbfgs` for a file or arrays, unless the options decide. λ is 1 / (2 C S)
    for each C, S the sum of the training rows' weights; without any, C = 1. `cv` is the number of `folds`, or of those
    that the data name. Raises UsageError if `cv` or `seeds` contradicts the folds that the data name.
    """
    config = folded(config, data, folds)
    if in_pieces(data.X_train) and config.engine == "local":  # Dask's collections
        config = replace(config, engine="dask")
    if config.undecided:
        config = replace(config, solver=decide_solver(config.given(), OWNERS, is_named(data)).solver)
    if config.l2 is None:
        S = total_weight(data, config)
        config = replace(config, l2=tuple(_l2_of(C, S) for C in config.Cs or (1.0,)), Cs=None)
    return config


def _l2_of(C: float, S: float) -> float:
    """1 / (2 C S). Raises UsageError if that is infinite."""
    with np.errstate(all="ignore"):
        l2 = float(1.0 / (2.0 * np.float64(C) * S))
    if not np.isfinite(l2):
        raise UsageError(
            f"C = {C:g} with weights whose sum S is {S:g} is λ = 1 / (2 C S) = {l2:g}; expected a finite number. Scale "
            f"the weights, or give {named('l2')}."
        )
    return l2


def folds_of(data: Dataset, folds: Ints | None) -> int | None:
    """The number of folds that are given, or that the data name; None if there are none."""
    if folds is not None:
        return int(np.max(folds)) + 1
    return None if data.folds is None else len(np.unique(data.folds))


def folded(config: FitConfig, data: Dataset, folds: Ints | None = None) -> FitConfig:
    """The configuration with the number of the `folds`, or of those that the data name. Raises UsageError."""
    count = folds_of(data, folds)
    if count is None:
        return config
    if folds is None and count < 2:
        raise UsageError(
            f"{named('folds')}: the training rows are all in one fold; expected at least two. Name another column."
        )
    if folds is None and (config.seeds > 1 or config.cv not in (None, count)):
        option, value = ("seeds", config.seeds) if config.seeds > 1 else ("cv", config.cv)
        raise UsageError(
            f"{named(option, value)} was given, but {data.name!r} already names the fold of each row "
            f"({named('folds')}): {count} folds. Leave out {named(option)} or {named('folds')}."
        )
    return replace(config, cv=count) if config.cv is None else config


def of_two_classes(config: FitConfig, data: Dataset) -> list[str]:
    """A notice if C is given for a softmax of two classes, whose two columns share what a binary model's one has."""
    if config.Cs is None or config.loss.binary or len(data.classes) != 2:
        return []
    return [
        f"On two classes, softmax at C equals scikit-learn's binary model at 2 C; {named('task', 'logistic')} fits "
        "that model at C."
    ]


def is_named(data: Dataset) -> bool:
    """Whether the data are one of the named sets, and not a file or arrays."""
    return data.options.get("dataset") in CATALOG


def total_weight(data: Dataset, config: FitConfig) -> float:
    """S, the sum of sample x class weights of the training rows; n without weights."""
    weights = row_weights(data, config)
    return float(len(data.y_train) if weights is None else weights.sum())


def is_weighted(data: Dataset, config: FitConfig) -> bool:
    """Whether samples have different weights, apart from the folds' zeros."""
    return data.sample_weight is not None or config.class_weight is not None


def row_weights(data: Dataset, config: FitConfig) -> Floats | None:
    """Sample x class weights of the training rows `(N,)`, or None if there are neither."""
    if not is_weighted(data, config):
        return None
    weights = np.ones(len(data.y_train)) if data.sample_weight is None else np.asarray(data.sample_weight, float)
    of_class = class_weights(config.class_weight, data.y_train, len(data.classes), data.sample_weight)
    return np.asarray(weights * of_class[data.y_train])
