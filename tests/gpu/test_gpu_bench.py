"""The whole benchmark at toy sizes: that every part of it runs on a device and is written. No figure of it is kept."""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.long
def test_every_part_runs_and_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent / "bench" / "gpu"))
    run, measure, ours = (importlib.import_module(name) for name in ("run", "measure", "ours"))
    monkeypatch.setattr(ours, "CALLS", 2)
    monkeypatch.setattr(ours, "PATHS", ((60, 5, 3, 2, 1e-3),))
    small = functools.partial(run.Job, n=128, n_val=64, features=6, classes=3, batch=16)
    monkeypatch.setattr(run, "Job", small)
    monkeypatch.setattr(run, "KERNEL_SHAPES", ((60, 10), (4, 1000)))
    monkeypatch.setattr(run, "copy_bandwidth", functools.partial(measure.copy_bandwidth, size=1 << 16))
    monkeypatch.setattr(run, "product_rate", functools.partial(measure.product_rate, size=32))
    monkeypatch.setattr(run, "cuml_job", lambda job: {})  # the peers' own work is not what is tried here
    monkeypatch.setattr(run, "torch_job", lambda job, mode: {"mode": mode, "seconds": 1.0})
    monkeypatch.setattr("sys.argv", ["run.py", "--quick", "--out", str(tmp_path)])
    assert run.main() == 0
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert len(found["fused_kernel"]) == 4
    assert {which: len(runs) for which, runs in found["steps"].items()} == dict.fromkeys(run.WAYS, 2 * len(run.MODELS))
    assert [job["kernels"] for job in found["report_job"][::2]] == list(run.JOBS)
    assert all(job["seconds"] > 0 for job in found["report_job"])
    assert found["ratios"]["PyTorch eager"] > 0
    assert [path["C"] for path in found["paths"]] == [2]
    assert found["machine"]["card"] in capsys.readouterr().out
