"""`Dataset`: a data set in host memory, split into training and validation rows, before scaling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Dataset:
    """Training and validation rows of one data set, in host memory.

    Shapes: `X_train (N, F)`, `X_val (M, F)`; `y_train (N,)`, `y_val (M,)` integer indices into `classes`;
    `sample_weight (N,)` or None. F counts features, without the bias column. Images stay uint8 (one byte a pixel) until
    the fit converts them.

    `classes` holds the labels in class order: for the logistic task `[positive, negative]`, so that index 0 is
    positive.
    `options`: what `load` was given, with its task and seed, as config.toml holds it; empty for arrays in memory.
    `pixel_max` is the largest value a pixel can take (255 for IDX images, 16 for digits), None where the data are no
    images; `image_shape` is (height, width) or None.
    """

    name: str
    X_train: npt.NDArray[np.generic]
    y_train: npt.NDArray[np.int64]
    X_val: npt.NDArray[np.generic]
    y_val: npt.NDArray[np.int64]
    classes: tuple[int | float | str, ...]
    sample_weight: npt.NDArray[np.float64] | None = None
    image_shape: tuple[int, int] | None = None
    pixel_max: float | None = None
    feature_names: tuple[str, ...] | None = None
    source: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
