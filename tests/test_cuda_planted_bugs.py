"""Bugs planted in the CUDA sources, one at a time: the parity tests must see every one of them."""

import numpy as np
import pytest
from hostcuda import LaunchError
from hostcuda.oracle import check, hard_cases

from gpureg.kernels.cuda import logistic, softmax

TILE, WARP = 10, 300  # a class count of each family; 10 fills its lanes evenly, 33 does not

# (module, fragment, what is written, what is planted, K)
BUGS = {
    "the row maximum is not subtracted": (softmax, "_TILE_SUM", "exp(v[j] - m)", "exp(v[j])", TILE),
    "the maximum is not shared by the lanes": (softmax, "_ARGMAX", "m = m2;", "", TILE),
    "the last of equal logits wins in a lane": (softmax, "_TILE_HEAD", "v[j] > m", "v[j] >= m", TILE),
    "the last of equal lanes wins": (softmax, "_ARGMAX", "a2 < am", "a2 > am", TILE),
    "ties between lanes are ignored": (softmax, "_ARGMAX", "|| (m2 == m && a2 < am)", "", TILE),
    "the sum is not shared by the lanes": (softmax, "_TILE_SUM", "s += __shfl_xor_sync(mask, s, o, G);", "", TILE),
    "lanes of other rows join": (softmax, "_TILE_SUM", "(mask, s, o, G)", "(mask, s, o + G, 32)", TILE),
    "the mask names every lane": (softmax, "_TILE_HEAD", "G == 32 ? 0xffffffffu", "true ? 0xffffffffu", TILE),
    "absent classes count as a logit of 0": (softmax, "_TILE_HEAD", ": minus_inf;\n    if", ": T(0);\n    if", 33),
    "the target is left out": (softmax, "_TILE_RESIDUAL", "- (k == y ? scale : T(0))", "", TILE),
    "the target is not scaled": (softmax, "_TILE_RESIDUAL", "(k == y ? scale", "(k == y ? T(1)", TILE),
    "the scale is left out": (softmax, "_TILE_RESIDUAL", "scale / s", "T(1) / s", TILE),
    "the loss has the wrong sign": (softmax, "_LOSS", "log(s) - (own - m)", "(own - m) - log(s)", TILE),
    "a NaN row is a hit": (softmax, "_HIT_AFTER_SUM", "&& s == s", "", TILE),
    "a NaN row is a hit where only hits are wanted": (softmax, "_HIT_ALONE", "&& !bad && m - m == 0", "", TILE),
    "an infinite row is a hit": (softmax, "_HIT_ALONE", "&& m - m == 0", "", TILE),
    "NaN is looked for in one lane": (softmax, "_TILE_NAN", "bad |= __shfl_xor_sync(mask, bad, o, G);", "", TILE),
    "row[y] is read while its owner overwrites it": (softmax, "_LOSS", "own - m", "row[y] - m", TILE),
    "the same in a warp": (softmax, "_LOSS", "own - m", "row[y] - m", WARP),
    "the warp's sum stops half way": (softmax, "_WARP_SUM", "o = G / 2", "o = G / 4", WARP),
    "the warp skips the tail of the row": (softmax, "_WARP_RESIDUAL", "k < K; k", "k + G <= K; k", WARP),
    "the warp's maximum is not subtracted": (softmax, "_WARP_SUM", "s += exp(row[k] - m)", "s += exp(row[k])", WARP),
    "the positive class is 1": (logistic, "_MIRROR", "y == 0", "y == 1", 1),
    "exp overflows": (logistic, "_EXP", "u > 0 ? -u : u", "u", 1),
    "the loss forgets its linear part": (logistic, "_LOSS", "(u > 0 ? u : T(0)) + ", "", 1),
    "the sigmoid is mirrored": (logistic, "_RESIDUAL", "u > 0 ? T(1) : e", "u > 0 ? e : T(1)", 1),
    "the residual has the wrong sign": (logistic, "_RESIDUAL", "-scale * p : scale * p", "scale * p : -scale * p", 1),
    "a logit of 0 is positive": (logistic, "_HIT", "z > 0 : z <= 0", "z >= 0 : z < 0", 1),
    "a NaN logit is a hit": (logistic, "_HIT", "z > 0 : z <= 0", "z > 0 : !(z > 0)", 1),
}


@pytest.fixture
def forget_kernels():
    """Kernels are cached by their arguments; a changed source must not meet a cached kernel, nor leave one behind."""

    def forget():
        softmax.softmax_kernel.cache_clear()
        logistic.logistic_kernel.cache_clear()

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
    if planted == "row[y] - m":
        monkeypatch.setattr(softmax, "_SYNC", "")  # the barrier would hide it
    with pytest.raises((AssertionError, LaunchError)), np.errstate(all="ignore"):
        parity(K)


@pytest.mark.parametrize("K", [1, TILE, 33, WARP])
def test_without_a_bug_the_same_check_passes(K, forget_kernels):
    parity(K)
