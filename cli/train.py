"""`gpureg train`."""

from __future__ import annotations

from typing import Any

from .config_file import merged
from .option_table import TRAIN
from .options import with_options
from .values import configs


@with_options(*TRAIN)
def train(given: dict[str, Any]) -> None:
    """Fit one model.

    The defaults are the report's: softmax regression on 20,000 MNIST images, minibatches of 128, early stopping. Data
    of your own are fitted to the optimum.
    """
    from .training import resume_training, run_training

    if "resume" in given:
        resume_training(given)
        return
    options = merged(given, TRAIN)
    run_training(options, lambda: configs(options))
