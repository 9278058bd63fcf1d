"""`load`: from a `DataConfig` to a `Dataset`: read, take the first rows, split, choose the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from gpureg.config import DataConfig, DataOptions, FitConfig, options_of, refuse_unknown
from gpureg.data.catalog import CATALOG, DatasetSpec
from gpureg.data.dataset import Dataset, Unseen
from gpureg.data.files import read_path
from gpureg.data.in_memory import in_memory
from gpureg.data.labels import Codes, listed, match_classes
from gpureg.data.named import read_named
from gpureg.data.notices import data_notices
from gpureg.data.raw import RawData
from gpureg.data.spelling import Label
from gpureg.data.split import VAL_FRACTION, stratified_split
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
    dataset = _choose_classes(_take_rows(raw, chosen, seed), loss, chosen.classes)
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
    return load(DataConfig(os.fspath(name_or_path), **options), task=task, seed=seed)  # type: ignore[arg-type]


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


def make_dataset(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    X_val: npt.ArrayLike | None = None,
    y_val: npt.ArrayLike | None = None,
    *,
    task: str | Loss = FitConfig.task,
    classes: Sequence[object] | None = None,
    val_size: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
    seed: int = FitConfig.seed,
    name: str = "arrays",
) -> Dataset:
    """A `Dataset` of arrays in memory: `X (N, F)`, images `(N, H, W)` or a data frame, whose column names are kept;
    labels `y (N,)` (numbers, words, booleans). Rows of `sample_weight (N,)` 0 are left out.

    Without `X_val (M, F)` and `y_val (M,)` a validation part is split off for a fit without folds, as `load_dataset`
    does it; the other parameters are that function's. Raises UsageError and DataError as it does.

    >>> import gpureg
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
    >>> data = gpureg.make_dataset(X, y, val_size=2)
    >>> data.classes
    ('no', 'yes')
    >>> data.X_train.shape, data.X_val.shape
    ((2, 1), (2, 1))
    """
    chosen = DataConfig(name, classes=classes, val_size=val_size)  # type: ignore[arg-type]  # any sequence becomes a tuple
    loss, seed = _of_the_fit(task, seed)
    raw = in_memory(X, y, X_val, y_val, sample_weight, name)
    dataset = _choose_classes(_take_rows(raw, chosen, seed), loss, chosen.classes)
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


def _take_rows(raw: RawData, config: DataConfig, seed: int) -> Dataset:
    """The first rows of each part, or a split; labels are still indices into all of the data's labels."""
    train_size, val_size = config.train_size, config.val_size
    train: slice | Codes
    val: slice | Codes
    if raw.X_val is None or raw.codes_val is None:
        X_val, codes_val = raw.X, raw.codes
        if val_size == 0:
            train, val = slice(_first("train_size", train_size, len(raw.X), "training", raw.name)), slice(0)
        else:
            train, val = _split_rows(raw, train_size, val_size, seed)
    else:
        X_val, codes_val = raw.X_val, raw.codes_val
        train = slice(_first("train_size", train_size, len(raw.X), "training", raw.name))
        val = slice(_first("val_size", val_size, len(X_val), "validation", raw.name))
    return Dataset(
        name=raw.name,
        X_train=_rows(raw.X, train),
        y_train=raw.codes[train],
        X_val=_rows(X_val, val),
        y_val=codes_val[val],
        classes=raw.labels,
        sample_weight=None if raw.weights is None else raw.weights[train],
        image_shape=raw.image_shape,
        pixel_max=raw.pixel_max,
        feature_names=raw.feature_names,
        source=raw.source,
        notices=data_notices(raw),
        val_weight=None if raw.weights is None or raw.X_val is not None or val_size == 0 else raw.weights[val],
        target=raw.target,
    )


def _rows(X: npt.NDArray[np.generic], rows: slice | Codes) -> npt.NDArray[np.generic]:
    """Chosen rows; a copy where they are few, so that the rest can be freed, else a view."""
    part = X[rows]
    return part.copy() if 2 * len(part) < len(X) and part.base is not None else part


