"""Bugs planted in the CUDA sources, one at a time: the parity tests must see every one of them."""

import numpy as np
import pytest
from hostcuda import LaunchError, settings
from hostcuda.ops import host_kernels
from hostcuda.oracle import check, hard_cases

from gpureg.backend import numpy_backend
from gpureg.kernels.cuda import logistic, pair, softmax, update
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES
from gpureg.types import StepPlan

# class counts: rows of a few lanes, which go through shared memory, of many lanes, and longer than a warp's registers;
# 10 fills its lanes evenly, 33 does not, and 16 rows of 11 are no multiple of 32
TILE, WIDE, WARP = 10, 100, 1100

# (module, fragment, what is written, what is planted, K)
BUGS = {
    "the row maximum is not subtracted": (softmax, "_TILE_SUM", "exp(v[j] - m)", "exp(v[j])", TILE),
    "the maximum is not shared by the lanes": (softmax, "_TILE_MAX", "if (m2 > m) m = m2;", "", TILE),
    "the argmax is not shared by the lanes": (softmax, "_ARGMAX", "m = m2;", "", TILE),
    "the last of equal logits wins in a lane": (softmax, "_TILE_ARGMAX", "v[j] > m", "v[j] >= m", TILE),
    "the last of equal lanes wins": (softmax, "_ARGMAX", "a2 < am", "a2 > am", TILE),
    "ties between lanes are ignored": (softmax, "_ARGMAX", "|| (m2 == m && a2 < am)", "", TILE),
    "the sum is not shared by the lanes": (softmax, "_TILE_SUM", "s += __shfl_xor_sync(mask, s, o, G);", "", TILE),
    "lanes of other rows join": (softmax, "_TILE_SUM", "(mask, s, o, G)", "(mask, s, o + G, 32)", TILE),
    "the mask names every lane": (softmax, "_TILE_HEAD", "G == 32 ? 0xffffffffu", "true ? 0xffffffffu", TILE),
    "absent classes count as a logit of 0": (softmax, "_TILE_HEAD", ": minus_inf;", ": T(0);", 33),
    "the target is left out": (softmax, "_TILE_RESIDUAL", "- (j * G + lane == c ? f : T(0))", "", TILE),
    "the target is not scaled": (softmax, "_TILE_RESIDUAL", "== c ? f", "== c ? T(1)", TILE),
    "the scale is left out": (softmax, "_TILE_RESIDUAL", "f / s", "T(1) / s", TILE),
    "the residuals stay on the shelf": (softmax, "_TILE_STAGED", "tile[e] = shelf[e + t]", "", TILE),
    "the shelf is read before it is full": (softmax, "_TILE_STAGED", "= v[j];\n    __syncwarp();", "= v[j];", TILE),
    "a warp's shelf is another's": (softmax, "_TILE_STAGED", "stage[threadIdx.x / 32u]", "stage[0] + 1", TILE),
    "all rows share a place on the shelf": (softmax, "_TILE_STAGED", "shelf[t / G * K + j", "shelf[j", TILE),
    "the tile is put back upside down": (
        softmax,
        "_TILE_STAGED",
        "= shelf[e + t]",
        "= shelf[32 / G * K - 1 - e - t]",
        11,
    ),
    "a partial warp counts as a whole one": (softmax, "_TILE_STAGED", "i - t + 32 <= _ind.size()", "true", TILE),
    "the tail of the tile is not put back": (softmax, "_TILE_STAGED", "e + t < 32 / G * K", "e + 32 <= 32 / G * K", 11),
    "the loss has the wrong sign": (softmax, "_LOSS", "log(s) - (own - m)", "(own - m) - log(s)", TILE),
    "a NaN row is a hit": (softmax, "_HIT_AFTER_SUM", "&& s == s", "", TILE),
    "a NaN row is a hit where only hits are wanted": (softmax, "_HIT_ALONE", "&& !bad && m - m == 0", "", TILE),
    "an infinite row is a hit": (softmax, "_HIT_ALONE", "&& m - m == 0", "", TILE),
    "NaN is looked for in one lane": (softmax, "_TILE_NAN", "bad |= __shfl_xor_sync(mask, bad, o, G);", "", TILE),
    "row[c] is read while its owner overwrites it": (softmax, "_LOSS", "own - m", "row[c] - m", WIDE),
    "the same in a warp": (softmax, "_LOSS", "own - m", "row[c] - m", WARP),
    "the warp's sum stops half way": (softmax, "_WARP_SUM", "o = G / 2", "o = G / 4", WARP),
    "the warp skips the tail of the row": (softmax, "_WARP_RESIDUAL", "k < K; k", "k + G <= K; k", WARP),
    "the warp's maximum is not subtracted": (softmax, "_WARP_SUM", "s += exp(row[k] - m)", "s += exp(row[k])", WARP),
    "the warp's maximum is one lane's": (softmax, "_WARP_MAX", "if (m2 > m) m = m2;", "", WARP),
    "the last of equal logits wins in a warp": (softmax, "_WARP_ARGMAX", "v > m", "v >= m", WARP),
    "the positive class is 1": (logistic, "_MIRROR", "y == 0", "y == 1", 1),
    "exp overflows": (logistic, "_EXP", "u > 0 ? -u : u", "u", 1),
    "the loss forgets its linear part": (logistic, "_LOSS", "(u > 0 ? u : T(0)) + ", "", 1),
    "the sigmoid is mirrored": (logistic, "_RESIDUAL", "u > 0 ? T(1) : e", "u > 0 ? e : T(1)", 1),
    "the residual has the wrong sign": (logistic, "_RESIDUAL", "-f * p : f * p", "f * p : -f * p", 1),
    "a logit of 0 is positive": (logistic, "_HIT", "z > 0 : z <= 0", "z >= 0 : z < 0", 1),
    "a NaN logit is a hit": (logistic, "_HIT", "z > 0 : z <= 0", "z > 0 : !(z > 0)", 1),
}


