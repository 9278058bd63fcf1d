"""What only the whole of CuPy on a device shows: work that nobody waits for, handles left in a mode, shared memory.

Each is planted in the product, or done by a kernel of the test's own, and must be seen; the clean code must pass."""

from __future__ import annotations

import subprocess
import sys

import pytest
from commands import environment

# a few weighted, penalised steps, an evaluation and a gradient on the device, against the reference in float64
_PARITY = """
import numpy as np
from gpureg.backend import cupy_backend, numpy_backend
from gpureg.kernels.cuda import CudaKernels
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

rng = np.random.default_rng(0)
X, y, weights = rng.standard_normal((200, 9)), rng.integers(0, 3, 200), rng.uniform(0.5, 1.5, (200, 2))
lr, l2, column = np.array([0.1, 0.2]), np.array([0.0, 0.1]), np.array([0, 1])
plans = [StepPlan(rng.integers(0, 200, (12, 16)), lr, scale * l2, column, (0, 7, 8)) for scale in (1.0, 2.0, 0.5)]
backend = cupy_backend("float32", 0, why="a test", requested="cuda")
softmax = LOSSES["softmax"]
found = []
for kernels in (
    ReferenceKernels(numpy_backend("float64"), softmax, 3),
    CudaKernels(backend, softmax, 3),
    CudaKernels(backend, softmax, 3, steps_by="pair"),
):
    rows, values = kernels.place(X, y, weights, None), []
    W = kernels.weights(np.zeros((9, 6)))
    for plan in plans:
        W, losses, snapshots = kernels.steps(W, rows, plan)
        values += [losses, *snapshots]
    values = [kernels.to_host(array) for array in (W, *values)]
    values += list(kernels.evaluate(kernels.weights(values[0]), rows, with_loss=True))
    found.append(values + [kernels.to_host(a) for a in kernels.cost_and_gradient(W, rows, column)[:2]])
for values in found[1:]:
    for mine, wanted in zip(values, found[0], strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=2e-4, atol=2e-5)
print("as the reference")
"""

# what is planted before, and words of what must come of it
BUGS = {
    "a gather on a stream that nobody waits for": (
        """
import cupy
from gpureg.kernels.cuda.ops import CupyOps
usual = CupyOps.take
def take(self, *arguments):
    with cupy.cuda.Stream(non_blocking=True):
        return usual(self, *arguments)
CupyOps.take = take
""",
        "Not equal to tolerance",
    ),
    "an upload on a stream that nobody waits for": (
        """
import cupy
usual = cupy.asarray
def asarray(*arguments, **options):
    with cupy.cuda.Stream(non_blocking=True):
        return usual(*arguments, **options)
cupy.asarray = asarray
""",
        "Not equal to tolerance",
    ),
    "a graph that repeats the first run's penalties": (
        """
from gpureg.kernels.cuda.pair_steps import PairSteps
usual = PairSteps._load
def load(self, memory, W, plan):
    usual(self, memory, W, plan)
    memory.l2 = self.to_device.floats(plan.l2)
PairSteps._load = load
""",
        "Not equal to tolerance",
    ),
    "a graph whose steps are counted from 0 each time": (
        """
from gpureg.kernels.cuda import pair_steps
def several(step, advance):
    for number in range(pair_steps.STEPS_OF_A_GRAPH):
        step(number)
pair_steps._several = several
""",
        "Not equal to tolerance",
    ),
    "results that are read before they are there": (
        """
from gpureg.kernels.cuda.ops import CupyOps
import cupy
usual = cupy.cuda.Event.synchronize
cupy.cuda.Event.synchronize = lambda self: None
""",
        "Not equal to tolerance",
    ),
    "products that round their factors to TF32": (
        """
from cupy.cuda.device import get_cublas_handle
from cupy_backends.cuda.libs import cublas
cublas.setMathMode(get_cublas_handle(), 3)  # CUBLAS_TF32_TENSOR_OP_MATH
""",
        "a mode that rounds factors to TF32",
    ),
    "device pointer mode left on the handle": (
        """
from cupy.cuda.device import get_cublas_handle
from cupy_backends.cuda.libs import cublas
cublas.setPointerMode(get_cublas_handle(), cublas.CUBLAS_POINTER_MODE_DEVICE)
""",
        "a scalar of the host, in device pointer mode",
    ),
}

# sums 64 kB of doubles in dynamic shared memory
_SHARED = """
import sys
import cupy, numpy as np
source = r'''extern "C" __global__ void reversed(const double* x, double* out, int n) {
  extern __shared__ double kept[];
  for (int j = threadIdx.x; j < n; j += blockDim.x) kept[j] = x[j];
  __syncthreads();
  for (int j = threadIdx.x; j < n; j += blockDim.x) out[j] = kept[n - 1 - j];
}'''
kernel, size, asked = cupy.RawKernel(source, "reversed"), int(sys.argv[1]), int(sys.argv[2])
if asked:
    kernel.max_dynamic_shared_size_bytes = asked
x = cupy.arange(size // 8, dtype=np.float64)
out = cupy.zeros_like(x)
kernel((1,), (128,), (x, out, np.int32(len(x))), shared_mem=size)
np.testing.assert_array_equal(out.get(), x.get()[::-1])
"""


def run(soft: dict[str, str], script: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment(**soft, **more), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [{}, {"SOFTDEVICE_EAGER": "1"}, {"SOFTDEVICE_REVERSE": "1"}], ids=str)
def test_the_kernels_are_the_reference(soft: dict[str, str], options: dict[str, str]) -> None:
    """As late as CUDA allows, as early, and with blocks and lanes in the other order."""
    done = run(soft, _PARITY, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "as the reference" in done.stdout


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(soft: dict[str, str], name: str) -> None:
    planted, words = BUGS[name]
    done = run(soft, planted + _PARITY)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("size", "asked", "words"),
    [
        (48 << 10, 0, None),
        (64 << 10, 0, "more shared memory than was asked for"),
        (64 << 10, 64 << 10, None),
        (200 << 10, 64 << 10, "more shared memory than was asked for"),
        (228 << 10, 228 << 10, "more shared memory than a block can have"),
    ],
)
def test_shared_memory_beyond_48_kb_has_to_be_asked_for(
    soft: dict[str, str], size: int, asked: int, words: str | None
) -> None:
    done = run(soft, _SHARED, size, asked)
    if words is None:
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        assert done.returncode != 0
        assert words in done.stderr
