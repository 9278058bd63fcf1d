"""`gpureg sweep-lambda`."""

from __future__ import annotations

from typing import Any

from gpureg.config import REPORT_LAMBDAS
from gpureg.errors import UsageError

from .config_file import ALTERNATIVES, merged
from .option_table import SWEEP
from .options import with_options
from .values import configs, numbers


@with_options(*SWEEP)
def sweep_lambda(given: dict[str, Any]) -> None:
    """Fit a whole grid of λ, with its cross-validation, as one batch.

    Every λ (times learning rates, folds and seeds) is a few columns of one matrix product, and leaves it when it stops.
    """
    from .training import resume_training, run_training

    if "resume" in given:
        resume_training(given)
        return
    values = merged(given, SWEEP)
    run_training(*configs(values, **models(values)), values)


def models(values: dict[str, Any]) -> dict[str, Any]:
    """λ and learning rates, taken out of the options. Raises UsageError where both of two alternatives are given."""
    from gpureg.fitting.grid import lambda_grid

    for one, other in ALTERNATIVES:
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
