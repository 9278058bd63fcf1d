"""`load`: from a `DataConfig` to a `Dataset`: read, take the first rows, split, choose the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy.typing as npt

from gpureg.config import DataConfig, DataOptions, FitConfig, options_of, refuse_unknown
from gpureg.data.catalog import CATALOG, DatasetSpec
from gpureg.data.dataset import Dataset, Unseen
from gpureg.data.files import read_path
from gpureg.data.in_memory import in_memory
from gpureg.data.named import read_named
from gpureg.data.parts import chosen_classes, taken_rows
from gpureg.errors import DataError, UsageError, named
from gpureg.losses import Loss, loss_of


def load(
    config: DataConfig, *, task: str | Loss = FitConfig.task, seed: int = FitConfig.seed, folds: bool = False
) -> Dataset:
    """Load the data that `config` describes, split and with classes chosen.

    Files: npz (`X`, `y`; optionally `X_val`, `y_val`), npy (a column of it is the label), CSV with a header, parquet,
    IDX images with their labels alongside. `target` names the label column or array (the last column; `y`), and
    `weights` that of the sample weights.

    The first `train_size` training and `val_size` validation samples are taken before classes are selected (mnist:
    20,000 and 10,000, else all). Data without a validation part are split, stratified, by `seed`: `val_size` rows or
    20% go to validation, and training takes the first of the rest. With `val_size` 0, and by default of a file whose
    rows are to be held out in `folds`, all rows train.

    For the logistic task the first of two `classes` is positive; without `classes` the larger label (mnist: 2 against
    3). For softmax the classes are sorted.

    Raises UsageError for options that do not fit the data, DataError for data that are not available or can't be read
    or used.
    """
    loss, seed = _of_the_fit(task, seed)
    spec, stamp = CATALOG.get(config.dataset), _stamp(config.dataset)
    if spec is not None:
        _refuse_columns(spec, config.target, config.weights)
        chosen = _of_the_catalog(config, spec, loss)
        raw = read_named(spec)
    else:
        chosen = config
        raw = read_path(config.dataset, target=config.target, weights=config.weights)
    by_default = spec is None and raw.X_val is None and config.val_size is None
    if by_default and folds:
        chosen = replace(chosen, val_size=0)
    dataset = chosen_classes(taken_rows(raw, chosen, seed), loss, chosen.classes)
    if config.test is not None:
        unseen = Unseen(config.test, config.target, config.weights, chosen.classes is not None)
        dataset = replace(dataset, unseen=unseen)
    whole = partial(_again, config, loss, seed, stamp) if by_default and not folds else None
    return dataset.loaded(config.absolute(CATALOG).to_dict() | {"task": loss.name, "seed": seed}, whole)


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    task: str | Loss = FitConfig.task,
    seed: int = FitConfig.seed,
    **options: Unpack[DataOptions],
) -> Dataset:
    """Load a data set by name (`mnist`, `fashion-mnist`, `digits`) or from a file, split and with classes chosen.

    `options` are the fields of `gpureg.config.DataConfig`: `classes`, `train_size`, `val_size`, `target`, `weights`,
    `test`.
    See `gpureg.data.load.load` for what they do and for what is raised.

    >>> import gpureg
    >>> data = gpureg.load_dataset("digits")
    >>> data.X_train.shape, data.X_val.shape
    ((1438, 64), (359, 64))
    >>> gpureg.load_dataset("digits", classes=[3, 8]).classes
    (3, 8)
    """
    refuse_unknown(options, DataOptions.__optional_keys__, "load_dataset was given")
    return load(DataConfig(name_or_path, **options), task=task, seed=seed)  # type: ignore[arg-type]


def _again(config: DataConfig, loss: Loss, seed: int, stamp: tuple[int, int] | None) -> Dataset:
    """The data with all rows for training. Raises DataError if the file is not the one that was read before."""
    if _stamp(config.dataset) != stamp:
        raise DataError(f"{config.dataset} has changed since it was loaded. Load it again.")
    return load(config, task=loss, seed=seed, folds=True)


def _stamp(path: str) -> tuple[int, int] | None:
    """A file's time and size, None if there are none."""
    try:
        found = Path(path).expanduser().stat()
    except (OSError, ValueError, RuntimeError):
        return None
    return found.st_mtime_ns, found.st_size


def _of_the_fit(task: str | Loss, seed: int) -> tuple[Loss, int]:
    """The loss and the seed, checked as the fit checks them."""
    options = options_of(FitConfig)
    return loss_of(options["task"].checked(task)), options["seed"].checked(seed)


def _of_the_catalog(config: DataConfig, spec: DatasetSpec, loss: Loss) -> DataConfig:
    """The options, with those of the named data set where none were given."""
    classes = spec.logistic_classes if config.classes is None and loss.binary else config.classes
    return replace(
        config,
        train_size=spec.train_size if config.train_size is None else config.train_size,
        val_size=spec.val_size if config.val_size is None else config.val_size,
        classes=classes,
    )


class ArrayOptions(TypedDict, total=False):
    """What `make_dataset` takes of the options of `load_dataset`."""

    task: str | Loss
    classes: Sequence[object] | None
    val_size: int | None
    seed: int


def make_dataset(
    X: Any,
    y: Any,
    X_val: Any = None,
    y_val: Any = None,
    *,
    sample_weight: npt.ArrayLike | None = None,
    name: str = "arrays",
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """A `Dataset` of arrays in memory: `X (N, F)`, images `(N, H, W)` or a data frame, whose column names are kept;
    labels `y (N,)` (numbers, words, booleans). Rows of `sample_weight (N,)` 0 are left out.

    Without `X_val (M, F)` and `y_val (M,)` a validation part is split off for a fit without folds, as `load_dataset`
    does it. `options` are some of that function's: `task`, `classes`, `val_size` and `seed`. Raises UsageError and
    DataError as it does.

    >>> import gpureg
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
    >>> data = gpureg.make_dataset(X, y, val_size=2)
    >>> data.classes
    ('no', 'yes')
    >>> data.X_train.shape, data.X_val.shape
    ((2, 1), (2, 1))
    """
    refuse_unknown(options, ArrayOptions.__optional_keys__, "make_dataset was given")
    classes, val_size = options.get("classes"), options.get("val_size")
    chosen = DataConfig(name, classes=classes, val_size=val_size)  # type: ignore[arg-type]  # any sequence becomes a tuple
    loss, seed = _of_the_fit(options.get("task", FitConfig.task), options.get("seed", FitConfig.seed))
    raw = in_memory(X, y, X_val, y_val, sample_weight, name)
    dataset = chosen_classes(taken_rows(raw, chosen, seed), loss, chosen.classes)
    if raw.X_val is not None or val_size is not None:
        return dataset
    arrays = partial(make_dataset, X, y, sample_weight=sample_weight, name=name)
    return dataset.loaded({}, partial(arrays, task=loss, classes=classes, seed=seed, val_size=0))


def _refuse_columns(spec: DatasetSpec, target: str | None, weights: str | None) -> None:
    for option, value in (("target", target), ("weights", weights)):
        if value is not None:
            raise UsageError(
                f"{named(option, value)}: the data set {spec.name!r} has no columns to name. Leave out {named(option)}."
            )
