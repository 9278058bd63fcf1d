"""scikit-learn's tests of what uses its `LogisticRegression`, as they are installed, with ours in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from standin.runs import Outcomes, again, run

LEAST = 0.98  # of the tests that are not left aside
OURS_ALONE = "LogisticRegression"  # of what goes through every estimator
# the files of scikit-learn 1.9.1 that use the class, but for its own and the solvers' (sag, svm)
SUITE: dict[str, tuple[str, ...]] = {
    "search and validation": (
        "model_selection/tests/test_search.py",
        "model_selection/tests/test_validation.py",
        "model_selection/tests/test_classification_threshold.py",
        "metrics/tests/test_score_objects.py",
        "metrics/tests/test_ranking.py",
    ),
    "calibration and ensembles": (
        "tests/test_calibration.py",
        "ensemble/tests/test_voting.py",
        "ensemble/tests/test_stacking.py",
        "ensemble/tests/test_bagging.py",
        "ensemble/tests/test_weight_boosting.py",
        "semi_supervised/tests/test_self_training.py",
        "frozen/tests/test_frozen.py",
    ),
    "inspection and plots": (
        "inspection/tests/test_partial_dependence.py",
        "inspection/tests/test_permutation_importance.py",
        "inspection/_plot/tests/test_boundary_decision_display.py",
        "inspection/_plot/tests/test_plot_partial_dependence.py",
        "metrics/_plot/tests",
        "utils/tests/test_plotting.py",
        "utils/tests/test_response.py",
        "utils/tests/test_class_weight.py",
        "utils/tests/test_pprint.py",
        "utils/_repr_html/tests",
    ),
    "multiclass, multioutput, feature selection": (
        "tests/test_multiclass.py",
        "tests/test_multioutput.py",
        "feature_selection/tests/test_rfe.py",
        "feature_selection/tests/test_from_model.py",
        "feature_selection/tests/test_sequential.py",
    ),
    "pipelines, routing, callbacks": (
        "tests/test_pipeline.py",
        "tests/test_metaestimators.py",
        "tests/test_metadata_routing.py",
        "tests/test_metaestimators_metadata_routing.py",
        "callback/tests",
    ),
}
CHECKS = ("utils/tests/test_estimator_checks.py",)
EVERY_ESTIMATOR = ("tests/test_common.py", "linear_model/tests/test_common.py", "ensemble/tests/test_common.py")


def fallen(ours: Outcomes, folder: Path) -> dict[str, str]:
    """Those of the tests that fail with ours, and why, that count: without those that scikit-learn's own class fails,
    as it is or at its optimum.
    """
    failed = set(ours.failed)
    for which in ("exact", "theirs"):
        if failed:
            failed -= set(again(which, failed, folder).failed)
    return {test: ours.failed[test][-600:] for test in sorted(failed)}


def share(ours: Outcomes, lost: dict[str, str]) -> float:
    """What passes, of what passes and what counts."""
    return len(ours.passed) / (len(ours.passed) + len(lost))


@pytest.mark.long
@pytest.mark.parametrize("room", SUITE)
def test_what_uses_the_class_works_with_ours(room: str, tmp_path: Path) -> None:
    ours = run("ours", SUITE[room], tmp_path)
    lost = fallen(ours, tmp_path)
    assert share(ours, lost) >= LEAST, "\n\n".join(f"{test}\n{text}" for test, text in lost.items())
    assert len(ours.passed) > 100


@pytest.mark.long
def test_the_checks_of_every_estimator_work_with_ours(tmp_path: Path) -> None:
    runs = [run("ours", CHECKS, tmp_path), run("ours", EVERY_ESTIMATOR, tmp_path, only=OURS_ALONE)]
    lost = {test: text for ours in runs for test, text in fallen(ours, tmp_path).items()}
    ours = Outcomes(frozenset().union(*(found.passed for found in runs)), {}, 0)
    assert share(ours, lost) >= LEAST, "\n\n".join(f"{test}\n{text}" for test, text in lost.items())
    assert len(ours.passed) > 1000


def test_the_share_counts_what_is_lost() -> None:
    ours = Outcomes(frozenset(map(str, range(98))), {}, 0)
    assert share(ours, {}) == 1.0
    assert share(ours, {"a": "", "b": ""}) == 0.98
