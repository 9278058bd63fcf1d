"""Figures of an evaluation show its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from test_metrics import predicted

from gpureg.figures.evaluation import evaluation_figures, reliability, roc
from gpureg.figures.style import figure_bytes
from gpureg.model.metrics import measure
from gpureg.model.rows import Rows


@pytest.mark.parametrize("K", [2, 3, 12])
@pytest.mark.parametrize("weighted", [False, True])
def test_three_figures_that_can_be_saved(K: int, weighted: bool) -> None:
    rows = predicted(K=K, weighted=weighted)
    figures = dict(evaluation_figures(rows, [f"${k}$ long name of a class" for k in range(K)]))
    assert list(figures) == ["confusion", "reliability", "roc"]
    for figure in figures.values():
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("weighted", [False, True])
def test_reliability_shows_the_calibration_error(weighted: bool) -> None:
    rows = predicted(K=4, weighted=weighted)
    found = measure(rows, "abcd")
    upper, lower = reliability(rows).axes
    (line,) = (line for line in upper.lines if "error" in str(line.get_label()))
    assert line.get_label() == f"model (expected calibration error {found.ece:.4f})"
    assert sum(bar.get_height() for bar in lower.patches) == pytest.approx(1)
    confidence, accuracy = line.get_xydata().T
    shares = np.array([bar.get_height() for bar in lower.patches if bar.get_height()])
    assert (shares * np.abs(accuracy - confidence)).sum() == pytest.approx(found.ece)


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_roc_curves_are_scikit_learn_s(K: int, weighted: bool) -> None:
    rows = predicted(K=K, weighted=weighted)
    names = "abcdefgh"[:K]
    (axes,) = roc(rows, names).axes
    lines = {str(line.get_label()): line for line in axes.lines}
    for k, name in enumerate(names[: 1 if K == 2 else K]):
        area = sk.roc_auc_score(rows.y == k, rows.probabilities[:, k], sample_weight=rows.weights)
        x, y = lines[f"{name} ({area:.4f})"].get_xydata().T
        false, true, _ = sk.roc_curve(
            rows.y == k, rows.probabilities[:, k], sample_weight=rows.weights, drop_intermediate=False
        )
        np.testing.assert_allclose(x, false, atol=1e-12)
        np.testing.assert_allclose(y, true, atol=1e-12)
    auc = measure(rows, names).roc_auc
    assert K == 2 or f"mean ({auc:.4f})" in lines


def test_what_is_not_defined_is_said() -> None:
    rows = predicted(K=2)
    mine = rows.y == 0
    one = Rows(rows.y[mine], rows.predicted[mine], rows.probabilities[mine], rows.losses[mine])
    (axes,) = roc(one, "ab").axes
    assert [text.get_text() for text in axes.texts] == ["not defined: all rows are of one class"]
