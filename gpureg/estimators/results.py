"""The results of a cross-validation, and the attributes that an estimator keeps, in scikit-learn's two forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpureg.estimators.inputs import Samples
from gpureg.estimators.solve import Solution
from gpureg.types import Floats


@dataclass(frozen=True)
class Results:
    """Values of C `Cs (C,)`, held-out `scores (folds, C)`, the folds' models `paths`, folds outermost, and the refits
    of every C (none without `refit`); `intercept`: whether the models have one.
    """

    Cs: Floats
    scores: Floats
    paths: Solution
    refits: Solution
    refit: bool
    intercept: bool

    @property
    def weights(self) -> Floats:
        """Those of the folds' models, `(folds, C, K, F + 1)`."""
        W = np.concatenate([self.paths.coef, self.paths.intercept[:, :, None]], axis=2)
        return W.reshape(*self.scores.shape, *W.shape[1:])

    def attributes(self, samples: Samples, *, legacy: bool, ratios: bool) -> dict[str, Any]:
        """All that is kept, as arrays at home with the samples; `ratios`: whether the old form has the axis of l1
        ratios.
        """
        C, coef, intercept = self._chosen()
        bring = samples.home.bring
        W = self.weights[..., : None if self.intercept else -1].astype(samples.X.dtype)
        own = samples.bring((coef, intercept))
        found = {"classes_": samples.label_home.bring(samples.classes), "coef_": own[0], "intercept_": own[1]}
        found |= {"Cs_": bring(self.Cs), "l1_ratios_": bring(np.zeros(1))}
        n_iter = self.paths.n_iter.reshape(self.scores.shape).astype(np.int32)
        if not legacy:
            return found | {
                "C_": C,
                "l1_ratio_": 0.0,
                "scores_": bring(self.scores[:, None, :]),
                "coefs_paths_": bring(W[:, None]),
                "n_iter_": bring(n_iter[:, None, :]),
            }
        axis = (..., None) if ratios else (...,)
        names = samples.classes[1:] if samples.binary else samples.classes
        paths = W[:, :, None] if ratios else W  # (folds, C, [1,] K, F + 1)
        return found | {
            "C_": bring(np.full(len(names), C)),
            "l1_ratio_": bring(np.zeros(len(names))),
            "scores_": {name: bring(self.scores[axis]) for name in names},
            "coefs_paths_": {name: bring(paths[..., k, :]) for k, name in enumerate(names)},
            "n_iter_": bring(n_iter[None][axis]),
        }

    def _chosen(self) -> tuple[float, Floats, Floats]:
        """The chosen C, and the coefficients `(K, F)` and intercepts `(K,)`."""
        ranked = np.where(np.isnan(self.scores), -np.inf, self.scores)
        if self.refit:
            index = int(ranked.sum(axis=0).argmax())
            return float(self.Cs[index]), self.refits.coef[index], self.refits.intercept[index]
        best = ranked.argmax(axis=1)
        mean = _mean(self.weights[np.arange(len(best)), best])
        return float(self.Cs[best].mean()), mean[:, :-1], mean[:, -1]


def _mean(W: Floats) -> Floats:
    """The mean over folds of weights `(folds, K, F + 1)`, for each class over the folds that have rows of it."""
    there = np.isfinite(W[:, :, -1:])
    count = there.sum(axis=0)
    mean = np.where(there, W, 0.0).sum(axis=0) / np.maximum(count, 1)
    mean[:, -1] = np.where(count[:, 0] > 0, mean[:, -1], W[0, :, -1])
    return np.asarray(mean)
