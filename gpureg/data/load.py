"""`load`: from a `DataConfig` to a `Dataset`: read, take the first rows, split, choose the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy.typing as npt

from gpureg.config import DataConfig, DataOptions, FitConfig, options_of, refuse_unknown
from gpureg.data.both_sides import Groups
from gpureg.data.catalog import CATALOG, DatasetSpec
from gpureg.data.dataset import Dataset, Unseen
from gpureg.data.encoded import encoded
from gpureg.data.files import existing, read_path
from gpureg.data.formats import format_of
from gpureg.data.in_memory import Arrays, in_memory
from gpureg.data.labels_file import read_labelled
from gpureg.data.limits import Limit
from gpureg.data.named import read_named
from gpureg.data.of_rows import refuse_held_only, surveyed
from gpureg.data.parquet_folder import files_in
from gpureg.data.parts import chosen_classes, taken_rows
from gpureg.data.raw import RawData
from gpureg.data.streamed import is_streamed
from gpureg.data.uses import Uses
from gpureg.data.validation import with_validation
from gpureg.errors import DataError, TooLargeError, UsageError, named
from gpureg.losses import Loss, loss_of

STAY = ("npy", "parquet")  # the formats whose rows workers read where they lie


def load(
    config: DataConfig,
    *,
    task: str | Loss = FitConfig.task,
    seed: int = FitConfig.seed,
    folds: bool = False,
    limit: Limit | None = None,
    spread: bool = False,
) -> Dataset:
    """Load the data that `config` describes, split and with classes chosen.

    Files: npz (`X`, `y`; optionally `X_val`, `y_val`, `X_test`, `y_test`), npy (a column of it is the label, or
    `labels` names a file of them), CSV with a header, parquet (a file or a folder), IDX images with their labels
    alongside. `target` names the label column or array (by default the last column, or `y`), `weights` that of the
    sample weights; `features` and `drop` choose columns. What `categorical` and `missing` do with words and missing
    values is learnt from the training rows. `val` is a file of validation rows.

    The first `train_size` training and `val_size` validation samples are taken before classes are selected (mnist:
    20,000 and 10,000, else all). Data without a validation part are split, stratified, by `seed`: `val_size` rows or
    20% go to validation, and training takes the first of the rest. With `val_size` 0, and by default for a file whose
    rows are held out in `folds`, all rows train. Rows of a group (`groups` names their column) are never on both
    sides of the split; `folds` names the column of each row's fold.

    With `stream`, and if they take more than half of the memory (or a `limit`), the rows stay in their file, and are
    read in blocks during the fit.

    `spread`: features of npy and Parquet files that hold nothing but finite numbers stay there, and are checked when
    workers read them.

    For the logistic task the first of two `classes` is positive; without `classes` the larger label (mnist: 2 against
    3). For softmax the classes are sorted.

    Raises UsageError for options that do not fit the data, DataError for data that are not available or can't be read
    or used.
    """
    loss, seed = _of_the_fit(task, seed)
    spec, stamp = CATALOG.get(config.dataset), _stamp(config.dataset)
    if spec is not None and config.stream:
        raise UsageError(
            f"{named('stream', True)}: the data set {spec.name!r} is held; files are streamed. Leave out "
            f"{named('stream')}."
        )
    if spec is not None:
        _refuse_columns(spec, config)
        chosen = _of_the_catalog(config, spec, loss)
        raw = read_named(spec)
    else:
        chosen = config
        raw = _read(config, limit, spread=spread)
    if config.val is not None:
        _refuse_sizes(config, raw)
        chosen = replace(chosen, val_size=0)
    by_default = spec is None and raw.X_val is None and chosen.val_size is None
    folds = folds or config.folds is not None
    if by_default and folds:
        chosen = replace(chosen, val_size=0)
    dataset = _used(raw, chosen, Uses.of(config), seed, loss)
    if is_streamed(raw.features.X) and not (config.stream or spread):
        dataset = replace(dataset, notices=(*dataset.notices, _by_itself(config.dataset)))
    selected = chosen.classes is not None
    if config.val is not None:
        groups = Groups.of(config.groups, raw.marks.names, dataset.groups)
        dataset = with_validation(dataset, Unseen(config.val, config.target, config.weights, selected), groups)
    if config.test is not None:
        dataset = replace(dataset, unseen=Unseen(config.test, config.target, config.weights, selected))
    elif raw.has_test:
        dataset = replace(dataset, unseen=Unseen(config.dataset, config.target, config.weights, selected, own=True))
    whole = partial(_again, config, loss, seed, stamp, spread) if by_default and not folds else None
    return dataset.loaded(config.absolute(CATALOG).to_dict() | {"task": loss.name, "seed": seed}, whole)


def _read(config: DataConfig, limit: Limit | None, *, spread: bool) -> RawData:
    """A file's rows; if they are streamed their labels, and a pass over the rest, unless they are `spread`."""
    uses = Uses.of(config)
    if spread and not (uses.one_hot or uses.keeps_missing) and format_of(existing(config.dataset)).name in STAY:
        with suppress(DataError):  # of a form that can't stay, or that can't be read either way
            return _of_file(config, replace(uses, stream=True), limit)
    if uses.stream:
        return _streamed(config, uses, limit, asked=True)
    try:
        return _of_file(config, uses, limit)
    except TooLargeError as error:
        try:
            return _streamed(config, replace(uses, stream=True), limit, asked=False)
        except TooLargeError:
            raise
        except UsageError as cause:
            raise TooLargeError(f"{error} Nor can they be read in blocks. {cause}") from cause


