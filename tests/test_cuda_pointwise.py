"""The fused CUDA kernels, executed on the CPU at their own call sites, against float64 NumPy."""

import numpy as np
import pytest
from hostcuda import host, settings
from hostcuda.ops import HostOps
from hostcuda.oracle import Case, check, execute, hard_cases
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpureg.kernels.cuda.softmax import lanes, softmax_kernel
from gpureg.kernels.cuda.sums import PARTS, Sums
from gpureg.kernels.cuda.update import update_kernel

SHAPES = [("softmax", K) for K in (2, 10, 33, 100, 1000, 1100)] + [("logistic", 1)]
shapes = pytest.mark.parametrize(("task", "K"), SHAPES, ids=[f"{task}-{K}" for task, K in SHAPES])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@shapes
@dtypes
def test_hard_cases(task, K, dtype):
    for case in hard_cases(K, dtype):
        check(task, case)


@pytest.mark.parametrize(("task", "K"), [("softmax", 10), ("softmax", 1000), ("logistic", 1)])
def test_hard_cases_with_64_bit_indexing(task, K):
    for case in hard_cases(K, "float32"):
        check(task, case, index64=True)


@st.composite
def cases(draw, K: int, dtype: str) -> Case:
    """Logits of every size, with ties on purpose; scales with zeros."""
    B, L = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    limit = draw(st.sampled_from([1.0, 1e2, 1e4, 1e6, 1e30]))
    width = 32 if dtype == "float32" else 64
    free = st.floats(-limit, limit, width=width, allow_subnormal=False) if limit in (1.0, 1e2, 1e4, 1e6) else None
    tied = st.sampled_from([-limit, 0.0, limit / 2, limit]).map(lambda v: float(np.dtype(dtype).type(v)))
    z = draw(arrays(dtype, (B, L, K), elements=tied if free is None else draw(st.sampled_from([free, tied]))))
    y = draw(arrays(np.int64, B, elements=st.integers(0, max(K, 2) - 1)))
    rows = draw(st.sampled_from([1, B]))
    scale = draw(arrays(dtype, (rows, L), elements=st.sampled_from([0.0, 2.0**-7, 0.5, 1.0, 3.0])))
    return Case(z, y, scale)


@shapes
@dtypes
def test_drawn_logits(task, K, dtype):
    @hypothesis_settings(max_examples=6 if K == 1000 else 20, deadline=None)
    @given(case=cases(K, dtype))
    def agrees(case):
        check(task, case)

    agrees()


@pytest.mark.parametrize("K", [2, 10, 33, 100, 1000])
def test_residual_rows_sum_to_zero(K):
    for case in list(hard_cases(K, "float64"))[:6]:
        residual = execute("softmax", case)["residual"]
        np.testing.assert_allclose(residual.sum(axis=-1), 0.0, atol=1e-12)