def _first(option: str, size: int | None, available: int, part: str, name: str) -> int:
    if size is not None and size > available:
        raise UsageError(f"{named(option, size)}: {name!r} has {available} {part} rows. Ask for no more than those.")
    return available if size is None else size


def _split_rows(raw: RawData, train_size: int | None, val_size: int | None, seed: int) -> tuple[Codes, Codes]:
    n_rows = len(raw.X)
    if n_rows < 2:
        raise DataError(f"{raw.name!r} has {n_rows} row; training and validation need at least one each.")
    asked = (train_size or 1) + (val_size or 1)
    if asked > n_rows:
        sizes = (("train_size", train_size), ("val_size", val_size))
        given = ", ".join(named(option, size) for option, size in sizes if size is not None)
        raise UsageError(
            f"{given}: {raw.name!r} has {n_rows} rows in all, from which "
            "training and validation are split. Ask for fewer."
        )
    n_val = val_size or max(1, min(round(VAL_FRACTION * n_rows), n_rows - (train_size or 1)))
    train, val = stratified_split(raw.codes, n_val, seed)
    return train[:train_size], val


def _choose_classes(dataset: Dataset, loss: Loss, classes: Sequence[object] | None) -> Dataset:
    """Keep the rows of the chosen classes and renumber their labels in class order."""
    present = np.unique(dataset.y_train)
    labels = [dataset.classes[code] for code in present]
    if classes is None:
        _check_val_classes(dataset, present)
        chosen = list(range(len(labels)))
        if loss.binary:
            chosen.reverse()  # the larger label is positive, and positive comes first
    else:
        chosen = match_classes(classes, labels)
        if not loss.binary:
            chosen.sort()
    _check_class_count(loss, [labels[position] for position in chosen], dataset.name, by_name=classes is not None)
    renumber = np.full(len(dataset.classes), -1, dtype=np.int64)
    renumber[present[chosen]] = np.arange(len(chosen))
    X_train, y_train, kept = _keep(dataset.X_train, renumber[dataset.y_train])
    X_val, y_val, kept_val = _keep(dataset.X_val, renumber[dataset.y_val])
    if len(dataset.y_val) and not len(y_val):
        raise DataError(f"{dataset.name!r}: no validation row has one of the classes. Raise {named('val_size')}.")
    return replace(
        dataset,
        X_train=X_train,
        y_train=y_train,
        X_val=X_val,
        y_val=y_val,
        sample_weight=_of_kept(dataset.sample_weight, kept),
        val_weight=_of_kept(dataset.val_weight, kept_val),
        classes=tuple(labels[position] for position in chosen),
    )


def _keep(X: npt.NDArray[np.generic], y: Codes) -> tuple[npt.NDArray[np.generic], Codes, npt.NDArray[np.bool_] | None]:
    """Rows whose label is kept (>= 0). Without anything to drop, X is passed on, not copied."""
    kept = y >= 0
    if kept.all():
        return np.ascontiguousarray(X), y, None
    return X[kept], y[kept], kept


def _of_kept(
    weights: npt.NDArray[np.float64] | None, kept: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.float64] | None:
    return weights if weights is None or kept is None else weights[kept]


def _check_val_classes(dataset: Dataset, present: Codes) -> None:
    unseen = np.setdiff1d(dataset.y_val, present)
    if unseen.size:
        names = listed([dataset.classes[code] for code in unseen])
        raise DataError(
            f"{dataset.name!r}: the validation rows have classes that no training row has: {names}. "
            f"Raise {named('train_size')}, or name the classes to keep with {named('classes')}."
        )


def _check_class_count(loss: Loss, chosen: Sequence[Label], name: str, *, by_name: bool) -> None:
    names = listed(chosen if by_name else sorted(chosen))
    given = f"{named('classes')} names {names}" if by_name else f"{name!r} has {len(chosen)}: {names}"
    if loss.binary and len(chosen) != 2:
        raise UsageError(
            f"{named('task', loss.name)} needs exactly two classes, but {given}. "
            f"Name two, the positive one first, with {named('classes')}; or use {named('task', 'softmax')}."
        )
    if len(chosen) < 2:
        raise UsageError(f"{named('task', loss.name)} needs at least two classes, but {given}. Keep more classes.")
