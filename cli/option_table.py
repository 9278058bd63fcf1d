"""The options of `train` and `sweep-lambda`. A default of the fit is read from `FitConfig`, its only place."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from gpureg.config import CLASS_WEIGHTS, DTYPES, KEEPS, KERNELS, SCALES, SELECTS, SOLVERS, TASKS, FitConfig

from .checkpoints import SECONDS
from .options import Option, panel


def _fit(name: str, kind: type, text: str, **more: Any) -> Option:
    """An option of the fit, with the default that it has there."""
    return Option(name, kind, text, **{"default": getattr(FitConfig, name)} | more)


def _datasets(incomplete: str) -> list[str]:
    """What the shell offers after --dataset: the named ones, then files."""
    from gpureg.data.catalog import CATALOG

    return [name for name in CATALOG if name.startswith(incomplete)] + sorted(glob.glob(glob.escape(incomplete) + "*"))


def _devices(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:1") if name.startswith(incomplete)]


DATA = panel(
    "Data",
    Option(
        "dataset",
        str,
        "mnist, fashion-mnist, digits (built in), or a path: npz, npy, csv, parquet, idx.",
        "mnist",
        metavar="NAME|PATH",
        complete=_datasets,
    ),
    Option(
        "classes",
        str,
        "Keep these classes, e.g. 2,3; for logistic the first is the positive one.",
        shown="all; for logistic on mnist 2,3",
        metavar="A,B,...",
    ),
    Option(
        "train_size",
        int,
        "The first so many training rows, taken before classes are selected.",
        shown="all; mnist: 20000",
    ),
    Option(
        "val_size",
        int,
        "The first so many validation rows; where the data has none, the size of a stratified split.",
        shown="all, or a 20% split; mnist: 10000",
    ),
    Option("target", str, "The label column of a table.", shown="the last", metavar="COLUMN"),
    Option("weights", str, "The column of sample weights of a table.", shown="none", metavar="COLUMN"),
    _fit(
        "scale",
        str,
        "standard: mean 0, deviation 1 over all training rows, also with --cv. pixels: 2x/max - 1.",
        shown="pixels for images, else standard",
        choices=SCALES,
    ),
    _fit("class_weight", str, "balanced: every class weighs the same.", default="none", choices=CLASS_WEIGHTS),
)
TASK = _fit("task", str, "Softmax over all classes, or logistic for two.", choices=TASKS)
TRAINING = panel(
    "Training",
    _fit("solver", str, "sgd: minibatches with early stopping. lbfgs: to the optimum.", choices=SOLVERS),
    _fit("epochs", int, "At most so many epochs."),
    _fit("batch_size", int, "Samples of a minibatch."),
    _fit("shuffle", bool, "A new order of the samples in every epoch."),
    _fit("seed", int, "Of the shuffle, the split and the folds."),
    _fit("evals_per_epoch", int, "Evaluations in an epoch."),
    _fit("patience", int, "Stop after so many evaluations without a new lowest validation loss; 0: never."),
    _fit("min_delta", float, "How much lower a loss must be to count as a new lowest, in nats."),
    _fit("keep", str, "The weights of the last step, or of the best evaluation.", choices=KEEPS),
    _fit("penalize_bias", bool, "Whether the bias carries the penalty too."),
    _fit("tol", float, "lbfgs: when a model counts as converged."),
    _fit("max_iter", int, "lbfgs: at most so many iterations."),
)
DEVICE = panel(
    "Device",
    _fit("device", str, "auto, cpu, cuda or cuda:N.", metavar="NAME", complete=_devices),
    _fit("strict_device", bool, "Fail with exit code 3 rather than fall back to the CPU.", default=None),
    _fit("dtype", str, "The float type of the arithmetic.", choices=DTYPES),
    _fit("threads", int, "Threads of the BLAS.", shown="the library's own choice"),
    _fit(
        "memory",
        str,
        "Budget for work arrays, e.g. 512MiB; a wider grid is trained in parts, with the same results.",
        default="2GiB",
        metavar="SIZE",
    ),
    _fit(
        "kernels",
        str,
        "auto, fused, reference; on CUDA also pair (2 launches a step) and epoch (1 launch an epoch).",
        choices=KERNELS,
        metavar="NAME",
    ),
)
OUTPUT = panel(
    "Run and output",
    Option("config", Path, "TOML file with these options, e.g. a run's config.toml; the command line wins."),
    Option("out", Path, "Run directory.", shown="runs/<task>-<dataset>-<time>"),
    Option("force", bool, "Replace a run that is there."),
    Option("resume", Path, "Go on with the interrupted run in this directory, with its own options.", metavar="DIR"),
    Option(
        "checkpoint_seconds",
        float,
        "At least so long between two checkpoints; 0: one after every epoch.",
        SECONDS,
    ),
    Option("json", bool, "The result as one JSON object on stdout; all else goes to stderr."),
    Option("quiet", bool, "No progress."),
)
RATE = Option("lr", float, "Learning rate.", shown="0.01 for softmax, 0.05 for logistic")

TRAIN = (
    *DATA,
    *panel("Model", TASK, Option("l2", float, "λ of the penalty λ Σ w².", 0.0)),
    *panel("Training", RATE),
    *TRAINING,
    *DEVICE,
    *OUTPUT,
)
SWEEP = (
    *DATA,
    *panel(
        "Model",
        TASK,
        Option("lambdas", str, "λ of the penalty λ Σ w².", shown="2,0.2,0.02,0.002", metavar="X,X,..."),
        Option("lambda_grid", str, "COUNT λ, evenly spaced in their logarithm, instead.", metavar="LOW:HIGH:COUNT"),
        _fit("cv", int, "Cross-validation by so many stratified folds, all in the same batch."),
        _fit("select", str, "The lowest loss, or the largest λ within one standard error of it.", choices=SELECTS),
        _fit("seeds", int, "With --cv so many fold assignments; without, so many shuffles."),
    ),
    *panel(
        "Training",
        RATE,
        Option("lrs", str, "Several learning rates instead: a further axis of models.", metavar="X,X,..."),
    ),
    *TRAINING,
    *DEVICE,
    *OUTPUT,
)