@pytest.mark.parametrize("K", [10, 1000])
def test_permuting_the_classes_permutes_the_columns(K):
    case = next(hard_cases(K, "float64"))
    order = np.random.default_rng(1).permutation(K)
    permuted = Case(case.z[..., order], np.argsort(order)[case.y], case.scale)
    plain, moved = execute("softmax", case), execute("softmax", permuted)
    np.testing.assert_allclose(moved["residual"], plain["residual"][..., order], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(moved["loss"], plain["loss"], rtol=1e-12)


def test_logistic_is_the_softmax_of_the_logit_and_zero():
    rng = np.random.default_rng(2)
    z, y, scale = 5.0 * rng.standard_normal((40, 3, 1)), rng.integers(0, 2, 40), np.ones((1, 3))
    two = execute("softmax", Case(np.concatenate([z, np.zeros_like(z)], axis=-1), y, scale))
    one = execute("logistic", Case(z, y, scale))
    np.testing.assert_allclose(one["residual"][..., 0], two["residual"][..., 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(one["hit"], two["hit"])


def test_a_confident_logistic_residual_keeps_its_precision():
    case = Case(np.full((1, 1, 1), 30.0, np.float32), np.zeros(1, int), np.ones((1, 1), np.float32))
    got = execute("logistic", case)["residual"][0, 0, 0]
    assert got == pytest.approx(-np.exp(-30.0), rel=1e-6)  # sigmoid(30) - 1 is 0 in float32


def test_a_softmax_loss_of_both_variants_is_the_same_bits():
    for case in list(hard_cases(10, "float32"))[:4]:
        got = execute("softmax", case)
        np.testing.assert_array_equal(got["loss"], got["eval_loss"])


@pytest.mark.parametrize(("K", "group"), [(2, 1), (8, 1), (9, 2), (10, 2), (33, 8), (100, 16), (256, 32), (5000, 32)])
def test_lanes_hold_eight_logits_or_fewer_where_a_warp_can(K, group):
    assert lanes(K) == group


def test_a_kernel_without_outputs_or_with_one_class_is_refused():
    with pytest.raises(ValueError, match="2 classes or more"):
        softmax_kernel(1, gradient=True, loss=True, hit=False)
    with pytest.raises(ValueError, match="an output"):
        softmax_kernel(10, gradient=False, loss=False, hit=False)


@dtypes
@pytest.mark.parametrize("free_rows", [0, 1])
def test_the_penalised_step(dtype, free_rows):
    rng = np.random.default_rng(3)
    D, L, K = 7, 3, 5
    W, G = rng.standard_normal((2, D, L, K)).astype(dtype)
    lr, l2 = np.array([[0.1], [0.5], [1.0]], dtype), np.array([[0.0], [1e-6], [2.0]], dtype)
    got = host(W.copy())
    update_kernel()(host(G), host(lr), host(l2), (D - free_rows) * L * K, got)
    decay = 2.0 * l2.astype(float) * W
    decay[D - free_rows :] = 0.0
    np.testing.assert_allclose(got, W - lr * (G + decay), rtol=1e-6 if dtype == "float32" else 1e-14)


def test_a_tiny_penalty_is_not_lost_in_float32():
    # 1 - 2 lr λ is 1 in float32 here; added to a gradient, the penalty survives on the average of many steps
    steps, lr, l2 = 200, 0.01, 1e-6
    assert np.float32(1.0) - np.float32(2.0 * lr * l2) == np.float32(1.0)
    rng = np.random.default_rng(4)
    plain, penalised = (host(np.ones((1, 1, 4096), np.float32)) for _ in range(2))
    rate = host(np.full((1, 1), lr, np.float32))
    for _ in range(steps):
        G = host(rng.standard_normal((1, 1, 4096)).astype(np.float32))
        for W, penalty in ((plain, 0.0), (penalised, l2)):
            update_kernel()(G, rate, host(np.full((1, 1), penalty, np.float32)), W.size, W)
    shrunk = float((plain.astype(float) - penalised.astype(float)).mean())
    assert shrunk == pytest.approx(2.0 * lr * l2 * steps, rel=0.1)


def test_launches_are_one_each():
    case = next(hard_cases(10, "float32"))
    with settings() as launched:
        execute("softmax", case)
    assert launched == ["softmax_grad_loss_k10", "softmax_loss_hit_k10", "softmax_hit_k10"]


@pytest.mark.parametrize("index64", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float64", "bool"])
@pytest.mark.parametrize("weights", ["one", "a row", "a number"])
@pytest.mark.parametrize(("rows", "models"), [(1, 1), (PARTS - 1, 3), (3 * PARTS + 7, 2), (40, 70)])
def test_sums_of_rows(rows, models, weights, kind, index64):
    """Two blocks of different sizes, whose rows go to the same partial sums; the other sum stays as it is."""
    rng = np.random.default_rng(rows)
    shape = {"one": (1, 1), "a row": (rows, 1), "a number": (rows, models)}[weights]
    values = (2.0 * rng.standard_normal((rows, models))).astype(kind)
    weight = rng.uniform(0.5, 2.0, shape).astype("float32" if kind == "float32" else "float64")
    sums = Sums.of(HostOps(), 2, rows, models)
    with settings(index64=index64):
        for block in (slice(0, rows // 3), slice(rows // 3, rows)):
            if block.stop > block.start:
                sums.add(1, host(values[block]), host(weight if weights == "one" else weight[block]))
    want = (values.astype(float) * weight.astype(float)).sum(axis=0)
    np.testing.assert_allclose(sums.total(), [np.zeros(models), want], rtol=1e-12, atol=1e-12 * rows)


def test_sums_have_the_same_bits_in_either_order_of_the_lanes():
    values = host(np.random.default_rng(0).standard_normal((5 * PARTS, 7)).astype(np.float32))
    found = []
    for reverse in (False, True):
        sums = Sums.of(HostOps(), 1, len(values), 7)
        with settings(reverse=reverse):
            sums.add(0, values, host(np.ones((1, 1), np.float32)))
        found.append(np.array(sums.total()))
    np.testing.assert_array_equal(*found)
