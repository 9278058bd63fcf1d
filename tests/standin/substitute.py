"""A pytest plugin: scikit-learn's tests, as they are installed, with other classes in the place of its own two.

`GPUREG_STANDIN` names them: `ours`; `exact`, scikit-learn's own with newton-cholesky at a tolerance of 1e-13, which
tells what holds of any fit from what holds of one that stops early; or `theirs`, which changes nothing. What became of
each test is written to `GPUREG_STANDIN_REPORT` as JSON: `{id: [outcome, text]}`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

NAMES = ("LogisticRegression", "LogisticRegressionCV")
OUTCOMES: dict[str, tuple[str, str]] = {}


def classes(which: str) -> Mapping[str, Any]:
    """The classes by name."""
    if which == "theirs":
        return {}
    if which == "ours":
        import gpureg

        return {name: getattr(gpureg, name) for name in NAMES}
    from standin.exact import CLASSES

    return CLASSES


def substitute(found: Mapping[str, Any]) -> None:
    """Put the classes in the place of scikit-learn's, wherever a module of it has them by now."""
    from sklearn.linear_model import _logistic

    theirs = {getattr(_logistic, name): name for name in NAMES}
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] == "sklearn"]:
        for key, value in list(vars(module).items()):
            name = theirs.get(value) if isinstance(value, type) else None
            if name in found:
                setattr(module, key, found[name])


class NoCupy(MetaPathFinder):
    """Finds no CuPy: scikit-learn's tests fail where CuPy has no device, and skip where it is not installed."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Raises ModuleNotFoundError for CuPy."""
        if fullname.split(".")[0] == "cupy":
            raise ModuleNotFoundError("there is no device", name=fullname)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests whose ids are in the file `GPUREG_STANDIN_ONLY`, one a line."""
    path = os.environ.get("GPUREG_STANDIN_ONLY")
    if path:
        kept = set(Path(path).read_text(encoding="utf-8").splitlines())
        config.hook.pytest_deselected(items=[item for item in items if own_id(item.nodeid) not in kept])
        items[:] = [item for item in items if own_id(item.nodeid) in kept]


def own_id(nodeid: str) -> str:
    """A test's id as of scikit-learn's folder."""
    path, colons, name = nodeid.partition("::")
    return path.rpartition("sklearn/")[2] + colons + name


def pytest_runtest_logreport(report: Any) -> None:
    """Keep what became of a test; what fails in any part of it has failed."""
    tells = report.when == "call" or report.skipped
    if report.failed or (tells and own_id(report.nodeid) not in OUTCOMES):
        OUTCOMES[own_id(report.nodeid)] = (report.outcome, report.longreprtext if report.failed else "")


def pytest_sessionfinish() -> None:
    """Write the report."""
    path = os.environ.get("GPUREG_STANDIN_REPORT")
    if path:
        Path(path).write_text(json.dumps(OUTCOMES), encoding="utf-8")


if "GPUREG_STANDIN" in os.environ:  # as a plugin, before pytest imports the tests
    if "GPUREG_STANDIN_NO_CUPY" in os.environ:
        sys.meta_path.insert(0, NoCupy())
    substitute(classes(os.environ["GPUREG_STANDIN"]))