# (what is written, what is planted) in the two kernels of a step
PAIR_BUGS = {
    "the partial products are read before they are written": ("= z[j];\n  __syncthreads();", "= z[j];"),
    "all rows of a tile are the first": ("index[first + q < B ? first + q : first]", "index[first]"),
    "the rows of a tile are mixed up": ("partial[j][warp * K + lane]", "partial[j][lane]"),
    "the last tile is left out": ("warp >= TILE || r >= B", "warp >= TILE || first + TILE > B"),
    "the lanes' products are not added": ("kept + __shfl_xor_sync(0xffffffffu, given, o)", "kept"),
    "a lane keeps what it gave": ("kept = upper ? z[2 * j + 1] : z[2 * j]", "kept = upper ? z[2 * j] : z[2 * j + 1]"),
    "the odd one is left out": (
        "z[n / 2] = z[n - 1] + __shfl_xor_sync(0xffffffffu, z[n - 1], o)",
        "z[n / 2] = z[n - 1]",
    ),
    "sums are taken for another class's": ("2 * j + ((lane & o) != 0)", "2 * j + ((lane & o) == 0)"),
    "the odd one is taken for another": (": n - 1;", ": 0;"),
    "a warp's products are left out": ("j < WARPS; ++j) u", "j < WARPS - 1; ++j) u"),
    "the row maximum is not subtracted": ("exp(u - m)", "exp(u)"),
    "the maximum is one lane's": ("if (m2 > m) m = m2;", ""),
    "absent classes join the sum": ("lane < K ? exp(u - m) : T(0)", "exp(u - m)"),
    "the loss forgets the weights": ("= scale * (log(s)", "= (log(s)"),
    "the loss is another class's": ("__shfl_sync(0xffffffffu, u, c)", "__shfl_sync(0xffffffffu, u, 0)"),
    "the residual forgets the weights": ("e * (scale / s)", "e / (s * B)"),
    "the weights of another fold are used": ("* F + column[model]", "* F"),
    "models share their weights forward": ("W + model * K", "W"),
    "models share their residuals": ("* models + model) * K;\n  T* own", "* models) * K;\n  T* own"),
    "the first labels are used": ("index[r];\n  T u", "order[r];\n  T u"),
    "the first batch is used": ("order + (ptrdiff_t)step * B", "order"),
    "only a block's first rows count": ("r += THREADS / FEATURES", "r += B"),
    "only a block's first features count": ("d += THREADS", "d += D"),
    "the gradients are read before they are written": ("= a[j];\n  __syncthreads();", "= a[j];"),
    "a warp's gradients are left out": ("q < WARPS; ++q", "q < WARPS - 1; ++q"),
    "the penalty is halved": ("l2[model] + l2[model]", "l2[model]"),
    "the bias is penalised": ("row < penalized_rows ?", "true ?"),
    "the learning rate is the first model's": ("lr[model]", "lr[0]"),
    "a snapshot is taken before the update": ("+ place] = moved", "+ place] = w"),
    "every snapshot lands in the first": ("snapshots[s * (D * C)", "snapshots[0 * (D * C)"),
    "the last features are left out": ("row >= D", "row >= D - 1"),
    # right where blocks run in the order of their numbers, which nothing promises
    "a block reads weights that another may not have moved yet": (
        "if (s >= 0) snapshots[s * (D * C) + place] = moved;",
        "if (s >= 0 && row >= FEATURES) snapshots[s * (D * C) + place - FEATURES * C] = W[place - FEATURES * C];\n"
        "    if (s >= 0 && row + FEATURES >= D) snapshots[s * (D * C) + place] = moved;",
    ),
}
UPDATE_BUGS = {
    "the penalty is halved": ("(l2 + l2)", "l2"),
    "the bias is penalised": ("i < penalized ?", "true ?"),
    "the penalty misses the learning rate": ("lr * (i < penalized ? g + (l2 + l2) * w : g)", "lr * g + (l2 + l2) * w"),
    "the step goes uphill": ("w -= lr", "w += lr"),
}


