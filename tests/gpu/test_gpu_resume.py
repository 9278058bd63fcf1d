"""Resuming on a device: the same bits as without the interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from full_batch import WAYS
from resuming import SWEEP, Memory, assert_same, run
from resuming_lbfgs import Case, check, groups_of

from gpureg.config import FitConfig

from .conftest import device_backend

pytestmark = pytest.mark.gpu
CASES: dict[str, dict[str, Any]] = {
    "single": {"lr": (0.1,), "epochs": 8, "batch_size": 32},
    "sweep": SWEEP,
    "best": SWEEP | {"keep": "best", "dtype": "float64"},
    "cross-validation": SWEEP | {"cv": 3, "epochs": 5},
}
FULL_BATCH = {"solver": "lbfgs", "l2": (1.0, 0.1, 1e-3, 0.0), "max_iter": 40}


@pytest.mark.parametrize(
    ("case", "kernels"),
    [*((case, kernels) for case in CASES for kernels in ("fused", "reference")), ("single", "pair")],
)
def test_interrupted_and_resumed(case: str, kernels: str, tmp_path: Path) -> None:
    config = FitConfig(kernels=kernels, **CASES[case])
    backend = device_backend(config.dtype)
    expected = run(config, None, backend=backend)
    for boundary in (1, 3):
        keeper = Memory(tmp_path)
        run(config, boundary, keeper, backend=backend)
        assert_same(run(config, None, saved=keeper.saved, backend=backend), expected)


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")  # of penalties this large
@pytest.mark.parametrize("options", [{}, {"cv": 2, "dtype": "float64"}, {"penalize_bias": True}], ids=str)
def test_a_path_interrupted_and_resumed(options: dict[str, Any], tmp_path: Path) -> None:
    """Through the front door: the optimum along a path, with its folds and refits."""
    config = FitConfig(**FULL_BATCH | options)
    backend = device_backend(config.dtype)
    expected = run(config, None, backend=backend)
    for boundary in (1, 4, 9):
        keeper = Memory(tmp_path)
        partial = run(config, boundary, keeper, backend=backend)
        assert any(model.stop_reason == "interrupted" for model in partial.models)
        assert_same(run(config, None, saved=keeper.saved, backend=backend), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("task", "more"), [("softmax", ""), ("softmax", "folds"), ("logistic", "folds")])
def test_the_full_batch_solver_killed_after_any_pass(way: str, task: str, more: str) -> None:
    seen = check(Case(way, task, more=more, backend=device_backend("float64")), every=4)
    ways = {meta["batch"]["way"] for _, meta in seen if meta["batch"]}
    assert ways == {"newton": {"newton"}, "alone": {"quasi"}, "whitened": {"quasi", "whitened"}}[way]


@pytest.mark.long
def test_hessians_made_in_groups_are_made_again_in_the_same_groups() -> None:
    """Also where a group has lost a model: a product of another width would round differently."""
    seen = check(Case("whitened", "softmax", more="groups", backend=device_backend("float64")), every=6)
    assert [3, 1] in groups_of(seen)
