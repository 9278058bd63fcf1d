"""scikit-learn's interface: estimators that stand in for its `LogisticRegression` and `LogisticRegressionCV`.

They are thin: what is given is read and checked here, and solved by gpureg's batched L-BFGS. Importing this package
imports scikit-learn.
"""

from gpureg.estimators.logistic import LogisticRegression
from gpureg.estimators.logistic_cv import LogisticRegressionCV
from gpureg.estimators.onnx import register_with_skl2onnx

__all__ = ["LogisticRegression", "LogisticRegressionCV"]

register_with_skl2onnx(LogisticRegression, LogisticRegressionCV)
