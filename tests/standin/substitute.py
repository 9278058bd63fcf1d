"""A pytest plugin: scikit-learn's tests, as they are installed, with other classes in the place of its own two.

`GPUREG_STANDIN` names them: `ours`, or `exact`, scikit-learn's own with newton-cholesky at a tolerance of 1e-13, which
tells the tests that hold of any fit from those that hold of one that stops early. `none` changes nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

NAMES = ("LogisticRegression", "LogisticRegressionCV")


def classes(which: str) -> dict[str, Any]:
    """The classes by name."""
    if which == "none":
        return {}
    if which == "ours":
        import gpureg

        return {name: getattr(gpureg, name) for name in NAMES}
    from exact import CLASSES

    return dict(CLASSES)


def substitute(which: str) -> None:
    """Put the classes in the place of scikit-learn's, wherever a module of it has them."""
    from sklearn.linear_model import _logistic

    theirs = {getattr(_logistic, name): name for name in NAMES}
    found = classes(which)
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "sklearn"]:
        for key, value in list(vars(module).items()):
            name = theirs.get(value) if isinstance(value, type) else None
            if name in found:
                setattr(module, key, found[name])


substitute(os.environ.get("GPUREG_STANDIN", "none"))
