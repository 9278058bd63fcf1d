"""scikit-learn's own classes with newton-cholesky at a tolerance of 1e-13, whatever is asked for."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression as _Regression
from sklearn.linear_model import LogisticRegressionCV as _RegressionCV

EXACT = {"solver": "newton-cholesky", "tol": 1e-13, "max_iter": 1000}


class LogisticRegression(_Regression):
    """Its `LogisticRegression`, at its optimum."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """As there, but for solver, tolerance and iterations."""
        asked = {name: getattr(self, name) for name in EXACT}
        vars(self).update(EXACT)
        try:
            return super().fit(X, y, sample_weight)
        finally:
            vars(self).update(asked)


class LogisticRegressionCV(_RegressionCV):
    """Its `LogisticRegressionCV`, at its optimum."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Any:
        """As there, but for solver, tolerance and iterations."""
        asked = {name: getattr(self, name) for name in EXACT}
        vars(self).update(EXACT)
        try:
            return super().fit(X, y, sample_weight, **params)
        finally:
            vars(self).update(asked)


CLASSES = {"LogisticRegression": LogisticRegression, "LogisticRegressionCV": LogisticRegressionCV}
