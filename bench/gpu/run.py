"""The benchmarks of a machine with a GPU, written to bench/results/<card>.json. `make gpu` runs it.

    python bench/gpu/run.py [--device N] [--out DIR] [--quick]

Without a usable GPU it says why, writes nothing and ends with 3.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from measure import copy_bandwidth, product_rate
from ours import Job, Limits, evaluation, fused_kernel, paths, steps, whole_job
from peers import MODES, cuml_job, or_reason, torch_job

from gpureg.backend import Backend, cuda_unusable, cupy_backend
from gpureg.kernels.choice import choose_kernels
from gpureg.kernels.cuda.ops import CupyOps
from gpureg.losses import Softmax

HERE = Path(__file__).parent
LAMBDAS = (2.0, 0.2, 0.02, 0.002)
MODELS = (1, 4, 32, 96)
WAYS = ("fused", "pair", "reference")
JOBS = {"auto": 3, "fused": 3, "pair": 3, "reference": 1}  # repeats
KERNEL_SHAPES = ((1_000_000, 10), (100_000, 1000))  # rows, classes


def main() -> int:
    """Measure and write; the exit code."""
    options = argparse.ArgumentParser(description="gpureg's benchmarks on an NVIDIA GPU")
    options.add_argument("--device", type=int, default=0, help="which CUDA device (0)")
    options.add_argument(
        "--out", type=Path, default=HERE.parent / "results", help="where <card>.json goes (bench/results)"
    )
    options.add_argument("--quick", action="store_true", help="5 epochs of the report's job in place of 50")
    chosen = options.parse_args()
    reason = cuda_unusable(chosen.device)
    if reason is not None:
        print(f"No benchmark was run: {reason}.", file=sys.stderr)
        return 3
    job = Job(epochs=5 if chosen.quick else 50)
    backends = {d: cupy_backend(d, chosen.device, why="a benchmark", requested="cuda") for d in ("float32", "float64")}
    with backends["float32"].in_use():
        found = {"machine": machine(backends["float32"]), "job": vars(job), **measure(backends, job)}
    found["paths"] = paths(f"cuda:{chosen.device}")
    name = re.sub(r"\W+", "-", found["machine"]["card"]).strip("-").lower()
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{name}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(summary(found))
    print(f"written to {path}")
    return 0


def measure(backends: dict[str, Backend], job: Job) -> dict[str, Any]:
    """All figures, ours and the peers', in one process on one card."""
    single = backends["float32"]
    copy = copy_bandwidth(single.xp, single.synchronize)
    limits = Limits(copy, product_rate(single.xp, single.synchronize))
    kernels = [
        fused_kernel(backend, CupyOps(backend), rows, K, copy)
        for backend in backends.values()
        for rows, K in KERNEL_SHAPES
    ]
    variants = {which: choose_kernels(single, Softmax(), job.classes, which) for which in WAYS}
    stepping = {
        which: [steps(twin, single, job, models, l2, limits=limits) for models in MODELS for l2 in (0.0, 0.02)]
        for which, twin in variants.items()
    }
    found: dict[str, Any] = {
        "limits": vars(limits),
        "fused_kernel": kernels,
        "steps": stepping,
        "evaluation": [evaluation(variants["fused"], single, job, models) for models in MODELS],
        "report_job": [
            whole_job(single, job, l2, which, repeats) for which, repeats in JOBS.items() for l2 in ((0.0,), LAMBDAS)
        ],
        "report_job_float64": whole_job(backends["float64"], job, (0.0,), "fused"),
        "peers": [or_reason(lambda mode=mode: torch_job(job, mode)) for mode in MODES],  # type: ignore[misc]
        "cuml": or_reason(lambda: cuml_job(job)),
    }
    found["ratios"] = ratios(found)
    return found


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Others' time over ours on the report's job with one model, same card, same run: above 1 gpureg is faster."""
    ours = next(run["seconds"] for run in found["report_job"] if (run["models"], run["kernels"]) == (1, "auto"))
    others = {f"PyTorch {run['mode']}": run["seconds"] for run in found["peers"] if "seconds" in run}
    for run in found["report_job"]:
        if run["models"] == 1 and run["kernels"] != "auto":
            others[f"gpureg's {run['kernels']} kernels"] = run["seconds"]
    return {name: taken / ours for name, taken in others.items()}


def machine(backend: Backend) -> dict[str, Any]:
    """What the figures were measured on and with."""
    import cupy

    card = dict(backend.card)
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE)
    return {
        "card": card.pop("name"),
        **card,
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "commit": git.stdout.strip() or None,
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def summary(found: dict[str, Any]) -> str:
    """The figures in a few lines."""
    lines = [
        f"{found['machine']['card']}: copies at {found['limits']['bytes_per_second'] / 1e9:.0f} GB/s, "
        f"multiplies at {found['limits']['operations_per_second'] / 1e12:.1f} TFLOP/s in float32"
    ]
    for run in found["fused_kernel"]:
        share = 100 * run["gradient"]["share_of_copy"]
        lines.append(f"fused kernel, {run['rows']:,} x {run['classes']} {run['dtype']}: {share:.0f}% of the copy")
    for which, runs in found["steps"].items():
        for run in runs:
            launches = f", {run['launches_per_step']} launches" if "launches_per_step" in run else ""
            lines.append(
                f"{which}, L = {run['models']}, λ = {run['l2']}: {run['step_seconds'] * 1e6:.1f} µs a step, "
                f"{100 * run['share_of_limit']:.0f}% of the card's limit{launches}"
            )
    lines += [
        f"path: {run['samples']:,} x {run['features']}, {run['classes']} classes, {run['C']} C: {run['seconds']:.2f} s"
        for run in found["paths"]
    ]
    lines += [f"report's job: {name} takes {value:.2f} times as long" for name, value in found["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
