"""`gpureg train`."""

from __future__ import annotations

from typing import Any

from .options import SHARED, SINGLE, fit_config, merged, with_options


@with_options(*SHARED, *SINGLE)
def train(given: dict[str, Any]) -> None:
    """Fit one model.

    The defaults are the report's: softmax regression on 20,000 MNIST images, minibatches of 128, early stopping.
    """
    from .training import run_training

    values = merged(given, (*SHARED, *SINGLE))
    models = {"l2": (values.pop("l2"),)} if "l2" in values else {}
    if "lr" in values:
        models["lr"] = (values.pop("lr"),)
    run_training(fit_config(values, **models), values)
