"""The CUDA kernels under sanitizers: not a byte outside the arrays and no load wider than its address allows, and a
planted one of either is seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

_HARD_CASES = """
from hostcuda.oracle import check, hard_cases
for task, K, dtype in (
    ("softmax", 33, "float64"), ("softmax", 300, "float32"), ("softmax", 1100, "float32"), ("logistic", 1, "float32")
):
    for case in list(hard_cases(K, dtype))[:3]:
        check(task, case)
"""

_STEPS = """
import numpy as np
from gpureg.types import StepPlan
from hostcuda.ops import host_kernels
rng = np.random.default_rng(0)
X, y, weights = rng.standard_normal((40, 9)), rng.integers(0, 3, 40), rng.random((40, 2))
order, lr, l2 = rng.permutation(40)[:36].reshape(4, 9), np.array([0.1, 0.2]), np.array([0.0, 0.1])
plan = StepPlan(order, lr, l2, np.array([0, 1]), (0, 3))
for steps_by in ("fused", "pair"):
    kernels = host_kernels("softmax", 3, "float32", steps_by=steps_by)
    kernels.steps(kernels.weights(np.zeros((9, 6))), kernels.place(X, y, weights, None), plan)
"""

_SUMS = """
import numpy as np
from hostcuda import host
from hostcuda.ops import HostOps
from gpureg.kernels.cuda.sums import PARTS, Sums
rows, models = 2 * PARTS + 5, 3
sums = Sums.of(HostOps(), 1, rows, models)
for shape in ((1, 1), (rows, 1), (rows, models)):
    sums.add(0, host(np.ones((rows, models), np.float32)), host(np.ones(shape, np.float32)))
"""

_SUMS_PLANTED = """
from gpureg.kernels.cuda import sums
changed = sums.OPERATION.replace("j < size", "j <= size")
assert changed != sums.OPERATION
sums.OPERATION = changed
"""

_PLANTED = """
from gpureg.kernels.cuda import softmax
changed = softmax._TILE_HEAD.replace("j * G + lane < K ? mine[j * G] : minus_inf", "mine[j * G]")
assert changed != softmax._TILE_HEAD
softmax._TILE_HEAD = changed
import numpy as np
from hostcuda.oracle import Case, execute
execute("softmax", Case(np.zeros((60, 1, 33), np.float32), np.zeros(60, int), np.ones((1, 1), np.float32)))
"""

_PAIR_PLANTED = """
from gpureg.kernels.cuda import pair
changed = pair._FORWARD.replace("d < D; d += THREADS", "d <= D; d += THREADS")
assert changed != pair._FORWARD
pair._FORWARD = changed
"""

# two floats in a load, from rows of 9: every other row begins in the middle of one
_WIDE_LOAD_PLANTED = """
from gpureg.kernels.cuda import pair
load = "{ const float2 two = *reinterpret_cast<const float2*>(x[q] + (d & ~1)); v[q] = d & 1 ? two.y : two.x; }"
changed = pair._FORWARD.replace("v[q] = x[q][d];", load)
assert changed != pair._FORWARD
pair._FORWARD = changed
"""


def sanitized(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose kernels are built with sanitizers, in a process that has their runtime from the start."""
    compiler = os.environ.get("CXX", "g++")
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        # leaks are the interpreter's own; fibers have stacks that the detector of returned frames does not know
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "HOSTCUDA_SANITIZE": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "PYTHONMALLOC": "malloc",
    }
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", [_HARD_CASES, _STEPS, _SUMS], ids=["pointwise", "steps", "sums"])
def test_no_access_outside_the_arrays(script):
    done = sanitized(script)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "script", [_PLANTED, _PAIR_PLANTED + _STEPS, _SUMS_PLANTED + _SUMS], ids=["pointwise", "pair", "sums"]
)
def test_a_planted_access_outside_is_caught(script):
    done = sanitized(script)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_a_planted_load_that_its_address_does_not_allow_is_caught():
    done = sanitized(_WIDE_LOAD_PLANTED + _STEPS)
    assert done.returncode != 0
    assert "misaligned address" in done.stderr
