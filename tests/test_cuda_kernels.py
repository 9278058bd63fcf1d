"""`CudaKernels` whole, executed on the CPU, against the reference in the plain array API."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hostcuda import settings
from hostcuda.ops import host_backend, host_kernels

from gpureg.backend import numpy_backend
from gpureg.kernels.cuda import ops as ops_module
from gpureg.kernels.cuda.memory import Budget
from gpureg.kernels.reference import ReferenceKernels
from gpureg.losses import LOSSES
from gpureg.types import RunShape, StepPlan

N, D = 150, 7
WAYS = ("fused", "pair")
TOLERANCE = {"float32": 5e-6, "float64": 1e-12}
tasks = pytest.mark.parametrize(("task", "classes"), [("softmax", 5), ("logistic", 2)])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def problem(task: str, classes: int, models: int = 3) -> SimpleNamespace:
    """Samples with a bias column, two columns of row weights (a mask among them), and weights to start from."""
    rng = np.random.default_rng(classes)
    X = np.concatenate([rng.standard_normal((N, D - 1)), np.ones((N, 1))], axis=1)
    weights = np.stack([rng.uniform(0.5, 2.0, N), rng.random(N) > 0.3], axis=1)
    K = 1 if task == "logistic" else classes
    return SimpleNamespace(
        X=X, y=rng.integers(0, classes, N), weights=weights, W=0.3 * rng.standard_normal((D, models * K)), models=models
    )


def plan(models: int, *, l2=0.0, weighted=True, penalize_bias=True, steps=6, batch=16, snapshots=(0, 3)) -> StepPlan:
    order = np.random.default_rng(steps).integers(0, N, (steps, batch))
    column = np.arange(models) % 2 if weighted else None
    l2 = np.full(models, l2) * np.arange(models)  # the first model goes without
    return StepPlan(order, 0.1 * (1.0 + np.arange(models)), l2, column, tuple(snapshots), penalize_bias)


def both(task, classes, dtype, p, chosen: StepPlan, **options):
    """What the reference (in float64) and the CUDA kernels make of the same steps."""
    reference = ReferenceKernels(numpy_backend("float64"), LOSSES[task], classes)
    cuda = host_kernels(task, classes, dtype, **options)
    results = []
    for kernels in (reference, cuda):
        rows = kernels.place(p.X, p.y, p.weights, None)
        W, losses, snapshots = kernels.steps(kernels.weights(p.W.copy()), rows, chosen)
        results.append([kernels.to_host(a) for a in (W, losses, *snapshots)])
    return results


@tasks
@dtypes
@pytest.mark.parametrize("steps_by", WAYS)
@pytest.mark.parametrize(
    "options",
    [{}, {"l2": 0.3}, {"l2": 0.3, "penalize_bias": False}, {"weighted": False, "l2": 0.01}, {"batch": 1, "steps": 5}],
    ids=["plain", "penalty", "free bias", "unweighted", "batch of one"],
)
def test_steps(task, classes, dtype, steps_by, options):
    p = problem(task, classes)
    wanted, got = both(task, classes, dtype, p, plan(p.models, **options), steps_by=steps_by)
    assert len(got) == len(wanted) == 4
    for mine, reference in zip(got, wanted, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@tasks
def test_steps_do_not_depend_on_the_order_of_the_lanes(task, classes):
    p = problem(task, classes)
    for steps_by in WAYS:
        found = []
        for reverse in (False, True):
            with settings(reverse=reverse):
                found.append(both(task, classes, "float32", p, plan(p.models, l2=0.1), steps_by=steps_by)[1])
        for forward, backward in zip(*found, strict=True):
            np.testing.assert_array_equal(forward, backward)


@tasks
@dtypes
def test_evaluation_and_gradient(task, classes, dtype):
    p = problem(task, classes)
    reference = ReferenceKernels(numpy_backend("float64"), LOSSES[task], classes)
    column = np.array([0, 1, 1])
    for memory in (None, 4000):  # 4000 bytes: blocks of a few rows, the last one ragged
        cuda = host_kernels(task, classes, dtype, memory=memory)
        mine, theirs = (k.place(p.X, p.y, p.weights, None) for k in (cuda, reference))
        W, V = cuda.weights(p.W), reference.weights(p.W)
        tolerance = {"rtol": TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
        loss, hits = cuda.evaluate(W, mine, with_loss=True)
        wanted_loss, wanted_hits = reference.evaluate(V, theirs, with_loss=True)
        np.testing.assert_allclose(loss, wanted_loss, **tolerance)
        np.testing.assert_array_equal(hits, wanted_hits)
        np.testing.assert_array_equal(cuda.evaluate(W, mine, with_loss=False)[1], wanted_hits)
        for chosen in (column, None):
            got, wanted = (k.cost_and_gradient(w, r, chosen) for k, w, r in ((cuda, W, mine), (reference, V, theirs)))
            np.testing.assert_allclose(got[0], wanted[0], **tolerance)
            np.testing.assert_allclose(got[1], wanted[1], **tolerance)


@tasks
@dtypes
def test_a_weighted_evaluation(task, classes, dtype):
    p = problem(task, classes)
    weight = np.arange(len(p.y)) % 3.0
    found = []
    reference = ReferenceKernels(numpy_backend("float64"), LOSSES[task], classes)
    for kernels in (host_kernels(task, classes, dtype), reference):
        rows = kernels.place(p.X, p.y, None, None, weight)
        blocks = (rows, kernels.subset(rows, np.arange(5, len(p.y))))
        found += [kernels.evaluate(kernels.weights(p.W), block, with_loss=True) for block in blocks]
    for mine, theirs in ((found[0], found[2]), (found[1], found[3])):
        np.testing.assert_allclose(mine[0], theirs[0], rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
        np.testing.assert_array_equal(mine[1], theirs[1])


@tasks
@pytest.mark.parametrize("steps_by", ["fused", "pair"])
def test_a_small_budget_cuts_the_run_and_changes_nothing(task, classes, steps_by):
    p = problem(task, classes)
    chosen = plan(p.models, l2=0.1)
    whole, cut = (both(task, classes, "float64", p, chosen, memory=m, steps_by=steps_by)[1] for m in (None, 2500))
    assert Budget(2500).gather_steps(16, D, p.models, 8) < len(chosen.order)
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(a, b)


def test_select_concat_and_subset():
    p = problem("softmax", 5)
    cuda, reference = (
        host_kernels("softmax", 5, "float64"),
        ReferenceKernels(numpy_backend("float64"), LOSSES["softmax"], 5),
    )
    W = cuda.weights(p.W)
    np.testing.assert_array_equal(cuda.select(W, np.array([2, 0])), reference.select(p.W, np.array([2, 0])))
    np.testing.assert_array_equal(cuda.concat([W, W]), np.concatenate([p.W, p.W], axis=1))
    part = cuda.subset(cuda.place(p.X, p.y, p.weights, None), np.array([3, 1]))
    assert part.n == 2
    np.testing.assert_array_equal(part.X, p.X[[3, 1]])


@tasks
@pytest.mark.parametrize(("steps_by", "l2", "launches"), [("fused", 0.0, 3), ("fused", 0.5, 4), ("pair", 0.5, 2)])
def test_launches_per_step(task, classes, steps_by, l2, launches):
    """Each further step adds its launches and nothing else: the gather, the reduction and the upload are once a run."""
    p = problem(task, classes)
    counted = []
    for steps in (4, 7):  # below the length of a graph
        kernels = host_kernels(task, classes, "float32", steps_by=steps_by)
        rows = kernels.place(p.X, p.y, p.weights, None)
        with settings() as launched:
            kernels.steps(kernels.weights(p.W), rows, plan(p.models, l2=l2, steps=steps, snapshots=()))
        counted.append(len(launched))
    assert counted[1] - counted[0] == 3 * launches


@pytest.mark.parametrize(("classes", "way"), [(32, "sgd_forward"), (33, "softmax_grad_loss_k33")])
def test_the_pair_is_for_models_of_a_warps_width(classes, way):
    p = problem("softmax", classes, models=2)
    wanted, got = both("softmax", classes, "float64", p, plan(2, weighted=False), steps_by="pair")
    for mine, reference in zip(got, wanted, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-12, atol=1e-12)
    kernels = host_kernels("softmax", classes, "float64", steps_by="pair")
    with settings() as launched:
        kernels.steps(kernels.weights(p.W), kernels.place(p.X, p.y, None, None), plan(2, weighted=False))
    assert way in launched


def steps_of(kernels, p, chosen: StepPlan) -> list[str]:
    """What the steps launch."""
    rows = kernels.place(p.X, p.y, None, None)
    with settings() as launched:
        kernels.steps(kernels.weights(p.W[:, : len(chosen.lr) * kernels.n_columns]), rows, chosen)
    return launched


@pytest.mark.parametrize(("most", "way"), [(16 * D * 15, "sgd_forward"), (16 * D * 15 - 1, "softmax_grad_loss_k5")])
def test_auto_takes_the_pair_for_narrow_steps(most, way, monkeypatch):
    monkeypatch.setattr("gpureg.kernels.cuda.pair.QUICK", most)
    p = problem("softmax", 5)
    assert way in steps_of(host_kernels("softmax", 5, "float64", steps_by="auto"), p, plan(3, weighted=False))


def test_auto_changes_over_as_models_stop_and_gives_the_memory_back(monkeypatch):
    monkeypatch.setattr("gpureg.kernels.cuda.pair.QUICK", 16 * D * 10)
    p, kernels = problem("softmax", 5), host_kernels("softmax", 5, "float64", steps_by="auto")
    assert "softmax_grad_loss_k5" in steps_of(kernels, p, plan(3, weighted=False))
    assert kernels._minibatches._memory is not None
    assert "sgd_forward" in steps_of(kernels, p, plan(2, weighted=False))
    assert kernels._minibatches._memory is None


def test_more_features_than_a_block_takes_at_once():
    rng = np.random.default_rng(4)
    X, y, W = 0.1 * rng.standard_normal((9, 1100)), rng.integers(0, 3, 9), rng.standard_normal((1100, 3))
    run = StepPlan(rng.integers(0, 9, (3, 5)), np.array([0.5]), np.array([0.1]), None, (1,))
    found = []
    for kernels in (
        ReferenceKernels(numpy_backend("float64"), LOSSES["softmax"], 3),
        host_kernels("softmax", 3, "float64", steps_by="pair"),
    ):
        end, losses, (snapshot,) = kernels.steps(kernels.weights(W.copy()), kernels.place(X, y, None, None), run)
        found.append([kernels.to_host(a) for a in (end, losses, snapshot)])
    for wanted, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("steps_by", WAYS)
def test_a_diverged_model_shows_and_leaves_the_others_alone(steps_by):
    p = problem("softmax", 5)
    p.W[:, 5:10] = np.nan
    chosen = plan(p.models, weighted=False)
    with np.errstate(invalid="ignore"):
        wild = both("softmax", 5, "float32", p, chosen, steps_by=steps_by)[1]
    p.W[:, 5:10] = 0.0
    tame = both("softmax", 5, "float32", p, chosen, steps_by=steps_by)[1]
    assert not np.isfinite(wild[1][:, 1]).any()
    np.testing.assert_array_equal(wild[1][:, [0, 2]], tame[1][:, [0, 2]])
    np.testing.assert_array_equal(wild[0][:, :5], tame[0][:, :5])


def test_the_estimate_counts_what_is_held():
    shape, data = RunShape(30_000, 30_000, 785, 1, 1, False, False), 30_000 * 785 * 4
    kernels = {dtype: host_kernels("softmax", 10, dtype) for dtype in ("float32", "float64")}
    needed = kernels["float32"].run_bytes(shape)
    assert data < needed < data + 10_000_000  # one gathered copy of the samples, and little else
    assert kernels["float64"].run_bytes(shape) > 1.9 * needed
    whole = replace(shape, full_batch=True)
    factorised = kernels["float32"].run_bytes(replace(whole, factorised=785)) - kernels["float32"].run_bytes(whole)
    assert factorised >= 2 * 8 * 785**2


def test_memory_that_is_kept_between_runs_of_steps_does_not_show():
    """A shorter run takes the front of it, another shape new memory: each as from kernels that ran nothing before."""
    p = problem("softmax", 5)
    kept = host_kernels("softmax", 5, "float64")
    rows = kept.place(p.X, p.y, p.weights, None)
    for models, steps, weighted in ((3, 6, True), (3, 2, True), (3, 6, False), (2, 4, True), (3, 8, True)):
        run = plan(models, weighted=weighted, steps=steps, snapshots=(1,))
        start = p.W[:, : 5 * models]
        new = host_kernels("softmax", 5, "float64")
        found = kept.steps(kept.weights(start.copy()), rows, run)
        wanted = new.steps(new.weights(start.copy()), new.place(p.X, p.y, p.weights, None), run)
        for mine, its in zip((*found[:2], *found[2]), (*wanted[:2], *wanted[2]), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_the_budget_cuts_by_itself_not_by_what_is_free():
    assert Budget(4_000_000).block_rows(100, 10, 4) == 1_000_000 // 450
    assert Budget(1).block_rows(100, 10, 4) == 1
    assert Budget(1).gather_steps(128, 785, 1, 4) == 1


@pytest.mark.parametrize(("rows", "blocks"), [(50_000, 2), (41_425, 1), (41_426, 2), (7, 1), (0, 0)])
def test_row_blocks_are_even(rows, blocks):
    """144 models of 10 classes: 41,425 rows are a quarter of the budget, and no more are taken at once."""
    budget = Budget()
    size = budget.even_block(rows, 1440, 144, 4)
    assert size <= budget.block_rows(1440, 144, 4)
    sizes = [min(size, rows - start) for start in range(0, rows, max(size, 1))]
    assert len(sizes) == blocks
    assert max(sizes, default=0) - min(sizes, default=0) < max(1, blocks)


def test_steps_by_graphs_are_the_reference():
    """Runs that are several graphs and some steps, or less than one; other samples, rates and weights between them."""
    p = problem("softmax", 5)
    reference = ReferenceKernels(numpy_backend("float64"), LOSSES["softmax"], 5)
    pair = host_kernels("softmax", 5, "float64", steps_by="pair")
    placed = {k: [k.place(p.X, p.y, p.weights, None), k.place(p.X[::-1], p.y, None, None)] for k in (reference, pair)}
    for which, chosen in (
        (0, plan(3, l2=0.1, steps=21, snapshots=(0, 7, 8, 20))),
        (0, plan(3, l2=0.2, steps=9, snapshots=(8,), penalize_bias=False)),
        (1, plan(3, steps=17, weighted=False, snapshots=())),
        (1, plan(3, l2=0.3, steps=17, weighted=False, snapshots=(3,))),
        (0, plan(2, steps=8, snapshots=(7,))),
        (0, plan(2, steps=30, snapshots=tuple(range(10)))),
    ):
        found = []
        for kernels in (reference, pair):
            start = kernels.weights(p.W[:, : 5 * len(chosen.lr)].copy())
            W, losses, snapshots = kernels.steps(start, placed[kernels][which], chosen)
            found.append([kernels.to_host(a) for a in (W, losses, *snapshots)])
        for wanted, mine in zip(*found, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-10, atol=1e-12)


def test_cupys_operations_with_numpy_in_its_place(monkeypatch):
    """The calls that go to CuPy's documented functions, which need a device, at least have NumPy's meaning."""
    ops = ops_module.CupyOps(host_backend("float64"), documented_only=True)
    monkeypatch.setattr(ops, "_cp", np)
    rng = np.random.default_rng(0)
    x, r, W = rng.standard_normal((5, 3)), rng.standard_normal((5, 4)), rng.standard_normal((3, 4))
    for alpha, beta in ((1.0, 0.0), (-1.0, 1.0), (1.0, 1.0)):
        out = W.copy()
        ops.matmul_transposed(x, r, out, alpha=alpha, beta=beta)
        np.testing.assert_allclose(out, alpha * x.T @ r + beta * W, rtol=1e-12)
    product = np.empty((5, 4))
    ops.matmul(x, W, product)
    np.testing.assert_array_equal(product, x @ W)
    rows = ops.empty((2, 3), np.float64)
    ops.take(x, np.array([4, 0]), 0, rows)
    np.testing.assert_array_equal(rows, x[[4, 0]])
    assert ops.zeros((2, 2), np.float64).sum() == 0
    assert ops.concat([x, x]).shape == (5, 6)
    assert ops.contiguous(x.T).flags.c_contiguous
    assert ops.broadcast_to(x[:, None], (5, 2, 3)).strides[1] == 0


def test_without_the_undocumented_module_the_product_still_adds(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", None)  # as where it does not load
    ops = ops_module.CupyOps(host_backend("float64"))
    monkeypatch.setattr(ops, "_cp", np)
    out = np.ones((2, 2))
    ops.matmul_transposed(np.eye(2), np.eye(2), out, alpha=-1.0, beta=1.0)
    np.testing.assert_array_equal(out, 1.0 - np.eye(2))
