"""What a CUDA step costs the host, measured without a GPU: CuPy itself on a device that accepts launches and runs none.

python bench/cuda_host.py [--write]

A step of 128 x 785 x 10 is so small that launching it may take longer than running it. The soft device of the tests
stands in for driver and cuBLAS with calls that return at once (SOFTDEVICE_IDLE): what is left is the time of gpureg and
CuPy in Python and Cython. A real launch adds the driver's own part, and the device may be the slower of the two: these
are no figures of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import busy, say, write

HERE = Path(__file__).parent
STEPS = (("fused", 1, 0.0), ("fused", 1, 0.02), ("fused", 32, 0.02), ("pair", 1, 0.02), ("pair", 32, 0.02))
STEPS += (("reference", 1, 0.02),)


def measured() -> dict[str, Any]:
    """Run in a process that sees the idle device."""
    sys.path.insert(0, str(HERE / "gpu"))
    from ours import Job, steps

    from gpureg.backend import cupy_backend
    from gpureg.kernels.choice import choose_kernels
    from gpureg.losses import Softmax

    backend, job = cupy_backend("float32", 0, why="a benchmark", requested="cuda"), Job()
    stepping = []
    for which, models, l2 in STEPS:
        found = steps(choose_kernels(backend, Softmax(), 10, which), backend, job, models, l2)
        stepping.append(
            {"kernels": which, "models": models, "l2": l2, "step_us": round(found["step_seconds"] * 1e6, 2)}
        )
    return {"steps": stepping, "calls_us": calls(backend), "torch_step_us": round(torch_step() * 1e6, 2)}


def calls(backend: Any, count: int = 2000) -> dict[str, float]:
    """Microseconds of the host for the single calls that a step is made of, and for those that it does without."""
    import cupy
    from cupy.cublas import gemm

    from gpureg.kernels.cuda.ops import CupyOps
    from gpureg.kernels.cuda.pointwise import SoftmaxPointwise

    ops = CupyOps(backend)
    pointwise = SoftmaxPointwise(10, ops)
    batches, W, Z = (cupy.zeros(shape, np.float32) for shape in ((156, 128, 785), (785, 10), (128, 10)))
    X, loss, scale = batches[3], cupy.zeros((128, 1), np.float32), pointwise.scales(cupy.ones((1, 1), np.float32))
    labels = pointwise.labels(cupy.zeros(128, np.int32), 1)
    work = {
        "product": lambda: ops.matmul(X, W, Z),
        "cupy.matmul": lambda: cupy.matmul(X, W, out=Z),
        "cupy.cublas.gemm": lambda: gemm("T", "N", X, Z, out=W, alpha=-1.0, beta=1.0),
        "fused kernel": lambda: pointwise.gradient(labels, scale, Z, loss),
        "a view of a batch": lambda: batches[3],
    }
    found = {}
    for name, call in work.items():
        taken = [seconds_of(call, count) for _ in range(7)]
        found[name] = round(sorted(taken)[3] * 1e6, 2)
    return found


def seconds_of(call: Callable[[], object], count: int) -> float:
    """The mean of many calls."""
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begun) / count


def torch_step(count: int = 3000) -> float:
    """Seconds that PyTorch's eager step takes where there is nothing to compute, on its CPU device: its launches would
    come on top."""
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    X, y = torch.randn(count, 2, 4), torch.zeros(count, 2, dtype=torch.long)

    def run() -> float:
        begun = time.perf_counter()
        for batch, labels in zip(X, y, strict=True):
            optimizer.zero_grad(set_to_none=False)
            loss = torch.nn.functional.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - begun) / count

    run()
    return sorted(run() for _ in range(5))[2]


def main() -> None:
    """Print the table; with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into bench/results/cpu")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured()))
        return
    note = busy()
    if note:
        say(note)
    sys.path.insert(0, str(HERE.parent / "tests"))
    from softdevice.build import environment

    seen = os.environ | environment() | {"SOFTDEVICE_IDLE": "1", "SOFTDEVICE_MEMORY": str(8 << 30)}
    done = subprocess.run(
        [sys.executable, __file__, "--child"], env=seen, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for row in found["steps"]:
        print(f"{row['kernels']:10s} L = {row['models']:2d}, λ = {row['l2']:<5g} {row['step_us']:7.1f} µs a step")
    for name, microseconds in found["calls_us"].items():
        print(f"{name:33s} {microseconds:7.2f} µs a call")
    print(f"PyTorch eager, nothing to compute {found['torch_step_us']:7.1f} µs a step")
    if options.write:
        say(f"written to {write('cuda_host', {'busy': note, **found})}")


if __name__ == "__main__":
    main()
