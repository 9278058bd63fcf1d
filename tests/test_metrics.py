"""Metrics of predictions: scikit-learn's values, the calibration error by hand, intervals by resampling."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from gpureg.model.bootstrap import _Statistics, _weights
from gpureg.model.metrics import METRICS, measure
from gpureg.model.rows import Rows, bins, joined


def predicted(n: int = 400, K: int = 4, weighted: bool = False, seed: int = 0) -> Rows:
    """Rows of which about half are predicted right; some probabilities are equal."""
    random = np.random.default_rng(seed)
    y = random.integers(0, K, n)
    logits = np.round(random.normal(size=(n, K)), 1) + 1.0 * (np.arange(K) == y[:, None])
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    weights = random.integers(1, 5, n).astype(float) if weighted else None
    return Rows(y, p.argmax(axis=1), p, -np.log(p[np.arange(n), y]), weights)


@pytest.mark.parametrize("K", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_they_are_scikit_learn_s(K: int, weighted: bool) -> None:
    rows = predicted(K=K, weighted=weighted)
    y, p, w = rows.y, rows.probabilities, rows.weights
    found = measure(rows, list(range(K)))
    expected: dict[str, Any] = {
        "loss": sk.log_loss(y, p, sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "accuracy": sk.accuracy_score(y, rows.predicted, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, rows.predicted, sample_weight=w),
        "top5_accuracy": sk.top_k_accuracy_score(y, p, k=5, sample_weight=w) if K > 5 else None,
        "roc_auc": sk.roc_auc_score(y == 0, p[:, 0], sample_weight=w)
        if K == 2
        else sk.roc_auc_score(y, p, multi_class="ovr", average="macro", sample_weight=w),
    }
    for name, value in expected.items():
        assert getattr(found, name) == (None if value is None else pytest.approx(value, abs=1e-12)), name
    precision, recall, _, support = sk.precision_recall_fscore_support(y, rows.predicted, sample_weight=w)
    np.testing.assert_allclose([one.precision for one in found.per_class], precision, rtol=1e-12)
    np.testing.assert_allclose([one.recall for one in found.per_class], recall, rtol=1e-12)
    np.testing.assert_allclose([one.support for one in found.per_class], support, rtol=1e-12)
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(y, rows.predicted, sample_weight=w))


def test_whole_weights_are_repeated_rows() -> None:
    rows = predicted(K=7, weighted=True)
    assert rows.weights is not None
    each = np.repeat(np.arange(len(rows.y)), rows.weights.astype(int))
    repeated = Rows(rows.y[each], rows.predicted[each], rows.probabilities[each], rows.losses[each])
    one, other = measure(rows, "abcdefg"), measure(repeated, "abcdefg")
    for name in METRICS:
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12), name
    np.testing.assert_allclose(one.confusion, other.confusion)


def test_the_calibration_error_by_hand() -> None:
    """Ten rows at 0.7, of which eight are right, and ten at 0.95, of which five are: (0.1 + 0.45) / 2."""
    p = np.repeat([[0.7, 0.3], [0.95, 0.05]], 10, axis=0)
    y = np.r_[np.repeat([0, 1], [8, 2]), np.repeat([0, 1], [5, 5])]
    found = measure(Rows(y, np.zeros(20, int), p, -np.log(p[np.arange(20), y])), ["a", "b"])
    assert found.ece == pytest.approx((0.1 + 0.45) / 2)


def test_bins_are_equal_and_closed_above() -> None:
    edges = np.linspace(0, 1, 16)
    np.testing.assert_array_equal(bins(edges[1:]), np.arange(15))
    np.testing.assert_array_equal(bins(np.nextafter(edges[:-1], 1)), np.arange(15))
    assert bins(np.array([0.0, 1.0])).tolist() == [0, 14]


def test_what_is_not_defined_is_none() -> None:
    rows = predicted(K=4)
    there = rows.y != 2
    part = Rows(rows.y[there], np.zeros(there.sum(), int), rows.probabilities[there], rows.losses[there])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(part, "abcd", bootstrap=20)
    assert found.roc_auc is None
    assert found.top5_accuracy is None
    assert "roc_auc" not in found.intervals
    assert "accuracy" in found.intervals
    assert found.per_class[2].recall is None
    assert found.per_class[1].precision is None
    assert found.per_class[2].support == 0
    plain = found.to_dict()
    assert plain["per_class"][2] == {"class": "c", "precision": None, "recall": None, "support": 0}
    assert list(plain) == [
        "n", "loss", "log_loss", "accuracy", "balanced_accuracy", "top5_accuracy", "roc_auc", "ece", "per_class",
        "confusion", "intervals",
    ]  # fmt: skip


def test_the_loss_is_not_clipped_and_log_loss_is() -> None:
    p = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = measure(Rows(np.array([0, 1]), np.zeros(2, int), p, np.array([0.0, 800.0])), ["a", "b"])
    assert found.loss == 400.0
    assert found.log_loss == pytest.approx(-np.log(np.finfo(float).eps) / 2)


@pytest.mark.parametrize("K", [2, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_resample_s_metrics_are_those_of_its_rows(K: int, weighted: bool) -> None:
    rows = predicted(60, K, weighted)
    (weights,) = _weights(rows, 8, seed=3)
    found = _Statistics(rows, K, 5).of(weights)
    for number, times in enumerate(weights):
        there = times > 0
        one = measure(
            Rows(rows.y[there], rows.predicted[there], rows.probabilities[there], rows.losses[there], times[there]),
            list(range(K)),
        )
        for name, values in found.items():
            expected = getattr(one, name)
            assert np.isnan(values[number]) if expected is None else values[number] == pytest.approx(expected), name


def test_intervals_are_percentiles_by_the_seed() -> None:
    rows = predicted(300)
    found = measure(rows, "abcd", bootstrap=400, seed=1)
    assert found.intervals == measure(rows, "abcd", bootstrap=400, seed=1).intervals
    assert found.intervals != measure(rows, "abcd", bootstrap=400, seed=2).intervals
    random = np.random.RandomState(1)
    losses = [rows.losses[random.randint(0, 300, 300)].mean() for _ in range(400)]
    assert found.intervals["loss"] == pytest.approx(tuple(np.percentile(losses, [2.5, 97.5])))
    for name, (low, high) in found.intervals.items():
        assert low < high, name
        assert name == "ece" or low < getattr(found, name) < high, name


def test_how_resamples_are_cut_changes_nothing() -> None:
    rows = predicted(50)
    whole = np.concatenate(list(_weights(rows, 30, 0)))
    cut = np.concatenate(list(_weights(rows, 30, 0, at_once=350)))
    np.testing.assert_array_equal(whole, cut)
    np.testing.assert_array_equal(whole.sum(axis=1), 50)


def test_blocks_of_rows_are_one() -> None:
    rows = predicted(90, weighted=True)
    cuts = [slice(0, 40), slice(40, 41), slice(41, 90)]
    assert rows.weights is not None
    parts = [Rows(rows.y[c], rows.predicted[c], rows.probabilities[c], rows.losses[c], rows.weights[c]) for c in cuts]
    assert measure(joined(parts), "abcd") == measure(rows, "abcd")