@pytest.fixture
def forget_kernels():
    """Kernels are cached by their arguments; a changed source must not meet a cached kernel, nor leave one behind."""

    def forget():
        softmax.softmax_kernel.cache_clear()
        logistic.logistic_kernel.cache_clear()
        update.update_kernel.cache_clear()

    forget()
    yield
    forget()


def parity(K: int) -> None:
    for case in hard_cases(K, "float32"):
        check("logistic" if K == 1 else "softmax", case)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name, monkeypatch, forget_kernels):
    module, fragment, written, planted, K = BUGS[name]
    text = getattr(module, fragment)
    assert written in text, f"{fragment} no longer contains {written!r}: plant the bug anew"
    monkeypatch.setattr(module, fragment, text.replace(written, planted))
    if planted == "row[c] - m":
        monkeypatch.setattr(softmax, "_SYNC", "")  # the barrier would hide it
    with pytest.raises((AssertionError, LaunchError)), np.errstate(all="ignore"):
        parity(K)


@pytest.mark.parametrize("K", [1, TILE, 11, 33, WIDE, WARP])
def test_without_a_bug_the_same_check_passes(K, forget_kernels):
    parity(K)


def steps_parity(*, steps_by: str) -> None:
    """A few weighted, penalised steps with a free bias and snapshots, in both orders of blocks and lanes, against the
    reference."""
    rng = np.random.default_rng(5)
    # more features than a block has threads, more rows than it has groups of them, and both ragged
    X, y, weights = 0.5 * rng.standard_normal((60, 261)), rng.integers(0, 3, 60), rng.uniform(0.2, 2.0, (60, 2))
    X[3] *= 300.0  # a row whose logits overflow exp
    order = rng.integers(0, 60, (4, 35))
    order[:, 0] = 3
    lr, l2, column = np.linspace(0.02, 0.05, 5), np.linspace(0.3, 0.5, 5), np.arange(5) % 2
    plan = StepPlan(order, lr, l2, column, (0, 2), False)
    W = rng.standard_normal((261, 15))
    found = []
    for reverse in (None, False, True):
        reference = ReferenceKernels(numpy_backend("float64"), LOSSES["softmax"], 3)
        kernels = reference if reverse is None else host_kernels("softmax", 3, "float64", steps_by=steps_by)
        with settings(reverse=bool(reverse)):
            rows = kernels.place(X, y, weights, None)
            end, losses, snapshots = kernels.steps(kernels.weights(W.copy()), rows, plan)
        found.append([kernels.to_host(a) for a in (end, losses, *snapshots)])
    for wanted, forward, backward in zip(*found, strict=True):
        np.testing.assert_allclose(forward, wanted, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(forward, backward)


@pytest.mark.parametrize("name", PAIR_BUGS)
def test_a_bug_planted_in_a_raw_kernel_is_caught(name, monkeypatch):
    written, planted = PAIR_BUGS[name]
    fragments = ("ADD_LANES", "_FORWARD", "_BACKWARD")
    found = {part: text for part in fragments if written in (text := getattr(pair, part))}
    assert found, f"the sources no longer contain {written!r}: plant the bug anew"
    for part, text in found.items():
        monkeypatch.setattr(pair, part, text.replace(written, planted))
    with pytest.raises((AssertionError, LaunchError)), np.errstate(all="ignore"):
        steps_parity(steps_by="pair")


@pytest.mark.parametrize("name", UPDATE_BUGS)
def test_a_bug_planted_in_the_penalised_step_is_caught(name, monkeypatch, forget_kernels):
    written, planted = UPDATE_BUGS[name]
    assert written in update.OPERATION
    monkeypatch.setattr(update, "OPERATION", update.OPERATION.replace(written, planted))
    with pytest.raises((AssertionError, LaunchError)), np.errstate(all="ignore"):
        steps_parity(steps_by="fused")


@pytest.mark.parametrize("steps_by", ["fused", "pair"])
def test_without_a_bug_the_steps_pass(steps_by, forget_kernels):
    steps_parity(steps_by=steps_by)
