"""`gpureg sweep-lambda`."""

from __future__ import annotations

from typing import Any

from gpureg.errors import UsageError

from .config_file import ALTERNATIVES, merged
from .option_table import SWEEP
from .options import with_options
from .values import configs, grid, numbers


@with_options(*SWEEP)
def sweep_lambda(given: dict[str, Any]) -> None:
    """Fit a whole grid of λ, with its cross-validation, as one batch.

    Every λ (times learning rates, folds and seeds) is a few columns of one matrix product and leaves it when it stops.
    """
    from .training import resume_training, run_training

    if "resume" in given:
        resume_training(given)
        return
    options = merged(given, SWEEP)
    run_training(options, lambda: configs(options, models(options.values), sweep=True))


def models(values: dict[str, Any]) -> dict[str, Any]:
    """λ and learning rates as they are given. Raises UsageError if several of a group of alternatives are given."""
    for group in ALTERNATIVES:
        flags = ["--" + name.replace("_", "-") for name in group if name in values]
        if len(flags) > 1:
            raise UsageError(f"{' and '.join(flags)} were both given; give one of them.")
    chosen: dict[str, Any] = {}
    if "lambdas" in values:
        chosen["l2"] = numbers("--lambdas", values["lambdas"])
    if "lambda_grid" in values:
        chosen["l2"] = grid("lambda_grid", values["lambda_grid"])
    if "Cs" in values:  # from the lowest value up, so that λ falls; a run's config.toml holds the values themselves
        text = values["Cs"]
        chosen["Cs"] = numbers("--Cs", text) if ":" not in text else grid("Cs", text)[::-1]
    if "lrs" in values:
        chosen["lr"] = numbers("--lrs", values["lrs"])
    if "lr" in values:
        chosen["lr"] = (values["lr"],)
    return chosen
