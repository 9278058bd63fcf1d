"""`LinearModel`: L trained linear classifiers with the scaling of their inputs and the names of their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpureg.data.encoding import Encoding
from gpureg.data.matching import Expected, NotFinite, not_finite, read_rows
from gpureg.data.sparse import Csr, all_finite, is_sparse
from gpureg.errors import UsageError, named
from gpureg.losses import Loss, loss_of

if TYPE_CHECKING:
    from gpureg.model.metrics import Evaluation

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BLOCK_BYTES = 1 << 20  # of float64 rows that are scaled at once: they stay in a core's cache
STORED = 1 << 20  # values of sparse rows that are copied at once
NEAR = 1e-3  # the largest relative distance between a model's λ and the λ that names it


@dataclass(frozen=True)
class LinearModel:
    """L linear classifiers that share their classes and the scaling of their inputs.

    Shapes: `coef (L, K, D)`, `intercept (L, K)`, `offset (D,)`, `scale (D,)`, `l2 (L,)`; D counts features, without the
    bias; K is the number of classes, 1 for the logistic task. Logits are `((x - offset) / scale) @ coef[l].T +
    intercept[l]`, in float64.
    `classes` is `(positive, negative)` for the logistic task. `selected` is the index of the chosen model, which the
    methods use unless another is named; None if none was chosen.

    `lr (L,)`, `seed (L,)` (-1: none) and `scores (L,)` (by `scored_by`; of a loss the lowest is the best, of all others
    the highest) distinguish models of the same λ; None if a run did not keep them. `total_weight` is S, the sum of
    sample x class weights that the models were trained with, so that `C = 1 / (2 λ S)`.
    `feature_names (D,)`, `image_shape` (height, width) and `target` (the label's column) are as in the training data,
    None if they had none; `index_base` is the number, 0 or 1, from which an svmlight file of them counted its indices,
    else None. `encoding` says how the columns of a table become the features; None: a column is a
    feature. `refit_of`: for a model that was fitted again to training and validation rows, the λ that was chosen, which
    had the same C on the training rows.
    """

    task: str | Loss
    classes: tuple[int | float | str, ...]
    coef: Floats
    intercept: Floats
    offset: Floats
    scale: Floats
    l2: Floats
    selected: int | None = 0
    lr: Floats | None = None
    seed: Ints | None = None
    scores: Floats | None = None
    scored_by: str = "loss"
    total_weight: float | None = None
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, int] | None = None
    target: str | None = None
    encoding: Encoding | None = None
    refit_of: float | None = None
    index_base: int | None = None

    @property
    def loss(self) -> Loss:
        """The loss that `task` names, or is."""
        return loss_of(self.task)

    @property
    def expected(self) -> Expected:
        """What it takes from the columns of data."""
        return Expected.of(self.coef.shape[2], self.feature_names, self.encoding, self.index_base)

    def decision_function(self, X: Any, model: int | None = None) -> Doubles:
        """Logits `(N, K)` of rows `X (N, D)` in the data's own units (they are scaled here).

        X is an array, a sparse matrix, images `(N, height, width)`, or a data frame (pandas, Polars, Arrow), whose
        columns are found by name if the model knows names: in any order, and extra ones are ignored. Raises UsageError
        for another number of features, for missing columns (it names them), for rows with NaN or infinite values (their
        number and the first place), and if the model diverged and has no finite weights.
        """
        return self.logits(read_rows(X, self.expected), model)

    def logits(
        self,
        rows: npt.NDArray[Any],
        model: int | None = None,
        where: str = "X",
        number: Callable[[int], int | str] = lambda row: row,
    ) -> Doubles:
        """Logits `(N, K)` of a matrix `rows (N, D)`; for messages `where` names the data and `number` numbers a row."""
        coef, intercept = self.weights(self.index(model))
        if is_sparse(rows):
            return self._of_sparse(rows, coef, intercept, where, number)
        weights = np.ascontiguousarray(coef.T, np.float64)
        logits = np.empty((len(rows), len(coef)))
        step = max(64, BLOCK_BYTES // (8 * max(1, coef.shape[1])))
        plain = not self.offset.any() and bool((self.scale == 1).all())
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            scaled = block.astype(np.float64, copy=False) if plain else self._scaled(block)
            if not self._usable(scaled):
                raise not_finite(NotFinite.among(rows, start, number), self.expected, where)
            np.matmul(scaled, weights, out=logits[start : start + step])
        logits += intercept
        return logits

    def _of_sparse(
        self, rows: Csr, coef: Floats, intercept: Floats, where: str, number: Callable[[int], int | str]
    ) -> Doubles:
        """Logits of CSR rows, with the scaling folded into the weights; as many rows at once as in `logits`."""
        if not all_finite(rows):
            raise not_finite(NotFinite.of_sparse(rows, number), self.expected, where)
        weights = np.ascontiguousarray((coef / self.scale).T, np.float64)
        logits = np.empty((rows.shape[0], len(coef)))
        step = max(1, STORED * rows.shape[0] // max(1, rows.nnz))
        for start in range(0, rows.shape[0], step):
            logits[start : start + step] = rows[start : start + step].astype(np.float64) @ weights
        logits += intercept - self.offset @ weights
        return logits

    def predict_proba(self, X: Any, model: int | None = None) -> Doubles:
        """Probabilities `(N, number of classes)`, columns in the order of `classes`; X as in `decision_function`.

        Softmax: `exp(z_k) / Σ_j exp(z_j)`. Logistic: `1 / (1 + exp(-z))` for the positive class, and its complement.

        >>> import gpureg
        >>> data = gpureg.load_dataset("digits", task="logistic", classes=[3, 8])
        >>> model = gpureg.fit(data, task="logistic", solver="lbfgs", l2=1e-3).model
        >>> model.classes  # positive, negative: the order of the columns
        (3, 8)
        >>> model.predict_proba(data.X_val[data.y_val == 0]).mean(axis=0).round(1)
        array([1., 0.])
        """
        return np.asarray(self.loss.probabilities(np, self.decision_function(X, model)))

    def predict_log_proba(self, X: Any, model: int | None = None) -> Doubles:
        """Logarithms of the probabilities `(N, number of classes)`, in nats; accurate even if these are tiny."""
        return np.asarray(self.loss.log_probabilities(np, self.decision_function(X, model)))

    def predict(self, X: Any, model: int | None = None) -> npt.NDArray[np.generic]:
        """Labels `(N,)`: the most probable class, the first on a tie; logistic: positive if its probability exceeds ½.

        None for a row that training would have left out for a missing value; its probabilities are NaN.
        """
        logits = self.decision_function(X, model)
        labels = np.asarray(self.classes)[self.loss.predict(np, logits)]
        absent = np.isnan(logits).any(axis=1) if self.expected.leaves_out else np.zeros(0, bool)
        if absent.any():
            labels = labels.astype(object)
            labels[absent] = None
        return labels

    def score(self, X: Any, y: Any, sample_weight: Any = None, model: int | None = None) -> float:
        """The share of rows whose label `y (N,)` is predicted correctly, weighted by `sample_weight (N,)`.

        Raises UsageError as `evaluate` does.
        """
        return self.evaluate(X, y, sample_weight, model=model).accuracy

    def evaluate(
        self, X: Any, y: Any, sample_weight: Any = None, *, model: int | None = None, bootstrap: int = 0, seed: int = 0
    ) -> Evaluation:
        """Metrics on labelled rows: losses in nats, accuracies, ROC AUC, calibration, per class, confusion matrix.

        `y (N,)` labels as in `classes`; `sample_weight (N,)`: the metrics are weighted by them. `bootstrap`: number of
        resamples of the rows, by `seed`, for 95% intervals. Raises UsageError as `decision_function` does, and for
        labels that are none of the model's classes, with their number.
        """
        from gpureg.model.evaluation import evaluate

        return evaluate(self, X, y, sample_weight, index=model, bootstrap=bootstrap, seed=seed)

    def to_sklearn(self, model: int | None = None) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the probabilities of one model.

        Its classes are sorted, as scikit-learn's are, and it takes rows in the data's own units: the scaling is folded
        into its weights. Its C is `1 / (2 λ S)`, S the sum of the training weights (a softmax of two classes is
        scikit-learn's binary model at `2 C`); scikit-learn's default if S is not known. Raises UsageError if the model
        diverged, and for one with an `encoding` (words, missing values, columns chosen by number): an estimator takes
        finite numbers, all of them. `model.encoding` says what a pipeline before it would have to do.

        >>> import gpureg
        >>> data = gpureg.load_dataset("digits")
        >>> model = gpureg.fit(data, solver="lbfgs", l2=1e-4, dtype="float64").model
        >>> estimator = model.to_sklearn()
        >>> bool(abs(estimator.predict_proba(data.X_val) - model.predict_proba(data.X_val)).max() < 1e-9)
        True
        """
        from gpureg.model.to_sklearn import to_sklearn

        if self.encoding is not None:
            raise UsageError(
                "The columns of this model's data are encoded (words, missing values, or columns chosen by number), "
                "which scikit-learn's LogisticRegression does not do. Use predict_proba of this model, or to_onnx."
            )
        number = self.index(model)
        coef, intercept = self.weights(number)
        C, l2 = 1.0, float(self.l2[number])
        if self.total_weight is not None:
            C = 1 / (2 * l2 * self.total_weight) if l2 else float("inf")
            C *= 2 if len(coef) == 2 else 1
        twin = to_sklearn(self.classes, coef, intercept, offset=self.offset, scale=self.scale, C=C)
        if self.feature_names is not None:
            twin.feature_names_in_ = np.asarray(self.feature_names, object)
        return twin

    def to_onnx(self, path: str | Path, model: int | None = None) -> Path:
        """Write one model as ONNX: input `X (N, D)`, outputs `label (N,)` and `probabilities (N, number of classes)`.

        If the training table had columns of words, each of its columns is an input `(N, 1)` of the column's name
        (`(N, k)` for lists of length k): strings for words, of which the empty one is missing, else numbers. A row that
        training would have left out gets NaN as its probabilities, and a meaningless label.

        X is float32, or float64 if rounding it to float32 could cost more than 1e-6 of a probability. Needs the package
        onnx (`pip install 'gpureg[onnx]'`). Raises UsageError if that is missing, the model diverged, or `path` can't
        be written.
        """
        from gpureg.model.onnx import write_onnx

        return write_onnx(self, Path(path), self.index(model))

    def index(self, model: int | None = None) -> int:
        """The index of a model, of the chosen one for None. Raises UsageError if there is none."""
        count = len(self.coef)
        if model is None:
            if self.selected is None and count > 1:
                raise UsageError(
                    f"None of the {count} models was chosen: there were no validation rows or folds, or all "
                    f"diverged. Name one, model=0 to model={count - 1} (λ = {self.lambdas()})."
                )
            return self.selected or 0
        if isinstance(model, bool) or not -count <= model < count:
            raise UsageError(f"model is {model!r}; expected a whole number from 0 to {count - 1}.")
        return int(model) % count

    def index_of(self, l2: float) -> int:
        """The index of the model whose λ is nearest to `l2`, within 0.1%.

        Among several with that λ it is the best by the score, the first on a tie; models without weights come last.
        Raises UsageError, with the list of λ, if none is near.
        """
        distance = np.abs(self.l2 - l2)
        nearest = float(self.l2[int(np.argmin(distance))])
        if not abs(nearest - l2) <= NEAR * nearest:
            raise UsageError(
                f"{named('l2', l2)}: this run has no model within 0.1% of that λ; it has {self.lambdas()}."
            )
        there = np.flatnonzero(self.l2 == nearest)
        scores = np.zeros(len(self.l2)) if self.scores is None else np.asarray(self.scores, np.float64)
        costs = np.where(np.isfinite(scores), scores if self.scored_by == "loss" else -scores, np.inf)
        costs = np.where(np.isfinite(self.coef).all(axis=(1, 2)), costs, np.nan)  # which sorts last
        return int(there[np.argsort(costs[there], kind="stable")[0]])

    def lambdas(self, most: int = 20) -> str:
        """The λ of its models, for a message."""
        from gpureg.data.labels import listed

        return listed([f"{value:.6g}" for value in dict.fromkeys(self.l2.tolist())], most)

    def _scaled(self, block: npt.NDArray[Any]) -> Doubles:
        # as in training: features far from 0 keep their digits
        scaled: Doubles = np.subtract(block, self.offset, dtype=np.float64)
        scaled /= self.scale
        return scaled

    def _usable(self, scaled: Doubles) -> bool:
        """Whether all values are finite, but for those of rows that training would have left out."""
        finite = np.isfinite(scaled)
        return bool(finite.all()) or (self.expected.leaves_out and bool(finite[~np.isnan(scaled).any(axis=1)].all()))

    def weights(self, index: int) -> tuple[Floats, Floats]:
        """Weights `(K, D)` and intercepts `(K,)` of a model. Raises UsageError if it diverged."""
        coef, intercept = self.coef[index], self.intercept[index]
        if not np.isfinite(coef).all():
            raise UsageError(
                f"Model {index} (λ = {float(self.l2[index]):g}) diverged and has no weights; name another model or "
                "train it with a smaller learning rate."
            )
        return coef, intercept

    def __repr__(self) -> str:
        """A table of a few lines: what it takes, and its models."""
        from gpureg.model.summary import table

        return table(self)
