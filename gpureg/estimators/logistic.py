"""`LogisticRegression`: one model, scikit-learn's way."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpureg.errors import GpuregWarning, UsageError
from gpureg.estimators.arrays import to_host
from gpureg.estimators.callbacks import Iterations, Tasks, with_callbacks
from gpureg.estimators.inputs import Samples
from gpureg.estimators.linear import FittedClassifier
from gpureg.estimators.parameters import UNSET, check_parameters, penalised
from gpureg.estimators.pieces import on_workers, read_any
from gpureg.estimators.solve import Audience, Batch, Solution, Weights, solve
from gpureg.estimators.telling import warn
from gpureg.types import Floats


class LogisticRegression(FittedClassifier):
    """Logistic regression for two classes, softmax regression for more, as scikit-learn defines both.

    Minimises `C Σ s_i loss_i + ½ Σ w²` over the weights w and a free intercept: loss_i the cross-entropy in nats, s_i
    the product of sample and class weights. In the terms of gpureg's commands, `λ = 1 / (2 C Σ s_i)`. A softmax of two
    classes (the commands' default) differs at the same C: its penalty counts w and -w, so it equals the logistic model
    at twice its C.

    Parameters
    ----------
    Those of scikit-learn 1.9, with its defaults unless stated otherwise, and two more.

    penalty : "l2"; None is C = inf. If not given (scikit-learn is about to drop it), it is "l2".
    C : strength of the data against the penalty, above 0; `inf` for no penalty.
    l1_ratio : 0: there is no L1 or elastic-net penalty.
    tol : default 1e-6: the objective, as a weighted mean, ends within tol² nats of its minimum. (scikit-learn's tol
        bounds a gradient, and the gap is proportional to its square.) At 1e-6 probabilities are within about 1e-5 of
        the optimum's, even if the penalty is strong.
    fit_intercept : whether there is an intercept; it is never penalised.
    class_weight : None, "balanced" or `{label: weight}`.
    max_iter : default 1000: maximum number of iterations; a fit that needs more warns with ConvergenceWarning. With 0
        the weights are those of the start.
    warm_start : begin at the last fit's weights. Saves time if little has changed; the answer is the same.
    solver : any of scikit-learn's names; the answer is the same. scikit-learn's "liblinear" penalises the intercept,
        which gpureg does not do: it warns with GpuregWarning.
    dual, intercept_scaling, random_state, verbose, n_jobs : accepted for compatibility; they change nothing.
    device : "auto" (the GPU, or the CPU if there is no GPU or little data), "cpu", "cuda" or "cuda:N".
    dtype : "float32" or "float64", of the results and the arithmetic (on the CPU few samples, and anywhere models
        that float32 can't bring to the tolerance, are computed in float64); None: the input's float type, else float64.

    Attributes
    ----------
    coef_ (K, F), intercept_ (K,) : the weights, K = 1 for two classes (positive: `classes_[1]`), arrays of X's kind.
    classes_ (K,) : the labels, sorted. n_iter_ (1,) : iterations, at least 1 if one is allowed. n_features_in_,
    feature_names_in_.

    X may be a NumPy array, a sparse matrix (fitted on the CPU), a data frame, or a CuPy or PyTorch array on any device.
    scikit-learn's callbacks (`set_callbacks`) see every iteration. Source: Hastie, Tibshirani and Friedman, The
    Elements of Statistical Learning, 2009, section 4.4.

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
        penalty: Any = UNSET,
        *,
        C: float = 1.0,
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 1000,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.device = device
        self.dtype = dtype

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit to rows `X (N, F)` with labels `y (N,)`, numbers or text, and weights `sample_weight (N,)`, default 1.

        A weight of 2 is the same as giving the row twice, and a weight of 0 as leaving it out; a class whose rows all
        weigh 0 gets the probability 0, with a GpuregWarning. Raises ValueError (UsageError) and TypeError for what
        can't be used; warns with ConvergenceWarning if the optimum was not reached, or if there is none.
        """
        check_parameters(self)
        C = penalised(self)
        samples = read_any(self, X, y, sample_weight, self.dtype)
        weights = samples.weights(self.class_weight)
        table = None if weights is None else weights[:, None]
        start = self._start(samples) if self.warm_start and hasattr(self, "coef_") else None
        zero = np.zeros(1, np.int64)
        batch = Batch(np.array([C]), table, zero, zero - 1, start)
        data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        tasks = Tasks(self, data, "iteration", max(self.max_iter, 1) + 1)
        with on_workers(self, samples) as there:
            found = self._solved(there, batch, tasks)
        _tell_of_missing(samples, found)
        self.classes_ = samples.label_home.bring(samples.classes)
        self.coef_, self.intercept_ = samples.bring((found.coef[0], found.intercept[0]))
        self.n_iter_ = samples.home.bring(found.n_iter.astype(np.int32))
        tasks.finish()
        return self

    def _solved(self, samples: Samples, batch: Batch, tasks: Tasks) -> Solution:
        """The batch's one model, whose iterations the callbacks see."""
        if not tasks.watched:
            return solve(self, samples, batch)

        def attributes(weights: Weights) -> dict[str, Any]:
            coef, intercept = samples.bring(weights)
            return {"classes_": classes, "coef_": coef, "intercept_": intercept}

        classes, K = samples.label_home.bring(samples.classes), 1 if samples.binary else len(samples.classes)
        first = np.zeros((K, samples.X.shape[1] + 1)) if batch.start is None else batch.start[0]
        iterations = Iterations(tasks, (first[:, :-1], first[:, -1]), attributes)
        found = solve(self, samples, batch, Audience(iterated=iterations.tell))
        iterations.close((found.coef[0], found.intercept[0]))
        return found

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the same weights and probabilities.

        Raises NotFittedError before fit.
        """
        return self._twin(np.inf if self.penalty is None else float(self.C))

    def _start(self, samples: Samples) -> Floats:
        """The weights of the last fit `(1, K, F + 1)`. Raises UsageError if their shape does not fit the data."""
        K = 1 if samples.binary else len(samples.classes)
        coef, intercept = self._dense(), to_host(self.intercept_)
        if coef.shape != (K, samples.X.shape[1]):
            raise UsageError(
                f"warm_start: the last fit left weights of the shape {coef.shape}, but these data need "
                f"({K}, {samples.X.shape[1]}). Clone the estimator, or set warm_start=False."
            )
        return np.concatenate([coef, intercept[:, None]], axis=1)[None].astype(np.float64)


def _tell_of_missing(samples: Samples, found: Solution) -> None:
    if not found.present.all():
        missing = ", ".join(repr(label) for label in samples.classes[~found.present[0]].tolist())
        warn(f"No sample of the class {missing} has weight: the model gives it the probability 0.", GpuregWarning)
