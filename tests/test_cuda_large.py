"""More than 2^31 elements, without the memory for them: only the last blocks of a launch are run, on arrays that the
system gives pages to where they are touched. An index that overflows leaves the array, and the process does not live.

Each case runs in a process of its own, with a planted bug (`written`, `planted`, both empty for none)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

_HEAD = """
import mmap, sys
import numpy as np
from hostcuda import settings
from hostcuda.launch import HostArray
from hostcuda.ops import HostOps
from hostcuda.oracle import Case, expected
from gpureg.kernels.cuda import logistic, pair, softmax, sums, update
from gpureg.kernels.cuda.pointwise import POINTWISE
from gpureg.losses import LOSSES

module, fragment, written, planted = sys.argv[1:5]
if written:
    place = globals()[module]
    text = getattr(place, fragment)
    assert written in text, "plant the bug anew"
    setattr(place, fragment, text.replace(written, planted))

def sparse(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    return np.frombuffer(memory, dtype).reshape(shape).view(HostArray)

def last_blocks(count=2):
    return settings(last_blocks=count)

rng = np.random.default_rng(0)
BIG = 2**31 + 2**20
"""

# the last rows of a logits buffer of more than 2^31 elements, against float64 NumPy
_POINTWISE = """
task, K, L = sys.argv[5], int(sys.argv[6]), int(sys.argv[7])
B, last = BIG // (K * L) + 1, 3
z, y = sparse((B, L * K), np.float32), sparse((B,), np.int32)
loss, hit = sparse((B, L), np.float32), sparse((B, L), np.bool_)
z[-last:], y[-last:] = rng.standard_normal((last, L * K)), rng.integers(0, max(K, 2), last)
case = Case(np.array(z[-last:]).reshape(last, L, K), np.array(y[-last:]), np.ones((1, L), np.float32))
want = expected(task, case)
kernels = POINTWISE[LOSSES[task]](K, HostOps())
labels = kernels.labels(y, L)
with last_blocks():
    kernels.evaluate(labels, z, hit, loss)
    assert (hit[-last:] == want.hit).all()
    np.testing.assert_allclose(loss[-last:], want.loss, rtol=1e-5, atol=1e-6)
    loss[-last:] = 0
    kernels.gradient(labels, kernels.scales(np.ones((1, L), np.float32).view(HostArray)), z, loss)
np.testing.assert_allclose(loss[-last:], want.loss, rtol=1e-5, atol=1e-6)
np.testing.assert_allclose(z[-last:].reshape(last, L, K), want.residual, rtol=1e-5, atol=1e-6)
"""

_UPDATE = """
D, L, K = BIG // 1000 + 1, 10, 100
g, w = sparse((D, L, K), np.float32), sparse((D, L, K), np.float32)
g[-2:], w[-2:] = rng.standard_normal((2, 2, L, K))
decay = np.array([0.2, 0.0])[:, None, None] * w[-2:]  # the bias, the last row, goes free
want = w[-2:] - 0.5 * (g[-2:] + decay)
rates = (np.full((L, 1), value, np.float32).view(HostArray) for value in (0.5, 0.1))
with last_blocks(20):
    update.update_kernel()(g, *rates, (D - 1) * L * K, w)
np.testing.assert_allclose(w[-2:], want, rtol=1e-5, atol=1e-6)
"""

# the last step of a run whose samples, losses and snapshots each have more than 2^31 elements
_PAIR = """
N, D, K, B, models, steps, slots = BIG // 65 + 1, 65, 3, 8, 2, BIG // 8 + 1, BIG // 390 + 1
X, y, order = sparse((N, D), np.float32), sparse((N,), np.int32), sparse((steps, B), np.int32)
weights, loss = sparse((N, 2), np.float32), sparse((steps, B, models), np.float32)
slot, snapshots = sparse((steps,), np.int32), sparse((slots, D, models * K), np.float32)
W, R = (rng.standard_normal(shape).astype(np.float32).view(HostArray) for shape in ((D, models * K), (B, models * K)))
X[-B:], y[-B:], weights[-B:] = rng.standard_normal((B, D)), rng.integers(0, K, B), rng.uniform(0.5, 1.5, (B, 2))
order[-1], slot[-1] = np.arange(N - B, N), slots - 1
lr, l2 = (np.array(values, np.float32).view(HostArray) for values in ((0.1, 0.2), (0.3, 0.0)))
column = np.array([1, 0], np.int32).view(HostArray)
start, rows, table = np.array(W), np.array(X[-B:]), np.array(weights[-B:])
case = Case((rows @ start).reshape(B, models, K), np.array(y[-B:]), table[:, column] / B)
want = expected("softmax", case)
gradient = np.einsum("nd,nlk->dlk", rows, want.residual)
end = start.reshape(D, models, K) - lr[:, None] * (gradient + 2 * l2[:, None] * start.reshape(D, models, K))
ops, count, step = HostOps(), np.int32(models), np.int32(7)
at = np.array([steps - 8], np.int32).view(HostArray)
forward, backward, _ = map(ops.raw_kernel, pair.sources(D, K, B, models, "float32"), pair.NAMES)
blocks = pair.blocks(D, K, B, models, 4)
forward(blocks[0], pair.THREADS[0], (X, y, order, weights, np.int32(2), column, W, R, loss, count, at, step))
backward(blocks[1], pair.THREADS[1], (X, order, R, lr, l2, W, slot, snapshots, np.int32(D), count, at, step))
np.testing.assert_allclose(loss[-1], want.loss * case.scale, rtol=1e-5, atol=1e-6)
np.testing.assert_allclose(W.reshape(D, models, K), end, rtol=1e-4, atol=1e-5)
np.testing.assert_array_equal(snapshots[-1], W)
"""

# the last block of threads adds the last rows too
_SUMS = """
models, last = 64, 3
rows = BIG // models // sums.PARTS * sums.PARTS  # so that the last row is the last thread's
v = sparse((rows, models), np.float32)
v[-last:] = rng.standard_normal((last, models))
found = sums.Sums.of(HostOps(), 1, rows, models)
with last_blocks(2):
    found.add(0, v, np.full((1, 1), 0.5, np.float32).view(HostArray))
np.testing.assert_allclose(found.partial[0, -last:], 0.5 * v[-last:], rtol=1e-6)
"""

CLEAN = ("softmax", "", "", "")
CASES = {
    "softmax, rows in registers": (_POINTWISE, ("softmax", "10", "1")),
    "softmax, many lanes a row": (_POINTWISE, ("softmax", "1000", "1")),
    "softmax, a warp a row": (_POINTWISE, ("softmax", "1100", "2")),
    "logistic": (_POINTWISE, ("logistic", "1", "64")),
    "the penalised step": (_UPDATE, ()),
    "the pair": (_PAIR, ()),
    "sums of rows": (_SUMS, ()),
}
# (case, module, fragment, what is written, what is planted)
BUGS = {
    "a row's place in 32 bits": ("softmax, many lanes a row", "softmax", "_TILE_HEAD", "&z[r * K]", "&z[(int)r * K]"),
    "a row's place in 32 bits, few lanes": (
        "softmax, rows in registers",
        "softmax",
        "_TILE_HEAD",
        "&z[r * K]",
        "&z[(int)r * K]",
    ),
    "a row's place in 32 bits in a warp": (
        "softmax, a warp a row",
        "softmax",
        "_WARP_HEAD",
        "&z[r * K]",
        "&z[(int)r * K]",
    ),
    "an element's number in 32 bits": (
        "the penalised step",
        "update",
        "OPERATION",
        "i < penalized",
        "(int)i < penalized",
    ),
    "a sample's place in 32 bits": (
        "the pair",
        "pair",
        "_FORWARD",
        "(ptrdiff_t)index[first + q < B ? first + q : first] * D",
        "index[first + q < B ? first + q : first] * D",
    ),
    "a sample's place in 32 bits, backward": (
        "the pair",
        "pair",
        "_BACKWARD",
        "(ptrdiff_t)index[r] * D",
        "index[r] * D",
    ),
    "a loss's place in 32 bits": (
        "the pair",
        "pair",
        "_FORWARD",
        "((ptrdiff_t)step * B + r) * models",
        "(step * B + r) * models",
    ),
    "a snapshot's place in 32 bits": (
        "the pair",
        "pair",
        "_BACKWARD",
        "snapshots[s * (D * C) + place]",
        "snapshots[s * (D * (int)C) + (int)place]",
    ),
    "a summand's place in 32 bits": ("sums of rows", "sums", "OPERATION", "v[j]", "v[(int)j]"),
    "a batch's place in 32 bits": ("the pair", "pair", "_BACKWARD", "(ptrdiff_t)step * B", "step * B"),
}


def run(case: str, bug: tuple[str, ...] = CLEAN) -> subprocess.CompletedProcess[str]:
    body, arguments = CASES[case]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", _HEAD + body, *bug, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", CASES)
def test_the_last_rows_of_more_than_2_to_the_31_elements(case: str) -> None:
    done = run(case)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_overflow_is_caught(name: str) -> None:
    case, *bug = BUGS[name]
    done = run(case, tuple(bug))
    assert done.returncode != 0
    assert "plant the bug anew" not in done.stderr
