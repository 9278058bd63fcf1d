"""gpureg: logistic and softmax regression, a whole grid of λ trained as one batch, on the CPU or an NVIDIA GPU.

>>> import gpureg
>>> data = gpureg.load_dataset("digits")
>>> result = gpureg.fit(data, solver="lbfgs", l2=[1e-3, 1e-4, 1e-5])
>>> result.models[result.selected].l2
0.0001
>>> folder = result.save("runs/first")
>>> run = gpureg.load_run("runs/first")
>>> run.model.predict_proba(data.X_val).shape
(359, 10)

Names are imported when they are first used, so that importing gpureg takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpureg.version import __version__

if TYPE_CHECKING:
    from gpureg.data import Dataset, load_dataset, make_dataset
    from gpureg.errors import DataError, DeviceError, GpuregError, GpuregWarning, RunError, UsageError
    from gpureg.estimators import LogisticRegression, LogisticRegressionCV
    from gpureg.fitting.entry import fit
    from gpureg.fitting.grid import lambda_grid
    from gpureg.fitting.results import FitResult, ModelResult
    from gpureg.history import History
    from gpureg.model.linear import LinearModel
    from gpureg.model.metrics import Evaluation
    from gpureg.storage.directory import Run, load_run
    from gpureg.tracking import MLflowTracker, TensorBoardTracker

__all__ = [
    "DataError",
    "Dataset",
    "DeviceError",
    "Evaluation",
    "FitResult",
    "GpuregError",
    "GpuregWarning",
    "History",
    "LinearModel",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MLflowTracker",
    "ModelResult",
    "Run",
    "RunError",
    "TensorBoardTracker",
    "UsageError",
    "__version__",
    "fit",
    "lambda_grid",
    "load_dataset",
    "load_run",
    "make_dataset",
]


def _home(name: str) -> str:
    """The module that defines a public name."""
    if name in ("load_dataset", "make_dataset", "Dataset"):
        return "gpureg.data"
    if name in ("load_run", "Run"):
        return "gpureg.storage.directory"
    if name.endswith(("Error", "Warning")):
        return "gpureg.errors"
    return {
        "fit": "gpureg.fitting.entry",
        "lambda_grid": "gpureg.fitting.grid",
        "History": "gpureg.history",
        "LinearModel": "gpureg.model.linear",
        "Evaluation": "gpureg.model.metrics",
        "LogisticRegression": "gpureg.estimators",
        "LogisticRegressionCV": "gpureg.estimators",
        "MLflowTracker": "gpureg.tracking",
        "TensorBoardTracker": "gpureg.tracking",
        "FitResult": "gpureg.fitting.results",
        "ModelResult": "gpureg.fitting.results",
    }[name]


def __getattr__(name: str) -> Any:
    if name not in __all__ or name == "__version__":
        raise AttributeError(f"module 'gpureg' has no attribute {name!r}")
    value = getattr(import_module(_home(name)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
