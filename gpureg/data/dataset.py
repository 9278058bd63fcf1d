"""`Dataset`: a data set in host memory, split into training and validation rows, before scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.data.encoding import Encoding
from gpureg.data.kept import Kept
from gpureg.data.raw import check_lengths, check_weights
from gpureg.data.summary import Part, table
from gpureg.errors import UsageError


@dataclass(frozen=True)
class Unseen:
    """A file of rows for a test at the end. `target`, `weights`: the columns that the caller named. `selected`: rows of
    other classes than the model's are left out.
    """

    path: str
    target: str | None = None
    weights: str | None = None
    selected: bool = False
    own: bool = False


@dataclass(frozen=True, repr=False)
class Dataset:
    """Training and validation rows of one data set, in host memory. Rows of weight 0 are left out.

    Shapes: `X_train (N, F)`, `X_val (M, F)`, arrays, SciPy's `csr_array`, or rows that stay in their file
    (`gpureg.data.streamed`); `y_train (N,)`, `y_val (M,)` integer indices into `classes`; `sample_weight (N,)` and
    `val_weight (M,)`, or None for 1. F counts features, without the bias column. Images stay uint8 (one byte a pixel)
    until the fit converts them.

    `classes` holds the labels in class order: for the logistic task `[positive, negative]`, so that index 0 is
    positive.
    `pixel_max` is the largest value a pixel can take (255 for IDX images, 16 for digits), None if the data are not
    images; `image_shape` is (height, width) or None. `options`: what `load` was given, with its task and seed, as
    config.toml holds it; empty for arrays in memory, and for rows that were changed since. `notices`: what a fit will
    warn of, one line each. `target`: the label's column, None if it has no name. `unseen`: a test set. `encoding`: how
    the columns of the data became the features, None if each is one as it is. `groups (N,)`: training rows of equal
    numbers are in the same fold; `folds (N,)`: rows of equal numbers are a fold; None if the data name none.
    `index_base`: the number, 0 or 1, from which the indices of an svmlight file count, so that further such files are
    read in the same way; else None.

    Raises UsageError for arrays that do not fit one another.
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
    notices: tuple[str, ...] = ()
    val_weight: npt.NDArray[np.float64] | None = None
    target: str | None = None
    unseen: Unseen | None = None
    encoding: Encoding | None = None
    groups: npt.NDArray[np.int64] | None = None
    folds: npt.NDArray[np.int64] | None = None
    index_base: int | None = None
    # a copy with other rows (`dataclasses.replace`) has neither of the two
    options: dict[str, Any] = field(init=False, default_factory=dict)
    whole: Callable[[], Dataset] | None = field(init=False, default=None, compare=False)

    def __post_init__(self) -> None:
        for part, X, y in (("train", self.X_train, self.y_train), ("val", self.X_val, self.y_val)):
            if X.ndim != 2 or y.ndim != 1:
                raise UsageError(
                    f"X_{part} has shape {X.shape} and y_{part} {y.shape}; expected (rows, features) and (rows,). "
                    "make_dataset makes a data set of arrays in other shapes."
                )
            check_lengths(X.shape[0], len(y), f"X_{part} and y_{part}")
            if len(y) and not 0 <= y.min() <= y.max() < len(self.classes):
                raise UsageError(
                    f"y_{part} holds numbers from {y.min()} to {y.max()}; expected indices into the "
                    f"{len(self.classes)} classes. make_dataset makes them of labels."
                )
        if self.X_val.shape[1] != self.X_train.shape[1]:
            raise UsageError(
                f"X_train has {self.X_train.shape[1]} features, X_val {self.X_val.shape[1]}; expected the same ones."
            )
        for name in ("groups", "folds"):
            if getattr(self, name) is not None and np.shape(getattr(self, name)) != self.y_train.shape:
                raise UsageError(
                    f"{name} has the shape {np.shape(getattr(self, name))}; expected one number for each of the "
                    f"{len(self.y_train)} training rows."
                )
        if self.sample_weight is not None:
            self._leave_out_weightless("train", "sample_weight", self.sample_weight)
        if self.val_weight is not None:
            self._leave_out_weightless("val", "val_weight", self.val_weight)

    def _leave_out_weightless(self, part: str, named: str, given: npt.NDArray[np.generic]) -> None:
        X, y = f"X_{part}", f"y_{part}"
        weights = check_weights(np.asarray(given), len(getattr(self, y)), named)
        kept = Kept.of_weights(weights)
        marks = [(name, getattr(self, name)) for name in ("groups", "folds") if part == "train"]
        for name, values in ((X, getattr(self, X)), (y, getattr(self, y)), (named, weights), *marks):
            object.__setattr__(self, name, None if values is None else kept.of(values))

    def loaded(self, options: dict[str, Any], whole: Callable[[], Dataset] | None) -> Dataset:
        """This data set, which `options` load; `whole` loads it without the validation rows that were split off."""
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "whole", whole)
        return self

    def for_folds(self) -> Dataset:
        """The data for a cross-validation: all rows train if validation rows were split off only for want of others.

        Raises DataError if the file has changed since it was loaded.
        """
        return self if self.whole is None else self.whole()

    def __repr__(self) -> str:
        """A table of a few lines: rows of each class, features, weights."""
        parts = [Part("training", self.y_train), Part("validation", self.y_val)]
        names = self.feature_names or tuple(str(index) for index in range(self.X_train.shape[1]))
        return table(self.name, parts, self.classes, names, self.image_shape, self.sample_weight)
