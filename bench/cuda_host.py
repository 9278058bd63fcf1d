"""What CUDA steps and passes cost the host, measured without a GPU: launches, and the time to make them.

python bench/cuda_host.py [--write]

A step of 128 x 785 x 10 is so small that launching it may take longer than running it, and so is all of an lbfgs pass
but its products. CuPy itself runs on the soft device of the tests, which counts what it is asked for. For the times
that device accepts launches and products and runs none (SOFTDEVICE_IDLE): what is left is the time of gpureg and CuPy
in Python and Cython. A real launch adds the driver's own part, and the device may be the slower of the two: none of
these is a figure of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import busy, say, write

HERE = Path(__file__).parent
STEPS = (("fused", 1, 0.0), ("fused", 1, 0.02), ("fused", 32, 0.02), ("pair", 1, 0.02), ("pair", 32, 0.02))
STEPS += (("reference", 1, 0.02),)
WIDTHS = 1, 6  # models of an lbfgs pass: one, and five folds with the refit
WHITENED = 10
NO_LAUNCHES = ("copy", "memset", "wait", "pinned")


def measured(backend: Any) -> dict[str, Any]:
    """Microseconds, on the idle device."""
    from ours import Job, steps

    from gpureg.kernels.choice import choose_kernels
    from gpureg.losses import Softmax

    job, stepping = Job(), []
    for which, models, l2 in STEPS:
        found = steps(choose_kernels(backend, Softmax(), 10, which), backend, job, models, l2)
        stepping.append(
            {"kernels": which, "models": models, "l2": l2, "step_us": round(found["step_seconds"] * 1e6, 2)}
        )
    passes = {models: sorted(seconds_of(lbfgs_pass(backend, models), 100) for _ in range(7)) for models in WIDTHS}
    return {
        "steps": stepping,
        "passes": [{"models": models, "pass_us": round(times[3] * 1e6, 1)} for models, times in passes.items()],
        "calls_us": calls(backend),
        "torch_step_us": round(torch_step() * 1e6, 2),
    }


def counted(backend: Any) -> dict[str, Any]:
    """Launches (a product is one) and transfers, on a device that computes."""
    log = Path(os.environ["SOFTDEVICE_LOG"])

    def launched(work: Callable[[], object], times: int = 1) -> dict[str, float]:
        work()
        before = len(log.read_text().splitlines())
        for _ in range(times):
            work()
        names = log.read_text().splitlines()[before:]
        launches = sum(not name.startswith(NO_LAUNCHES) for name in names)
        up, down = (sum(name == f"copy to the {where}" for name in names) for where in ("device", "host"))
        return {"launches": launches / times, "to_device": up / times, "to_host": down / times}

    found = [{"models": models, **launched(lbfgs_pass(backend, models), 10)} for models in WIDTHS]
    return {"passes": found, "whitening": {"models": WHITENED, **launched(whitening(backend, WHITENED))}}


def problem_of(backend: Any, models: int) -> tuple[Any, Any, Any]:
    """1,000 samples of 64 features in 10 classes, placed; models with as many penalties; a free bias."""
    from gpureg.config import FitConfig
    from gpureg.kernels.choice import choose_kernels
    from gpureg.losses import Softmax
    from gpureg.rows.dense import DenseRows
    from gpureg.solvers.problem import Problem
    from gpureg.types import ModelTable

    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1000)
    X = np.concatenate([rng.standard_normal((1000, 64)) + rng.standard_normal((10, 64))[y], np.ones((1000, 1))], axis=1)
    kernels = choose_kernels(backend, Softmax(), 10)
    rows = DenseRows.place(kernels, X.astype(np.float32), y, None, None)
    table = ModelTable.plain(np.geomspace(1e-4, 1e-3, models), np.ones(models))
    return Problem(rows, None, {}, table, 1000, 65, False), kernels, FitConfig(solver="lbfgs", penalize_bias=False)


def lbfgs_pass(backend: Any, models: int) -> Callable[[], object]:
    """A pass of models that go on whatever they find: every one takes its step and stores a pair.

    What an idle device finds is what its memory held before, so the host is told ones instead.
    """
    from gpureg.solvers.lbfgs.conditioning import spectrum
    from gpureg.solvers.lbfgs.descent import LbfgsDescent
    from gpureg.solvers.lbfgs.state import Batch

    problem, kernels, config = problem_of(backend, models)
    if "SOFTDEVICE_IDLE" in os.environ:
        usual = kernels.to_host
        kernels.to_host = lambda array: np.ones_like(usual(array))
    descent, every = LbfgsDescent(problem, kernels, config), np.arange(models)
    W, variables = np.zeros((models, 10, 65)), spectrum(kernels, problem.train, free=True)
    batch = Batch.begin(descent.objective(every), every, W, way="quasi", noise=descent.noise, spectrum=variables)
    state = descent.blank()
    return lambda: descent._pass(state, batch)


def whitening(backend: Any, models: int) -> Callable[[], object]:
    """The Hessians of models, factorised and inverted."""
    from gpureg.solvers.lbfgs.descent import LbfgsDescent
    from gpureg.solvers.lbfgs.hessian import whitened

    problem, kernels, config = problem_of(backend, models)
    every = np.arange(models)
    objective = LbfgsDescent(problem, kernels, config).objective(every)
    W = backend.from_host(0.1 * np.random.default_rng(1).standard_normal((models, 10, 65)))
    return lambda: whitened(objective, W, every)


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


def child(what: str) -> dict[str, Any]:
    """Run in a process that sees the device."""
    from gpureg.backend import cupy_backend

    sys.path.insert(0, str(HERE / "gpu"))
    backend = cupy_backend("float32", 0, why="a benchmark", requested="cuda")
    with backend.in_use(), np.errstate(all="ignore"):
        return measured(backend) if what == "time" else counted(backend)


def on_the_device(what: str, **changes: str) -> dict[str, Any]:
    """A child's figures."""
    from softdevice.build import environment

    seen = os.environ | environment() | {"SOFTDEVICE_MEMORY": str(8 << 30)} | changes
    command = [sys.executable, __file__, "--child", what]
    done = subprocess.run(command, env=seen, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table; with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into bench/results/cpu")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child)))
        return
    note = busy()
    if note:
        say(note)
    sys.path.insert(0, str(HERE.parent / "tests"))
    with tempfile.NamedTemporaryFile() as log:
        found = {"counts": on_the_device("count", SOFTDEVICE_LOG=log.name)} | on_the_device("time", SOFTDEVICE_IDLE="1")
    for row in found["steps"]:
        print(f"{row['kernels']:10s} L = {row['models']:2d}, λ = {row['l2']:<5g} {row['step_us']:7.1f} µs a step")
    for row, times in zip(found["counts"]["passes"], found["passes"], strict=True):
        print(
            f"lbfgs, {row['models']} model(s) {row['launches']:7.0f} launches, {row['to_device']:.0f} transfers there "
            f"and {row['to_host']:.0f} back a pass, {times['pass_us']:.0f} µs"
        )
    row = found["counts"]["whitening"]
    print(f"Hessians of {row['models']} models {row['launches']:7.0f} launches, {row['to_device']:.0f} transfers there")
    for name, microseconds in found["calls_us"].items():
        print(f"{name:33s} {microseconds:7.2f} µs a call")
    print(f"PyTorch eager, nothing to compute {found['torch_step_us']:7.1f} µs a step")
    if options.write:
        say(f"written to {write('cuda_host', {'busy': note, **found})}")


if __name__ == "__main__":
    main()
