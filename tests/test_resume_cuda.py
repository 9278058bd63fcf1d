"""Resuming on the CUDA kernels, executed on the CPU: the same bits as without the interruption."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hostcuda.ops import HostOps, host_backend
from resuming import SWEEP, Memory, assert_same, run

from gpureg.config import FitConfig
from gpureg.kernels.cuda import fused as trainer_kernels

CASES: dict[str, dict[str, Any]] = {
    "sweep": SWEEP | {"epochs": 6},
    "best": SWEEP | {"keep": "best", "dtype": "float64", "epochs": 5},
    "seeds": SWEEP | {"seeds": 2, "epochs": 3},
    "cross-validation": SWEEP | {"cv": 2, "epochs": 3},
    "wide": SWEEP | {"l2": tuple(np.geomspace(1e-4, 0.5, 50)), "epochs": 5},  # with evaluations in flight
}


@pytest.mark.parametrize(("case", "kernels"), [*((case, "fused") for case in CASES), ("sweep", "pair")])
def test_interrupted_and_resumed(case: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_kernels, "CupyOps", lambda backend: HostOps())
    config = FitConfig(kernels=kernels, **CASES[case])
    backend = host_backend(config.dtype)
    expected = run(config, None, backend=backend)
    for boundary in (1, 2):
        keeper = Memory()
        partial = run(config, boundary, keeper, backend=backend)
        assert any(model.stop_reason == "interrupted" for model in partial.models)
        assert_same(run(config, None, saved=keeper.saved, backend=backend), expected)
