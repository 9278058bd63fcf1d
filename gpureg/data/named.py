"""Readers of the data sets that have a name."""

from __future__ import annotations

import numpy as np

from gpureg.data.catalog import DatasetSpec
from gpureg.data.idx import read_idx
from gpureg.data.labels import encode_labels
from gpureg.data.raw import RawData
from gpureg.data.sources import fetch

_DIGITS_MAX = 16.0
_IDX_MAX = 255.0


def read_named(spec: DatasetSpec) -> RawData:
    """Read a data set of the catalog, fetching its files first where they are not in the cache.

    Raises DataError where they can't be had.
    """
    return _read_idx_set(spec) if spec.files else _read_digits(spec)


def _read_digits(spec: DatasetSpec) -> RawData:
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    codes, labels = encode_labels(y, spec.name)
    return RawData(
        name=spec.name,
        X=images.astype(np.uint8),  # 0 to 16, exact
        codes=codes,
        labels=labels,
        image_shape=(8, 8),
        pixel_max=_DIGITS_MAX,
        source={"origin": "scikit-learn, load_digits"},
    )


def _read_idx_set(spec: DatasetSpec) -> RawData:
    folder = fetch(spec.name)
    images, y, images_val, y_val = (read_idx(folder / file.name) for file in spec.files)
    codes, labels = encode_labels(np.concatenate([y, y_val]), spec.name)
    return RawData(
        name=spec.name,
        X=images.reshape(len(images), -1),
        codes=codes[: len(y)],
        labels=labels,
        X_val=images_val.reshape(len(images_val), -1),
        codes_val=codes[len(y) :],
        image_shape=(images.shape[1], images.shape[2]),
        pixel_max=_IDX_MAX,
        source={"origin": str(folder), **{file.name: f"sha256:{file.sha256}" for file in spec.files}},
    )
