"""`gpureg sweep-lambda`."""

from __future__ import annotations

from typing import Any

from gpureg.config import REPORT_LAMBDAS
from gpureg.errors import UsageError

from .options import SHARED, SWEEP, fit_config, merged, numbers, with_options


@with_options(*SHARED, *SWEEP)
def sweep_lambda(given: dict[str, Any]) -> None:
    """Fit a whole grid of λ, with its cross-validation, as one batch.

    Every λ (times learning rates, folds and seeds) is a few columns of one matrix product, and leaves it when it stops.
    """
    from .training import run_training

    values = merged(given, (*SHARED, *SWEEP))
    run_training(fit_config(values, **models(values)), values)


def models(values: dict[str, Any]) -> dict[str, Any]:
    """λ and learning rates out of the options; takes them from `values`. Raises UsageError where two exclude one another."""
    from gpureg.grid import lambda_grid

    for one, other in (("lambdas", "lambda_grid"), ("lr", "lrs")):
        if one in values and other in values:
            flags = ["--" + name.replace("_", "-") for name in (one, other)]
            raise UsageError(f"{flags[0]} and {flags[1]} were both given; give one of them.")
    chosen: dict[str, Any] = {"l2": REPORT_LAMBDAS}
    if "lambdas" in values:
        chosen["l2"] = numbers("--lambdas", values.pop("lambdas"))
    if "lambda_grid" in values:
        chosen["l2"] = lambda_grid(values.pop("lambda_grid"))
    if "lrs" in values:
        chosen["lr"] = numbers("--lrs", values.pop("lrs"))
    if "lr" in values:
        chosen["lr"] = (values.pop("lr"),)
    return chosen
