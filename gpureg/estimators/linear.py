"""What both estimators do once they are fitted: logits, probabilities, labels, scores."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from gpureg.data.collections import is_dask
from gpureg.data.sparse import is_sparse
from gpureg.estimators.arrays import HOST, Home, home_of, memory_explained, to_host
from gpureg.estimators.callbacks import CallbackSupportMixin
from gpureg.estimators.inputs import fitted_home, read_rows
from gpureg.estimators.pieces import Logits, predicted
from gpureg.model.to_sklearn import to_sklearn
from gpureg.types import Array


class FittedClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """A linear classifier with `coef_ (K, F)`, `intercept_ (K,)`, `classes_`; K = 1 for two classes.

    Results are in the namespace and on the device of the X that they are computed for; the weights are copied there. Of
    a Dask array or data frame they are Dask arrays, computed partition by partition when they are asked for.
    """

    classes_: Any
    coef_: Any
    intercept_: Any

    @memory_explained()
    def decision_function(self, X: Any) -> Array:
        """Logits `X coef_' + intercept_`: `(N,)` for two classes (above 0: `classes_[1]`), else `(N, K)`.

        Raises ValueError if X does not match the data that the estimator was trained on.
        """
        if is_dask(X):
            return predicted(self, "decision_function", X)
        logits, _ = self._logits(X, "decision_function")
        return logits[:, 0] if logits.shape[1] == 1 else logits

    @memory_explained()
    def predict(self, X: Any) -> Array:
        """Labels `(N,)`: the most probable class, the first on a tie; text labels as a NumPy array."""
        if is_dask(X):
            return predicted(self, "predict", X)
        logits, home = self._logits(X, "predict")
        xp = home.xp
        index = xp.astype(logits[:, 0] > 0, xp.int64) if logits.shape[1] == 1 else xp.argmax(logits, axis=1)
        classes = to_host(self.classes_)
        if home.host or classes.dtype.kind not in "biuf":
            return classes[to_host(index)]
        return xp.take(home.bring(classes), index, axis=0)

    @memory_explained()
    def predict_proba(self, X: Any) -> Array:
        """Probabilities `(N, K)`, columns as `classes_`: `exp(z_k) / Σ_j exp(z_j)`, for two classes with z = (0, z)."""
        if is_dask(X):
            return predicted(self, "predict_proba", X)
        shifted, total, home = self._shifted(X, "predict_proba")
        return home.xp.exp(shifted) / total

    @memory_explained()
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, `(N, K)` in nats: `z_k - log Σ_j exp(z_j)`, accurate even if tiny."""
        if is_dask(X):
            return predicted(self, "predict_log_proba", X)
        shifted, total, home = self._shifted(X, "predict_log_proba")
        return shifted - home.xp.log(total)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose label is predicted correctly, weighted by `sample_weight (N,)` if given."""
        predicted = to_host(self.predict(X))
        return float(accuracy_score(to_host(y), predicted, sample_weight=to_host(sample_weight)))

    def sparsify(self) -> Any:
        """Make `coef_` a SciPy CSR matrix, which takes less memory if most weights are 0; returns the estimator.

        Predictions are as before. Arrays on a device are copied to the host. Raises NotFittedError before fit.
        """
        from scipy.sparse import csr_matrix

        check_is_fitted(self)
        for name, value in vars(self).items():
            setattr(self, name, to_host(value))
        self.coef_ = csr_matrix(self._dense())
        return self

    def densify(self) -> Any:
        """Make `coef_` a NumPy array again after `sparsify`; returns the estimator.

        Raises NotFittedError before fit.
        """
        check_is_fitted(self)
        if self._sparse:
            self.coef_ = self._dense()
        return self

    @property
    def _sparse(self) -> bool:
        """Whether `coef_` is sparse."""
        return hasattr(self.coef_, "toarray")

    def _dense(self) -> npt.NDArray[Any]:
        """`coef_ (K, F)` on the host."""
        return np.asarray(self.coef_.toarray() if self._sparse else to_host(self.coef_))

    def _logits(self, X: Any, method: str) -> tuple[Array, Home]:
        """Logits `(N, K)` and whose arrays they are."""
        check_is_fitted(self)
        if isinstance(X, Logits):
            return X.values, HOST
        home, own = home_of(X), fitted_home(self)
        coef, intercept = self.coef_, self.intercept_
        if not home.same(own):
            if get_config()["array_api_dispatch"]:  # then scikit-learn's estimators ask for it, and so do its checks
                raise ValueError(
                    f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same "
                    f"device as those passed to fit(): it was fitted with {own}, but X is {home}."
                )
            coef, intercept = home.bring(self._dense()), home.bring(to_host(intercept))
        rows = read_rows(self, X, home)
        xp = home.xp
        if self._sparse and home.host:
            logits = rows @ coef.T
            return (logits.toarray() if hasattr(logits, "toarray") else logits) + intercept, home
        if rows.dtype != coef.dtype:
            wider = xp.result_type(rows.dtype, coef.dtype)
            coef, intercept = xp.astype(coef, wider), xp.astype(intercept, wider)
            rows = rows.astype(wider) if is_sparse(rows) else xp.astype(rows, wider)
        if is_sparse(rows):
            return rows @ np.ascontiguousarray(coef.T) + intercept, home
        return xp.matmul(rows, xp.matrix_transpose(coef)) + intercept, home

    def _shifted(self, X: Any, method: str) -> tuple[Array, Array, Home]:
        """Logits less their largest `(N, K)`, two columns for two classes, and `Σ exp` of them `(N, 1)`.

        No positive number is ever exponentiated.
        """
        logits, home = self._logits(X, method)
        xp = home.xp
        if logits.shape[1] == 1:  # of (0, z), also where z is infinite
            zero, above = xp.zeros_like(logits), logits > 0
            shifted = xp.concat([xp.where(above, -logits, zero), xp.where(above, zero, logits)], axis=1)
        else:
            shifted = logits - xp.max(logits, axis=1, keepdims=True)
        return shifted, xp.sum(xp.exp(shifted), axis=1, keepdims=True), home

    def _on_host(self) -> Any:
        """This estimator with NumPy's arrays: itself, or a copy."""
        if fitted_home(self).host:
            return self
        twin = copy(self)
        for name, value in vars(self).items():
            setattr(twin, name, to_host(value))
        return twin

    def _twin(self, C: float) -> Any:
        """A fitted scikit-learn estimator with these weights, and `C` as its parameter."""
        check_is_fitted(self)
        own = self._on_host()
        coef = own._dense()
        names = own.classes_[::-1] if len(coef) == 1 else own.classes_  # (positive, negative)
        free = bool(own.fit_intercept)
        twin = to_sklearn(names, coef, own.intercept_, C=C, fit_intercept=free)
        twin.set_params(class_weight=own.class_weight, random_state=own.random_state)
        if hasattr(own, "feature_names_in_"):
            twin.feature_names_in_ = own.feature_names_in_
        twin.n_iter_ = np.array([np.max(own.n_iter_)], np.int32)
        return twin

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        return tags
