"""Resuming on a device: the same bits as without the interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from resuming import SWEEP, Memory, assert_same, run

from gpureg.config import FitConfig

from .conftest import device_backend

pytestmark = pytest.mark.gpu
CASES: dict[str, dict[str, Any]] = {
    "single": {"lr": (0.1,), "epochs": 8, "batch_size": 32},
    "sweep": SWEEP,
    "best": SWEEP | {"keep": "best", "dtype": "float64"},
    "cross-validation": SWEEP | {"cv": 3, "epochs": 5},
}


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
