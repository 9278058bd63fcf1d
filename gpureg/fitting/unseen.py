"""Folds whose training rows lack a class: their models are of the classes that are there, and give the missing one the
probability 0, clipped as scikit-learn's `log_loss` clips.

With a free bias, a model of all classes tends to this as the missing class's bias falls without bound; how far it gets
would depend on the tolerance. Such a fold is a separate problem, with fewer columns, on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling
from gpureg.fitting.assemble import Trained, in_order
from gpureg.fitting.folds import row_weight_table
from gpureg.fitting.prepare import base_weights, rows_of
from gpureg.fitting.stages import Stages
from gpureg.kernels.choice import choose_kernels
from gpureg.losses import LOSSES, Loss, Softmax
from gpureg.rows.ahead import HostRows
from gpureg.solvers.problem import Problem, scores_of
from gpureg.types import Floats, Ints

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lacking:
    """The folds of a cross-validation that lack classes, `seen`: column of the row-weight table to the mask `(K,)` of
    the classes that its training rows have."""

    data: Dataset
    config: FitConfig
    scaling: Scaling
    assignments: list[Ints]
    seen: Mapping[int, Mask]

    @classmethod
    def of(cls, data: Dataset, config: FitConfig, scaling: Scaling, assignments: list[Ints]) -> Lacking:
        """None for a loss that is not a cross-entropy: it gives no probabilities to clip."""
        seen: dict[int, Mask] = {}
        base, K = base_weights(data, config), len(data.classes)
        if config.loss in LOSSES.values():
            for number, assignment in enumerate(assignments):
                for fold in range(config.cv or 1):
                    trains = assignment != fold if base is None else (assignment != fold) & (base > 0)
                    mask = np.bincount(data.y_train[trains], minlength=K) > 0
                    if not mask.all():
                        seen[number * (config.cv or 1) + fold] = mask
        return cls(data, config, scaling, assignments, seen)

    def notices(self) -> list[str]:
        """One sentence that names the folds and their classes."""
        if not self.seen:
            return []
        folds = self.config.cv or 1
        named = [
            f"fold {column % folds}{f' of seed {self.config.seed + column // folds}' if self.config.seeds > 1 else ''} "
            f"those of {', '.join(repr(self.data.classes[k]) for k in np.flatnonzero(~mask))}"
            for column, mask in self.seen.items()
        ]
        return [
            f"Training rows of some classes are missing: {'; '.join(named)}. A fold's model gives a class that it has "
            "not seen the probability 0."
        ]

    def train_all(self, stages: Stages, problem: Problem, blocks: list[Ints]) -> Trained:
        """All models of the problem: those of such folds in stages of their own."""
        parts: list[Trained] = []
        order: list[Ints] = []
        for block in blocks:
            column = problem.table.column[block]
            lacking = np.isin(column, list(self.seen))
            if not lacking.all():
                order.append(block[~lacking])
                parts.append(stages.train(problem.take(order[-1]), order[-1]))
            for key in np.unique(column[lacking]).tolist():
                order.append(block[column == key])
                parts.append(self._train(stages, problem.take(order[-1]), order[-1], key))
        return in_order(parts, order, problem.table)

    def _train(self, stages: Stages, problem: Problem, ids: Ints, column: int) -> Trained:
        """The models of one such fold, as models of all classes."""
        data, config, mask = self.data, self.config, self.seen[column]
        assignment, fold = self.assignments[column // (config.cv or 1)], column % (config.cv or 1)
        loss: Loss = config.loss if mask.sum() > 1 else Softmax()  # of one class: it is certain
        which = config.kernels if mask.sum() > 1 else "reference"
        kernels = choose_kernels(stages.kernels.backend, loss, int(mask.sum()), which, config.memory)
        known = mask[data.y_train]
        label = np.where(known, np.cumsum(mask)[data.y_train] - 1, 0)
        weight = np.ones(len(known)) if data.sample_weight is None else data.sample_weight
        held = assignment == fold
        weights = row_weight_table(base_weights(data, config), [assignment], config.cv or 1)[:, fold : fold + 1]
        own_rows = HostRows(data.X_train, label, weights, np.where(known, weight, 0.0), assignment)
        rows = rows_of(kernels, own_rows, self.scaling, config.dtype, stages.blocking)
        table = replace(problem.table, column=np.zeros(len(ids), np.int64))
        own = Problem(
            rows,
            None,
            {0: rows.subset(np.flatnonzero(held & known))} if (held & known).any() else {},
            table,
            rows.n,
            rows.features,
            True,
            unseen={0: float(weight[held & ~known].sum())},
            unseen_loss=-float(np.log(np.finfo(config.dtype).eps)),
            score=config.score,
        )
        trained = stages.train(own, ids, kernels)
        wide = _of_all_classes(trained.outcome.weights, mask, config.loss.columns(len(mask)))
        found = trained.outcome.measured
        measured = replace(found, score=scores_of(stages.kernels, problem, wide, found))
        return Trained(problem.table, replace(trained.outcome, weights=wide, measured=measured), trained.history)


def _of_all_classes(weights: Floats, mask: Mask, columns: int) -> Floats:
    """Weights `(A, D, K')` of the classes of a mask as those of all, `(A, D, columns)`; the bias of a missing class is
    -inf (of two classes with one column, the positive one first: inf where only that one is there).
    """
    wide = np.zeros((*weights.shape[:2], columns))
    if columns == 1:
        wide[:, -1] = np.inf if mask[0] else -np.inf
        return wide
    wide[:, :, mask] = weights
    wide[:, -1, ~mask] = -np.inf
    return wide
