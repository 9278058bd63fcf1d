"""`LogisticRegression`: one model, scikit-learn's way."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpureg.errors import GpuregWarning, UsageError
from gpureg.estimators.arrays import to_host
from gpureg.estimators.inputs import Samples, check_parameters, read_samples, strength
from gpureg.estimators.linear import FittedClassifier
from gpureg.estimators.solve import Batch, Solution, solve
from gpureg.types import Floats


class LogisticRegression(FittedClassifier):
    """Logistic regression for two classes, softmax regression for more, as scikit-learn defines both.

    Minimises `C Σ s_i loss_i + ½ Σ w²` over the weights w and a free intercept: loss_i the cross-entropy in nats, s_i
    the product of sample and class weights. In the terms of gpureg's commands that is `λ = 1 / (2 C Σ s_i)`. A softmax
    of two classes (the commands' default) is not this at the same C: it pays for w and -w, and so equals the logistic
    model of twice its C.

    Parameters
    ----------
    C : strength of the data against the penalty, above 0; `inf` for no penalty.
    tol : how near the optimum: the objective, as a weighted mean, ends within tol² nats of its least. (scikit-learn's
        bounds a gradient, whose square the gap goes with.) At 1e-6 probabilities are within about 1e-5 of the
        optimum's, also where the penalty is strong.
    max_iter : most iterations of the solver; one that needs more warns with ConvergenceWarning.
    fit_intercept : whether there is an intercept; it is never penalised.
    class_weight : None, "balanced" or `{label: weight}`.
    warm_start : begin at the last fit's weights. Saves time where little has changed; the answer is the same.
    random_state : taken for scikit-learn's sake; nothing is drawn.
    device : "auto" (the GPU, but the CPU where there is none or the data are few), "cpu", "cuda" or "cuda:N".
    dtype : "float32" or "float64", of the results and the arithmetic (for few data, and to finish what float32 can't
        bring to the tolerance, float64 in between); None: the input's float type, else float64.

    Attributes
    ----------
    coef_ (K, F), intercept_ (K,) : the weights, K = 1 for two classes (positive: `classes_[1]`), arrays of X's kind.
    classes_ (K,) : the labels, sorted. n_iter_ (1,) : iterations, at least 1. n_features_in_, feature_names_in_.

    X may be a NumPy array, a sparse matrix (fitted on the CPU), a data frame, or a CuPy or PyTorch array on any device.
    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section 4.4.

    >>> import gpureg
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
    >>> model = gpureg.LogisticRegression(C=10).fit(X, y)
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    >>> model.predict_proba([[3.0]]).round(2)
    array([[0.02, 0.98]])
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-6,
        max_iter: int = 1000,
        fit_intercept: bool = True,
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
        dtype: str | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit to rows `X (N, F)` with labels `y (N,)`, numbers or text, and weights `sample_weight (N,)`, default 1.

        A weight of 2 is the same as the row given twice, and one of 0 as the row left out; a class whose rows all weigh
        0 gets the probability 0, with a GpuregWarning. Raises ValueError (UsageError) and TypeError for what can't be
        used; warns with ConvergenceWarning where the optimum was not reached, or where there is none.
        """
        check_parameters(self)
        C = strength("C", self.C)
        samples = read_samples(self, X, y, sample_weight, self.dtype)
        weights = samples.weights(self.class_weight)
        table = None if weights is None else weights[:, None]
        start = self._start(samples) if self.warm_start and hasattr(self, "coef_") else None
        zero = np.zeros(1, np.int64)
        found = solve(self, samples, Batch(np.array([C]), table, zero, zero - 1, start))
        _tell_of_missing(samples, found)
        self._set_weights(found.coef[0], found.intercept[0], samples.home, samples.X.dtype)
        self.classes_ = samples.label_home.bring(samples.classes)
        self.n_iter_ = samples.home.bring(found.n_iter.astype(np.int32))
        return self

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the same weights and probabilities.

        Raises NotFittedError before fit.
        """
        return self._twin(float(self.C))

    def _start(self, samples: Samples) -> Floats:
        """The weights of the last fit `(1, K, F + 1)`. Raises UsageError where they are of other data."""
        K = 1 if samples.binary else len(samples.classes)
        coef, intercept = to_host(self.coef_), to_host(self.intercept_)
        if coef.shape != (K, samples.X.shape[1]):
            raise UsageError(
                f"warm_start: the last fit left weights of the shape {coef.shape}; these data want "
                f"({K}, {samples.X.shape[1]}). Clone the estimator, or set warm_start=False."
            )
        return np.concatenate([coef, intercept[:, None]], axis=1)[None].astype(np.float64)


def _tell_of_missing(samples: Samples, found: Solution) -> None:
    if not found.present.all():
        missing = ", ".join(repr(label) for label in samples.classes[~found.present[0]].tolist())
        warnings.warn(
            f"No sample of the class {missing} weighs anything: the model gives it the probability 0.",
            GpuregWarning,
            stacklevel=3,
        )
