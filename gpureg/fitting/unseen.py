"""Folds whose training rows lack a class: their models are of the classes that are there, and give the missing one the
probability 0, clipped as scikit-learn's `log_loss` clips.

With a free bias, a model of all classes tends to this as the missing class's bias falls without bound; how far it gets
would depend on the tolerance. Such a fold is a separate problem, with fewer columns, on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from gpureg.backend import Backend
from gpureg.config import FitConfig
from gpureg.data import Dataset, Scaling
from gpureg.fitting.assemble import Trained, in_order
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.finishing import Finisher, Held
from gpureg.fitting.folds import row_weight_table
from gpureg.fitting.prepare import base_weights, rows_of
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.protocol import Kernels
from gpureg.losses import LOSSES, Loss, Softmax
from gpureg.rows.ahead import HostRows
from gpureg.solvers.problem import Problem, scores_of
from gpureg.types import Floats, Ints, ModelTable

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

    def train_all(self, finisher: Finisher, held: Held, blocks: list[Ints]) -> Trained:
        """All models of the problem that is held: those of such folds in stages of their own, on rows of their own."""
        table, parts = held.problem.table, []
        order: list[Ints] = []
        shared: list[int] = []
        for block in blocks:
            column = table.column[block]
            lacking = np.isin(column, list(self.seen))
            if not lacking.all():
                shared.append(len(order))
                order.append(block[~lacking])
                parts.append(finisher.stages.train(held.problem.take(order[-1]), order[-1]))
            for key in np.unique(column[lacking]).tolist():
                order.append(block[column == key])
                parts.append(self._train(finisher, held.problem.take(order[-1]), order[-1], key))
        finished = finisher.finish([parts[place] for place in shared], [order[place] for place in shared], held)
        for place, part in zip(shared, finished, strict=True):
            parts[place] = part
        return in_order(parts, order, table)

    def _train(self, finisher: Finisher, problem: Problem, ids: Ints, column: int) -> Trained:
        """The models of one such fold, as models of all classes."""
        config, mask = self.config, self.seen[column]
        table = replace(problem.table, column=np.zeros(len(ids), np.int64))

        own, make = partial(self._kernels, mask), partial(self._problem, column, table)
        kernels = own(finisher.stages.kernels.backend)
        first = Held(self.data, make, own, make(config, kernels, blocking=finisher.stages.blocking))
        trained = finisher.stages.train(first.problem, ids, kernels)
        (trained,) = finisher.finish([trained], [ids], first)
        wide = _of_all_classes(trained.outcome.weights, mask, config.loss.columns(len(mask)))
        found = trained.outcome.measured
        measured = replace(found, score=scores_of(finisher.stages.kernels, problem, wide, found))
        return Trained(problem.table, replace(trained.outcome, weights=wide, measured=measured), trained.history)

    def _kernels(self, mask: Mask, backend: Backend) -> Kernels:
        """Those of the classes of a mask."""
        config, count = self.config, int(mask.sum())
        loss: Loss = config.loss if count > 1 else Softmax()  # of one class: it is certain
        return choose_kernels(backend, loss, count, config.kernels if count > 1 else "reference", config.memory)

    def _problem(
        self, column: int, table: ModelTable, config: FitConfig, kernels: Kernels, *, blocking: Blocking | None
    ) -> Problem:
        """The models of `table`, those of one such fold; see `Make`."""
        data, mask = self.data, self.seen[column]
        assignment, fold = self.assignments[column // (config.cv or 1)], column % (config.cv or 1)
        known = mask[data.y_train]
        label = np.where(known, np.cumsum(mask)[data.y_train] - 1, 0)
        weight = np.ones(len(known)) if data.sample_weight is None else data.sample_weight
        held = assignment == fold
        weights = row_weight_table(base_weights(data, config), [assignment], config.cv or 1)[:, fold : fold + 1]
        own_rows = HostRows(data.X_train, label, weights, np.where(known, weight, 0.0), assignment)
        rows = rows_of(kernels, own_rows, self.scaling, config.dtype, blocking)
        return Problem(
            rows,
            None,
            {0: rows.subset(np.flatnonzero(held & known))} if (held & known).any() else {},
            table,
            rows.n,
            rows.features,
            True,
            unseen={0: float(weight[held & ~known].sum())},
            unseen_loss=-float(np.log(np.finfo(self.config.dtype).eps)),
            score=config.score,
        )


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
