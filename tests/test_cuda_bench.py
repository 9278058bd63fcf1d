"""The GPU benchmarks at toy sizes on host-executed kernels: that they run and count; no figure of theirs is kept."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hostcuda.ops import HostOps, host_backend, host_kernels

from gpureg.backend import cuda_unusable
from gpureg.kernels.cuda import fused as trainer_kernels

BENCH = Path(__file__).parent.parent / "bench" / "gpu"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in ("measure", "ours", "peers", "run")})


def test_our_figures(bench, monkeypatch):
    monkeypatch.setattr(trainer_kernels, "CupyOps", lambda backend: HostOps())
    backend, job = host_backend("float32"), bench.ours.Job(n=64, n_val=32, features=4, classes=3, batch=16, epochs=1)
    fused = bench.ours.fused_kernel(backend, HostOps(), 40, 10, copy=1e9)
    assert fused["gradient"]["bytes"] == 40 * (2 * 10 * 4 + 4 + 4)
    assert fused["evaluation"]["bytes"] == 40 * (10 * 4 + 4 + 4 + 1)
    kernels = host_kernels("softmax", 3, "float32")
    assert bench.ours.steps(kernels, backend, job, 2, 0.1)["step_seconds"] > 0
    limits = bench.ours.Limits(1e6, 1e9)
    assert limits.step_seconds(job, 3) == {
        "bandwidth": 4 * (16 * 5 + 2 * 5 * 3) / 1e6,
        "arithmetic": 4 * 16 * 5 * 3 / 1e9,
    }
    found = bench.ours.steps(kernels, backend, job, 2, 0.1, limits=limits)
    assert found["share_of_limit"] == pytest.approx(4 * (16 * 5 + 2 * 5 * 6) / 1e6 / found["step_seconds"])
    assert bench.ours.evaluation(kernels, backend, job, 2)["seconds"]["repeats"] == 7
    assert bench.ours.whole_job(backend, job, (0.0, 0.1), "fused")["models"] == 2
    assert bench.measure.copy_bandwidth(np, lambda: None, size=4096) > 0
    assert bench.measure.product_rate(np, lambda: None, size=8) > 0


def test_peers_do_the_job_or_say_why_not(bench):
    job = bench.ours.Job(n=64, n_val=32, features=4, classes=3, batch=16, epochs=1)
    assert bench.peers.torch_job(job, "eager", device="cpu")["seconds"] > 0
    assert (
        "ModuleNotFoundError" in bench.peers.or_reason(lambda: importlib.import_module("no_such_peer"))["unavailable"]
    )


def test_ratios_and_summary(bench):
    ours = [{"models": 1, "kernels": "auto", "seconds": 2.0}, {"models": 1, "kernels": "reference", "seconds": 6.0}]
    peers = [{"mode": "eager", "seconds": 10.0}, {"unavailable": "it is not there"}]
    found = {"report_job": ours, "peers": peers}
    assert bench.run.ratios(found) == {"PyTorch eager": 5.0, "gpureg's reference kernels": 3.0}
    path = {"samples": 9, "features": 2, "classes": 3, "C": 4, "seconds": 0.5}
    found |= {
        "paths": [path],
        "ratios": bench.run.ratios(found),
        "machine": {"card": "a card"},
        "limits": {"bytes_per_second": 1e12, "operations_per_second": 4.2e13},
        "fused_kernel": [{"rows": 10, "classes": 3, "dtype": "float32", "gradient": {"share_of_copy": 0.5}}],
        "steps": {
            "fused": [{"models": 1, "l2": 0.0, "step_seconds": 1e-4, "share_of_limit": 0.25, "launches_per_step": 3.0}]
        },
    }
    text = bench.run.summary(json.loads(json.dumps(found)))
    assert "50% of the copy" in text
    assert "multiplies at 42.0 TFLOP/s" in text
    assert "100.0 µs a step, 25% of the card's limit, 3.0 launches" in text


@pytest.mark.skipif(cuda_unusable(0) is None, reason="there is a GPU here")
def test_without_a_gpu_nothing_is_written(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "--out", str(tmp_path)])
    assert bench.run.main() == 3
    assert "No benchmark was run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
