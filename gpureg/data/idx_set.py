"""Data sets of IDX files: images, the labels that belong to them, and a validation part if there is one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpureg.data.array_rows import idx_rows
from gpureg.data.idx import read_idx
from gpureg.data.kept import ALL
from gpureg.data.labels import find_labels, settle
from gpureg.data.limits import Limit
from gpureg.data.of_rows import of_rows
from gpureg.data.opening import reading
from gpureg.data.raw import Features, RawData, as_features, check_lengths
from gpureg.data.uses import Uses
from gpureg.errors import DataError, UsageError, named

Pair = tuple[Path, Path]

_FOLDER_NAMES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_VAL_NAMES = ("t10k", "test", "val")


def read_idx_path(path: Path, limit: Limit, *, stream: bool = False) -> RawData:
    """Read the IDX images at `path` (a folder: its `train-images-idx3-ubyte`), plain or gzip, and what belongs to them.

    The labels have the images' name with `labels` and `idx1` in it. If the name contains `train`, files with `t10k`,
    `test` or `val` in its place are the validation part.

    Raises UsageError if the labels' name can't be told from the images', DataError for files that are not there or
    can't be read.
    """
    images = images_in(path) if path.is_dir() else path
    labels = labels_of(images)
    return read_idx_files(path.name.removesuffix(".gz"), (images, labels), validation_of(images), limit, stream=stream)


def labels_of(images: Path) -> Path:
    """The file of the labels that belong to images. Raises UsageError and DataError as `read_idx_path`."""
    if "images" not in images.name:
        raise UsageError(
            f"{named('dataset', str(images))}: expected the IDX file of the images, with 'images' in its name, so that "
            "the labels can be found in its folder under the same name with 'labels'."
        )
    labels = _labels_of(images)
    if labels is None:
        raise DataError(f"{images}: its labels are missing. Expected {_labels_name(images.name)} in {images.parent}.")
    return labels


def read_idx_files(name: str, train: Pair, val: Pair | None, limit: Limit, *, stream: bool = False) -> RawData:
    """Read pairs of (images, labels); `stream`: the images stay in their files. Raises DataError if they don't belong
    together.
    """
    features = _images(train[0], limit, stream=stream)
    columns = [find_labels(_labels(train[1], limit), str(train[1]))]
    check_lengths(features.X.shape[0], len(columns[0].codes), f"{train[0]} and {train[1].name}")
    X_val = None
    if val is not None:
        X_val = _images(val[0], limit, stream=stream).X
        columns.append(find_labels(_labels(val[1], limit), str(val[1])))
        check_lengths(len(X_val), len(columns[1].codes), f"{val[0]} and {val[1].name}")
        if X_val.shape[1] != features.width:
            raise DataError(
                f"{val[0]} has {X_val.shape[1]} pixels an image, {train[0]} {features.width}; expected the same number."
            )
    codes, labels = settle(columns)
    return RawData(
        name=name,
        features=features,
        codes=codes[0],
        labels=labels,
        X_val=X_val,
        codes_val=None if val is None else codes[1],
    )


def _images(path: Path, limit: Limit, *, stream: bool) -> Features:
    return of_rows(idx_rows(path), ALL, Uses()) if stream else as_features(read_idx(path, limit), str(path))


def _labels(path: Path, limit: Limit) -> npt.NDArray[np.generic]:
    labels = read_idx(path, limit)
    if labels.ndim != 1:
        raise DataError(f"{path} has shape {labels.shape}; expected one label for each image.")
    return labels


def images_in(folder: Path) -> Path:
    """The training images in a folder of MNIST's file names. Raises DataError if there are none."""
    for name in _FOLDER_NAMES:
        found = _plain_or_gz(folder / name)
        if found is not None:
            return found
    raise DataError(
        f"{folder} is a folder without {_FOLDER_NAMES[0]} (or .gz) and without Parquet files. Name a file, or a folder "
        "that holds such files."
    )


def _labels_name(images_name: str) -> str:
    return re.sub(r"idx\d", "idx1", images_name.removesuffix(".gz").replace("images", "labels"))


def _labels_of(images: Path) -> Path | None:
    return _plain_or_gz(images.with_name(_labels_name(images.name)))


def validation_of(images: Path) -> Pair | None:
    """The images and labels for validation that lie with those for training."""
    if "train" not in images.name:
        return None
    for part in _VAL_NAMES:
        val = _plain_or_gz(images.with_name(images.name.removesuffix(".gz").replace("train", part)))
        labels = None if val is None else _labels_of(val)
        if val is not None and labels is not None:
            return val, labels
    return None


def _plain_or_gz(path: Path) -> Path | None:
    for candidate in (path, path.with_name(path.name + ".gz")):
        with reading(candidate):  # a folder that may not be searched is not an empty one
            if candidate.is_file():
                return candidate
    return None