def _of_file(config: DataConfig, uses: Uses, limit: Limit | None) -> RawData:
    if config.labels is not None:
        return read_labelled(config, uses, limit)
    return read_path(config.dataset, uses, limit)


def _streamed(config: DataConfig, uses: Uses, limit: Limit | None, *, asked: bool) -> RawData:
    refuse_held_only(uses)
    raw = surveyed(_of_file(config, uses, limit))
    streamed = replace(raw.features.X, asked=asked)
    return replace(raw, features=replace(raw.features, X=streamed))


def _by_itself(name: str) -> str:
    return (
        f"The rows of {name} take more than half of this machine's memory: they are read in blocks during the fit, as "
        f"with {named('stream', True)}."
    )


def _used(raw: RawData, config: DataConfig, uses: Uses, seed: int, loss: Loss) -> Dataset:
    """The rows and classes that the options keep, with features that are learnt from the training rows."""
    raw = raw.complete() if uses.missing == "drop" else raw
    return encoded(chosen_classes(taken_rows(raw, config, seed), loss, config.classes), raw, uses)


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    task: str | Loss = FitConfig.task,
    seed: int = FitConfig.seed,
    **options: Unpack[DataOptions],
) -> Dataset:
    """Load a data set by name (`mnist`, `fashion-mnist`, `digits`) or from a file, split and with classes chosen.

    `options` are the fields of `gpureg.config.DataConfig`: `classes`, `train_size`, `val_size`, `labels`, `val`,
    `test`, `target`, `weights`, `groups`, `folds`, `features`, `drop`, `categorical`, `missing`, `stream`.
    See `gpureg.data.load.load` for what they do and for the errors raised.

    >>> import gpureg
    >>> data = gpureg.load_dataset("digits")
    >>> data.X_train.shape, data.X_val.shape
    ((1438, 64), (359, 64))
    >>> gpureg.load_dataset("digits", classes=[3, 8]).classes
    (3, 8)
    """
    refuse_unknown(options, DataOptions.__optional_keys__, "load_dataset was given")
    return load(DataConfig(name_or_path, **options), task=task, seed=seed)  # type: ignore[arg-type]


