"""The parameters of scikit-learn's estimators, checked: those that are used, change nothing here, or are refused."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from gpureg.backend import parse_device
from gpureg.config import CLASS_WEIGHTS, DTYPES
from gpureg.errors import GpuregWarning, UsageError
from gpureg.estimators.telling import warn
from gpureg.types import Floats

SOLVERS = ("lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")
UNSET = "deprecated"  # scikit-learn's value of a `penalty` that was not given
OLD = "warn"  # and a parameter whose default is about to change
MOST_CS = 100_000  # that a grid is made of
ONLY_L2 = "gpureg has only the L2 penalty; scikit-learn's solver='saga' has L1 and elastic net"

# The names of parameters, what they may be, and that in words.
_Rule = tuple[tuple[str, ...], Callable[[Any], bool], str]


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def _flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _float_type(value: Any) -> bool:
    try:
        return value is None or np.dtype(value).name in DTYPES
    except TypeError:
        return False


RULES: tuple[_Rule, ...] = (
    (("tol",), lambda v: _number(v) and 0.0 <= float(v) < math.inf, "a finite number of at least 0"),
    (("max_iter",), lambda v: _whole(v) and v >= 0, "a whole number of at least 0"),
    (("fit_intercept", "dual", "warm_start", "refit"), _flag, "True or False"),
    (("use_legacy_attributes",), lambda v: _flag(v) or _is(v, OLD), "True or False"),
    (
        ("class_weight",),
        lambda v: v is None or isinstance(v, dict) or (isinstance(v, str) and v in CLASS_WEIGHTS),
        "None, 'balanced' or a dict of label: weight",
    ),
    (("solver",), lambda v: isinstance(v, str) and v in SOLVERS, f"one of {', '.join(SOLVERS)}"),
    (
        ("intercept_scaling",),
        lambda v: _number(v) and 0.0 < float(v) < math.inf,
        "a finite number above 0 (it changes nothing here: the intercept is not penalised)",
    ),
    (("verbose",), lambda v: _flag(v) or (_whole(v) and v >= 0), "a whole number of at least 0"),
    (("n_jobs",), lambda v: v is None or _whole(v), "None or a whole number"),
    (("dtype",), _float_type, "None (the input's), 'float32' or 'float64'"),
)


def check_parameters(estimator: Any) -> None:
    """The parameters that do not say what is penalised. Raises UsageError (ValueError).

    Warns with GpuregWarning if scikit-learn would penalise the intercept.
    """
    for names, allowed, expected in RULES:
        for name in names:
            value = getattr(estimator, name, None)
            if hasattr(estimator, name) and not allowed(value):
                raise UsageError(f"{name} is {value!r}; expected {expected}.")
    check_random_state(estimator.random_state)
    parse_device(str(estimator.device))
    liblinear = _is(estimator.solver, "liblinear")
    if estimator.dual and not liblinear:
        raise UsageError(
            f"dual is True with solver={estimator.solver!r}; expected False (only solver='liblinear' has a dual form, "
            "with the same optimum)."
        )
    if estimator.fit_intercept and (liblinear or estimator.intercept_scaling != 1):
        given = "solver='liblinear'" if liblinear else f"intercept_scaling={estimator.intercept_scaling:g}"
        warn(
            f"{given}: scikit-learn's liblinear penalises the intercept, but gpureg does not; results differ if the "
            "intercept matters. Leave solver and intercept_scaling at their defaults.",
            GpuregWarning,
        )


def penalised(estimator: Any) -> float:
    """The C of a `LogisticRegression`: infinity without a penalty. Raises UsageError for any penalty but L2.

    Warns with GpuregWarning if `penalty` and another parameter contradict each other; then `penalty` decides.
    """
    C = strength("C", estimator.C)
    if estimator.penalty is None:
        if C != 1.0:
            warn(f"Setting penalty=None will ignore the C that is given, {C:g}; leave one of them out.", GpuregWarning)
        return math.inf
    _check_penalty(estimator.penalty, "l1_ratio", (estimator.l1_ratio,))
    return C


def grid(estimator: Any) -> Floats:
    """The values of C `(C,)` of a `LogisticRegressionCV`. Raises UsageError, also for any penalty but L2."""
    ratios = estimator.l1_ratios
    if ratios is None or _is(ratios, OLD):
        ratios = (None,)
    elif isinstance(ratios, str) or np.ndim(ratios) != 1 or len(ratios) != 1:
        raise UsageError(f"l1_ratios is {ratios!r}; expected (0,): {ONLY_L2}.")
    if estimator.penalty is None:
        raise UsageError("penalty is None; expected 'l2', or float('inf') among Cs for no penalty.")
    _check_penalty(estimator.penalty, "l1_ratios", tuple(ratios))
    if _whole(estimator.Cs):
        if not 1 <= estimator.Cs <= MOST_CS:
            raise UsageError(f"Cs is {estimator.Cs!r}; expected a number from 1 to {MOST_CS:,}, or a list of values.")
        return np.logspace(-4, 4, int(estimator.Cs))
    Cs = [strength("Cs", value) for value in np.asarray(estimator.Cs).reshape(-1).tolist()]
    if not Cs:
        raise UsageError("Cs is empty; expected at least one value.")
    return np.asarray(Cs)


def strength(name: str, value: Any) -> float:
    """A value of C: above 0, infinity for no penalty. Raises UsageError."""
    if not _number(value) or not float(value) > 0:
        raise UsageError(f"{name} is {value!r}; expected a number above 0 (float('inf') for no penalty).")
    return float(value)


def is_legacy(estimator: Any) -> bool:
    """Whether the attributes of a `LogisticRegressionCV` have scikit-learn's old form."""
    return _is(estimator.use_legacy_attributes, OLD) or bool(estimator.use_legacy_attributes)


def has_ratios(estimator: Any) -> bool:
    """Whether those old attributes have the axis of l1 ratios."""
    return estimator.l1_ratios is not None and not _is(estimator.l1_ratios, OLD)


def scoring_of(estimator: Any) -> Any:
    """The `scoring` of a `LogisticRegressionCV`; what scikit-learn's old default stands for is accuracy."""
    return None if _is(estimator.scoring, OLD) else estimator.scoring


def _check_penalty(penalty: Any, name: str, ratios: tuple[Any, ...]) -> None:
    """Raises UsageError for a penalty other than L2, or for a share of L1; `name` is what the `ratios` are called."""
    if not isinstance(penalty, str) or penalty not in ("l1", "l2", "elasticnet", UNSET):
        raise UsageError(f"penalty is {penalty!r}; expected 'l2', or None for no penalty.")
    given = ratios[0]
    if given is not None and (not _number(given) or not 0.0 <= float(given) <= 1.0):
        raise UsageError(f"{name} has {given!r}; expected 0: {ONLY_L2}.")
    if penalty == "elasticnet" and given is None:
        raise UsageError(f"penalty is 'elasticnet' without {name}; expected penalty='l2': {ONLY_L2}.")
    if penalty == "l1" or (penalty != "l2" and given):
        told = f"{name} is {given!r}" if given else f"penalty is {penalty!r}"
        raise UsageError(f"{told}; expected {'0' if given else repr('l2')}: {ONLY_L2}.")
    if given:
        warn(f"Inconsistent values: penalty={penalty} with {name}={given}; the penalty is only L2.", GpuregWarning)


def _is(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text
