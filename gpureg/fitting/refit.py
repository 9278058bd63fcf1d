"""The chosen model fitted again, to training and validation rows, at the same C.

With S the sum of the sample x class weights of the rows that a model is fitted to, C = 1 / (2 λ S): λ of all rows is
λ S_train / S_all. Categories and the means for missing values are still those of the training rows. Class weights and
the statistics of the scaling are computed again, from all rows; so the refit is the model that `fit` makes from these
rows at that λ. With minibatches it makes as many passes: the chosen model's steps times n_all / n_train.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling, default_scaling
from gpureg.data.pieces import in_pieces
from gpureg.data.sparse import is_sparse
from gpureg.data.streamed import is_streamed, joined
from gpureg.fitting.assemble import Trained, join
from gpureg.fitting.defaults import total_weight
from gpureg.fitting.finishing import Finisher, Held
from gpureg.fitting.prepare import prepare, scaling_of
from gpureg.fitting.selection import Chosen, Refit
from gpureg.solvers.problem import Limit
from gpureg.types import ModelTable


def refitted(finisher: Finisher, chosen: Chosen, data: Dataset, config: FitConfig, scaling: Scaling) -> Chosen:
    """The choice with the last refit, if one was asked for and the fit came that far."""
    index = chosen.index
    if config.refit != "all" or index is None or "interrupted" in chosen.trained.outcome.reasons:
        return chosen
    rows, table, outcome = all_rows(data), chosen.trained.table, chosen.trained.outcome
    l2 = float(table.l2[index])
    at = l2 * (total_weight(data, config) / total_weight(rows, config))
    if (config.scale or default_scaling(data)) == "standard":
        scaling = scaling_of(rows, config)
    alone = ModelTable.plain(np.array([at]), table.lr[[index]])
    stages, ids = finisher.stages, np.array([-1])
    make = partial(prepare, rows, table=alone, scaling=scaling)
    problem = make(config, stages.kernels, blocking=stages.blocking)
    if stages.solver.minibatches:
        steps = max(1, round(int(outcome.steps[index]) * len(rows.y_train) / len(data.y_train)))
        problem = replace(problem, limit=Limit(steps, "refit_steps"))
    held = Held(rows, make, finisher.kernels, problem)
    del problem
    (last,) = finisher.finish([stages.train(held.problem, ids)], [ids], held)
    means = {(row.l2, row.lr or 0.0): row.mean for row in chosen.cv or ()}
    score = means.get((l2, float(table.lr[index])), float(outcome.measured.score[index]))
    trained = join([chosen.trained, _without_evaluations(last) if stages.solver.minibatches else last])
    refit = Refit(rows, scaling, l2, np.nan if score is None else score)
    return replace(chosen, trained=trained, index=len(trained.table) - 1, refit=refit)


def all_rows(data: Dataset) -> Dataset:
    """The rows for training and then those for validation, all for training."""
    weights = None
    if data.sample_weight is not None or data.val_weight is not None:
        weights = np.concatenate([_weights(data.sample_weight, data.y_train), _weights(data.val_weight, data.y_val)])
    return replace(
        data,
        X_train=_stacked(data.X_train, data.X_val) if len(data.y_val) else data.X_train,
        y_train=np.concatenate([data.y_train, data.y_val]),
        X_val=data.X_val[:0],
        y_val=data.y_val[:0],
        sample_weight=weights,
        val_weight=None,
        groups=None,
        folds=None,
    )


def _stacked(X: Any, X_val: Any) -> Any:
    if in_pieces(X):
        return X.joined(X_val)
    if is_streamed(X):
        return joined(X, X_val)
    if not is_sparse(X):
        return np.concatenate([X, X_val])
    from scipy import sparse

    return sparse.vstack([X, X_val], format="csr")


def _weights(given: npt.NDArray[np.float64] | None, y: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.ones(len(y)) if given is None else given


def _without_evaluations(last: Trained) -> Trained:
    """Without the evaluations: an epoch of more rows is evaluated at other steps than the other models' epochs."""
    none, history = np.zeros((0, 1)), last.history
    none_there = replace(
        history, eval_step=history.eval_step[:0], val_loss=none, val_accuracy=none, train_accuracy=none
    )
    return replace(last, history=none_there)