def _again(config: DataConfig, loss: Loss, seed: int, stamp: tuple[int, int] | None, spread: bool) -> Dataset:
    """The data with all rows for training. Raises DataError if the file is not the one that was read before."""
    if _stamp(config.dataset) != stamp:
        raise DataError(f"{config.dataset} has changed since it was loaded. Load it again.")
    return load(config, task=loss, seed=seed, folds=True, spread=spread)


def _stamp(path: str) -> tuple[int, int] | None:
    """The latest time and the size of a file, or of all files in a folder; None if there are none."""
    try:
        place = Path(path).expanduser()
        found = [one.stat() for one in (place, *(files_in(place) if place.is_dir() else ()))]
    except (OSError, ValueError, RuntimeError, DataError):
        return None
    return max(one.st_mtime_ns for one in found), sum(one.st_size for one in found)


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
    features: Sequence[str | int] | None
    drop: Sequence[str | int] | None
    categorical: str
    missing: str


def make_dataset(
    X: Any,
    y: Any,
    X_val: Any = None,
    y_val: Any = None,
    *,
    sample_weight: npt.ArrayLike | None = None,
    sample_weight_val: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    name: str = "arrays",
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """A `Dataset` of arrays in memory: `X (N, F)`, images `(N, H, W)` or a data frame, whose column names are kept;
    labels `y (N,)` (numbers, words, booleans). Rows of `sample_weight (N,)` 0 are left out. Rows of equal `groups (N,)`
    (numbers, words, dates) stay together, in the validation split and in the folds of a fit.

    Without `X_val (M, F)` and `y_val (M,)`, a validation part is split off for a fit without folds, as in
    `load_dataset`. `options` are some of that function's: `task`, `classes`, `val_size`, `seed`, `features`, `drop`,
    `categorical` and `missing`. Raises UsageError and DataError as it does.

    >>> import gpureg
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
    >>> data = gpureg.make_dataset(X, y, val_size=2)
    >>> data.classes
    ('no', 'yes')
    >>> data.X_train.shape, data.X_val.shape
    ((2, 1), (2, 1))
    """
    refuse_unknown(options, ArrayOptions.__optional_keys__, "make_dataset was given")
    given = Arrays(X, y, X_val, y_val, sample_weight, sample_weight_val, groups)
    return _of_arrays(given, options, name)


def _of_arrays(given: Arrays, options: ArrayOptions, name: str) -> Dataset:
    task, seed = options.get("task", FitConfig.task), options.get("seed", FitConfig.seed)
    of_data = {key: value for key, value in options.items() if key not in ("task", "seed")}
    chosen = DataConfig(name, **of_data)  # type: ignore[arg-type]  # any sequence becomes a tuple
    loss, seed = _of_the_fit(task, seed)
    uses = Uses.of(chosen)
    raw = in_memory(given, uses, name)
    dataset = _used(raw, chosen, uses, seed, loss)
    if raw.X_val is not None or chosen.val_size is not None:
        return dataset
    return dataset.loaded({}, partial(_of_arrays, given, {**options, "val_size": 0}, name))


def _refuse_columns(spec: DatasetSpec, config: DataConfig) -> None:
    for option in ("target", "weights", "groups", "folds", "features", "drop", "labels"):
        value = getattr(config, option)
        if value is not None:
            text = value if isinstance(value, str) else ",".join(value)
            raise UsageError(
                f"{named(option, text)}: the data set {spec.name!r} has no columns to name. Leave out {named(option)}."
            )


def _refuse_sizes(config: DataConfig, raw: RawData) -> None:
    """Raise UsageError if, in addition to a file of validation rows, their size is given or the data have some."""
    if config.val_size is not None:
        raise UsageError(
            f"{named('val', config.val)} and {named('val_size', config.val_size)} were both given: the file is the "
            f"validation set, whole. Leave out {named('val_size')}, or {named('val')} to split the data."
        )
    if raw.X_val is not None:
        raise UsageError(
            f"{named('val', config.val)}: {raw.name!r} has its own validation rows. Leave out {named('val')}, or "
            "store the data without them."
        )
