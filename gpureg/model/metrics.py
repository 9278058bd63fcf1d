"""Metrics of predictions on labelled rows: scikit-learn's where it has them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpureg.model.bootstrap import intervals
from gpureg.model.rows import BINS, Rows, bins

Doubles = npt.NDArray[np.float64]
TOP = 5


@dataclass(frozen=True)
class ClassMetrics:
    """Of one class: the share of its predictions that are right, the share of its rows that are found, its weight."""

    name: int | float | str
    precision: float | None
    recall: float | None
    support: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics on `n` labelled rows, weighted if the rows have weights; None for what is not defined.

    `loss`: the mean of the model's own loss in nats, from float64 logits, unclipped; `log_loss`: scikit-learn's, which
    clips. `top5_accuracy` with more than 5 classes. `roc_auc`: one against the rest, the mean over classes; None unless
    every class has rows. `ece`: the expected calibration error `Σ_b (n_b / n) |accuracy_b - confidence_b|` over 15
    equal bins of the top probability. `confusion (K, K)`: rows by true (first axis) and predicted class. `intervals`:
    for each metric the 95% interval of its bootstrap, empty without one. Source: Guo et al., On Calibration of Modern
    Neural Networks, 2017 (`ece`).
    """

    n: int
    loss: float | None
    log_loss: float | None
    accuracy: float
    balanced_accuracy: float
    top5_accuracy: float | None
    roc_auc: float | None
    ece: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[float, ...], ...]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` and the result's `test` hold it: plain values, None for what is not defined."""
        value = asdict(self)
        value["per_class"] = [{"class": one.pop("name"), **one} for one in value["per_class"]]
        value["confusion"] = [list(row) for row in self.confusion]
        value["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        return value

    def __repr__(self) -> str:
        """The metrics in a few lines."""
        shown = {name: getattr(self, name) for name in METRICS if getattr(self, name) is not None}
        lines = [f"{name:18s} {value:.6g}{self._interval(name)}" for name, value in shown.items()]
        return "\n".join([f"Evaluation of {self.n:,} rows", *lines])

    def _interval(self, name: str) -> str:
        ends = self.intervals.get(name)
        return "" if ends is None else f"  ({ends[0]:.6g} to {ends[1]:.6g})"


METRICS = ("loss", "log_loss", "accuracy", "balanced_accuracy", "top5_accuracy", "roc_auc", "ece")


def measure(rows: Rows, classes: Sequence[int | float | str], *, bootstrap: int = 0, seed: int = 0) -> Evaluation:
    """The metrics of predicted rows; `bootstrap`: number of resamples for the intervals, drawn by `seed`."""
    from sklearn import metrics

    K = len(classes)
    y, predicted, p, weights = rows.y, rows.predicted, rows.probabilities, rows.weights
    numbers = np.arange(K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without a row, whose metrics are left out or None
        precision, recall, _, support = metrics.precision_recall_fscore_support(
            y, predicted, labels=numbers, sample_weight=weights, zero_division=np.nan
        )
        balanced = metrics.balanced_accuracy_score(y, predicted, sample_weight=weights)
    confusion = metrics.confusion_matrix(y, predicted, labels=numbers, sample_weight=weights)
    per_class = (
        ClassMetrics(name, _number(precision[k]), _number(recall[k]), support[k].item())
        for k, name in enumerate(classes)
    )
    return Evaluation(
        n=len(y),
        loss=_number(np.average(rows.losses, weights=weights)),
        log_loss=_number(metrics.log_loss(y, p, labels=numbers, sample_weight=weights)),
        accuracy=float(metrics.accuracy_score(y, predicted, sample_weight=weights)),
        balanced_accuracy=float(balanced),
        top5_accuracy=_top(y, p, weights) if K > TOP else None,
        roc_auc=_roc_auc(y, p, weights),
        ece=_calibration_error(rows),
        per_class=tuple(per_class),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        intervals=intervals(rows, K, TOP, bootstrap, seed) if bootstrap else {},
    )


def _top(y: npt.NDArray[np.int64], p: Doubles, weights: Doubles | None) -> float:
    from sklearn.metrics import top_k_accuracy_score

    return float(top_k_accuracy_score(y, p, k=TOP, labels=np.arange(p.shape[1]), sample_weight=weights))


def _roc_auc(y: npt.NDArray[np.int64], p: Doubles, weights: Doubles | None) -> float | None:
    from sklearn.metrics import roc_auc_score

    K = p.shape[1]
    if np.unique(y).size < K:
        return None
    if K == 2:
        return float(roc_auc_score(y == 0, p[:, 0], sample_weight=weights))
    return float(roc_auc_score(y, p, multi_class="ovr", average="macro", labels=np.arange(K), sample_weight=weights))


def _calibration_error(rows: Rows) -> float:
    """scikit-learn has none."""
    weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights
    gap = np.bincount(bins(rows.top), weights * (rows.hits - rows.top), minlength=BINS)
    return float(np.abs(gap).sum() / weights.sum())


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
