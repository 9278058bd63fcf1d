"""Readers of the data sets that have a name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpureg.data.catalog import DatasetSpec
from gpureg.data.idx_set import read_idx_files
from gpureg.data.labels import encode_labels
from gpureg.data.limits import machine_limit
from gpureg.data.raw import Features, RawData
from gpureg.data.sources import fetch

_DIGITS_MAX = 16.0


def read_named(spec: DatasetSpec) -> RawData:
    """Read a data set of the catalog, fetching its files first if they are not in the cache.

    Raises DataError if they are not available.
    """
    return _read_idx_set(spec) if spec.files else _read_digits(spec)


def _read_digits(spec: DatasetSpec) -> RawData:
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    codes, labels = encode_labels(y, spec.name)
    return RawData(
        name=spec.name,
        features=Features(images.astype(np.uint8), None, None, (8, 8), _DIGITS_MAX, 64),  # 0 to 16, exact
        codes=codes,
        labels=labels,
        source={"origin": "scikit-learn, load_digits"},
    )


def _read_idx_set(spec: DatasetSpec) -> RawData:
    folder = fetch(spec.name)
    images, labels, images_val, labels_val = (folder / file.name for file in spec.files)
    raw = read_idx_files(spec.name, (images, labels), (images_val, labels_val), machine_limit())
    return replace(raw, source={"origin": str(folder), **{file.name: f"sha256:{file.sha256}" for file in spec.files}})
