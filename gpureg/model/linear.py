"""`LinearModel`: L trained linear classifiers with the scaling of their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.errors import UsageError
from gpureg.losses import Loss, loss_of

Floats = npt.NDArray[np.floating]
ROWS_AT_ONCE = 4096  # that are in float64 beside the data


@dataclass(frozen=True)
class LinearModel:
    """L linear classifiers that share their classes and the scaling of their inputs.

    Shapes: `coef (L, K, D)`, `intercept (L, K)`, `offset (D,)`, `scale (D,)`, `l2 (L,)`; D counts features, without the
    bias; K is the number of classes, 1 for the logistic task. Logits are `((x - offset) / scale) @ coef[l].T +
    intercept[l]`.
    `classes` is `(positive, negative)` for the logistic task. `selected` is the index of the chosen model, which the
    methods use if no other is named; None if none was chosen.
    """

    task: str | Loss
    classes: tuple[int | float | str, ...]
    coef: Floats
    intercept: Floats
    offset: Floats
    scale: Floats
    l2: Floats
    selected: int | None = 0

    @property
    def loss(self) -> Loss:
        """The loss that `task` names, or is."""
        return loss_of(self.task)

    def decision_function(self, X: npt.ArrayLike, model: int | None = None) -> Floats:
        """Logits `(N, K)` of rows `X (N, D)` in the data's own units (they are scaled here).

        Raises UsageError where X has another number of features, or the model diverged and has no finite weights.
        """
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.coef.shape[2]:
            raise UsageError(
                f"X has the shape {rows.shape}; expected (rows, {self.coef.shape[2]}), the features that this model "
                "was trained on."
            )
        coef, intercept = self._weights(model)
        logits = np.empty((len(rows), len(coef)), coef.dtype)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            # as in training: scaled in float64, which features far from 0 need, and rounded once
            scaled = np.subtract(rows[start : start + ROWS_AT_ONCE], self.offset, dtype=np.float64) / self.scale
            logits[start : start + ROWS_AT_ONCE] = scaled.astype(coef.dtype, copy=False) @ coef.T + intercept
        return logits

    def predict_proba(self, X: npt.ArrayLike, model: int | None = None) -> Floats:
        """Probabilities `(N, number of classes)`, columns in the order of `classes`.

        Softmax: `exp(z_k) / Σ_j exp(z_j)`. Logistic: `1 / (1 + exp(-z))` for the positive class, its complement for the
        other.

        >>> import gpureg
        >>> data = gpureg.load_dataset("digits", task="logistic", classes=[3, 8])
        >>> model = gpureg.fit(data, task="logistic", solver="lbfgs", l2=1e-3).model
        >>> model.classes  # positive, negative: the order of the columns
        (3, 8)
        >>> model.predict_proba(data.X_val[data.y_val == 0]).mean(axis=0).round(1)
        array([1., 0.], dtype=float32)
        """
        return np.asarray(self.loss.probabilities(np, self.decision_function(X, model)))

    def predict(self, X: npt.ArrayLike, model: int | None = None) -> npt.NDArray[np.generic]:
        """Labels `(N,)`: the most probable class, the first on a tie; logistic: positive where its probability
        exceeds ½."""
        return np.asarray(self.classes)[self.loss.predict(np, self.decision_function(X, model))]

    def to_sklearn(self, model: int | None = None) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the probabilities of one model.

        Its classes are sorted, as scikit-learn's are, and it takes rows in the data's own units: the scaling is folded
        into its weights. Its C is scikit-learn's default; the one that these weights belong to, `1 / (2 λ Σ s_i)`,
        depends on the number of training rows. Raises UsageError if the model diverged.

        >>> import gpureg
        >>> data = gpureg.load_dataset("digits")
        >>> model = gpureg.fit(data, solver="lbfgs", l2=1e-4, dtype="float64").model
        >>> estimator = model.to_sklearn()
        >>> bool(abs(estimator.predict_proba(data.X_val) - model.predict_proba(data.X_val)).max() < 1e-9)
        True
        """
        from gpureg.model.to_sklearn import to_sklearn

        coef, intercept = self._weights(model)
        return to_sklearn(self.classes, coef, intercept, offset=self.offset, scale=self.scale)

    def _weights(self, model: int | None) -> tuple[Floats, Floats]:
        """Weights `(K, D)` and intercepts `(K,)` of a model, None for the chosen one.

        Raises UsageError if none was chosen, or it diverged.
        """
        index = self.selected if model is None else model
        if index is None:
            raise UsageError(
                f"None of the {len(self.l2)} models was chosen: there were no validation rows and no folds, or all "
                f"diverged. Name one, model=0 to model={len(self.l2) - 1} (λ = "
                f"{', '.join(f'{l2:g}' for l2 in self.l2[:8])}{', ...' if len(self.l2) > 8 else ''})."
            )
        coef, intercept = self.coef[index], self.intercept[index]
        if not np.isfinite(coef).all():
            raise UsageError(
                f"Model {index} (λ = {float(self.l2[index]):g}) diverged and has no weights; name another model or "
                "train it with a smaller learning rate."
            )
        return coef, intercept
