"""The options of `train` and `sweep-lambda`: the fields of `DataConfig` and `FitConfig`, and those of the command."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path

from gpureg.config import LBFGS_GRID, REPORT_LAMBDAS, DataConfig, FitConfig, options_of

from .checkpoints import SECONDS
from .options import Option, of_field, panel


def _datasets(incomplete: str) -> list[str]:
    """What the shell offers after --dataset: the named data sets, then files."""
    from gpureg.data.catalog import CATALOG

    return [name for name in CATALOG if name.startswith(incomplete)] + sorted(glob.glob(glob.escape(incomplete) + "*"))


def _devices(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:1") if name.startswith(incomplete)]


COMPLETE = {"dataset": _datasets, "device": _devices}
SEVERAL = {"l2": "gpureg sweep-lambda --lambdas", "lr": "gpureg sweep-lambda --lrs"}
ON_AN_AXIS = (*SEVERAL, "Cs")  # a number in `train`, several in `sweep-lambda`


def fields_of(title: str, *configs: type) -> tuple[Option, ...]:
    """The fields under one title of the help, except those that each command writes in its own way."""
    fields = [field for config in configs for field in options_of(config).values()]
    return tuple(
        replace(of_field(field), complete=COMPLETE.get(field.name))
        for field in fields
        if field.about.panel == title and field.name not in ON_AN_AXIS
    )


def _one(name: str) -> Option:
    """A field that can be an axis of values, as a single number."""
    field = options_of(FitConfig)[name]
    return replace(of_field(field), type=float, many=False, several=SEVERAL[name])


OUTPUT = panel(
    "Run and output",
    Option("config", Path, "TOML file with these options, e.g. a run's config.toml; the command line overrides it."),
    Option("out", Path, "Run directory.", shown="runs/<task>-<dataset>-<time>"),
    Option("force", bool, "Replace a run that is already there."),
    Option("resume", Path, "Continue the interrupted run in this directory, with its own options.", metavar="DIR"),
    Option(
        "checkpoint_seconds",
        float,
        "Minimum seconds between checkpoints; 0: one after every epoch.",
        SECONDS,
    ),
    Option("json", bool, "The result as one JSON object on stdout; everything else goes to stderr."),
    Option("quiet", bool, "No progress."),
    Option(
        "track",
        str,
        "Log the fit as a run of `mlflow` or `tensorboard` too.",
        choices=("mlflow", "tensorboard"),
        metavar="NAME",
    ),
)
DATA = fields_of("Data", DataConfig, FitConfig)
MODEL = fields_of("Model", FitConfig)
TRAINING = (*fields_of("Training", FitConfig), *fields_of("Device", FitConfig), *OUTPUT)
TRAIN = (*DATA, *MODEL, _one("l2"), _one("lr"), *TRAINING)
SWEEP = (
    *DATA,
    *MODEL,
    *panel(
        "Model",
        Option(
            "lambdas",
            str,
            options_of(FitConfig)["l2"].about.help,
            shown=f"sgd: {','.join(f'{value:g}' for value in REPORT_LAMBDAS)}; lbfgs: {LBFGS_GRID}",
            metavar="X,X,...",
        ),
        Option("lambda_grid", str, "Instead: COUNT λ, evenly spaced in their logarithm.", metavar="LOW:HIGH:COUNT"),
        Option("Cs", str, "Instead: COUNT values of scikit-learn's C = 1 / (2 λ S).", metavar="LOW:HIGH:COUNT"),
    ),
    *fields_of("Choice of λ", FitConfig),
    _one("lr"),
    *panel("Training", Option("lrs", str, "Several learning rates: a further axis of models.", metavar="X,X,...")),
    *TRAINING,
)
