"""The compile gate: every CUDA kernel becomes machine code for seven architectures, and none spills registers."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from cupy.cuda.compiler import CompileException
from hostcuda import ARCHITECTURES, Arg, compile_cubin, elementwise_source

from gpureg.kernels.cuda import logistic, pair, softmax
from gpureg.kernels.cuda.logistic import logistic_kernel
from gpureg.kernels.cuda.softmax import softmax_kernel
from gpureg.kernels.cuda.sums import sum_kernel
from gpureg.kernels.cuda.update import update_kernel

GRADIENT = {"gradient": True, "loss": True, "hit": False}
EVALUATION = {"gradient": False, "loss": True, "hit": True}
HITS = {"gradient": False, "loss": False, "hit": True}
SUMS = (
    ("float32", "float32"),
    ("float64", "float64"),
    ("float32", "float64"),
    ("bool", "float64"),
    ("bool", "float32"),
)


def softmax_source(K: int, dtype: str, outputs: dict[str, bool], index32: bool = True) -> str:
    labels, matrix = Arg("int32", 3, False, index32), Arg(dtype, 2, True, index32)
    hits = Arg("bool", 2, True, index32)
    args = [labels, Arg(dtype, 3, False, index32), matrix] if outputs["gradient"] else [labels, matrix]
    args += [matrix] * outputs["loss"] + [hits] * outputs["hit"]
    return elementwise_source(softmax_kernel(K, **outputs), args, 3, index32)


def logistic_source(dtype: str, outputs: dict[str, bool], index32: bool = True) -> str:
    labels, matrix = Arg("int32", 2, False, index32), Arg(dtype, 2, True, index32)
    args = [labels, Arg(dtype, 2, False, index32), matrix] if outputs["gradient"] else [labels, matrix]
    args += [matrix] * outputs["loss"] + [Arg("bool", 2, True, index32)] * outputs["hit"]
    return elementwise_source(logistic_kernel(**outputs), args, 2, index32)


def update_source(dtype: str) -> str:
    cube, per_model = Arg(dtype, 3), Arg(dtype, 3, False)
    return elementwise_source(update_kernel(), [cube, per_model, per_model, Arg("int64"), cube], 3)


def sum_source(values: str, weights: str, index32: bool = True) -> str:
    args = [
        Arg(values, 2, True, index32),
        Arg(weights, 2, True, index32),
        Arg("int64"),
        Arg("int64"),
        Arg("float64", 2),
    ]
    return elementwise_source(sum_kernel(), args, 2, index32)


def sources() -> dict[str, str]:
    found = {
        f"sum of {kind}, 64-bit: {not small}": sum_source(*kind, small) for kind in SUMS for small in (True, False)
    }
    for dtype in ("float32", "float64"):
        for K in (2, 4, 10, 33, 100, 256, 1000, 1024, 1100):
            found[f"softmax gradient K={K} {dtype}"] = softmax_source(K, dtype, GRADIENT)
        for K in (4, 256, 1024, 1100):
            found[f"softmax evaluation K={K} {dtype}"] = softmax_source(K, dtype, EVALUATION)
        found[f"softmax hits K=256 {dtype}"] = softmax_source(256, dtype, HITS)
        found[f"softmax hits K=1024 {dtype}"] = softmax_source(1024, dtype, HITS)
        found[f"softmax hits K=1100 {dtype}"] = softmax_source(1100, dtype, HITS)
        found[f"softmax gradient K=10 {dtype} 64-bit"] = softmax_source(10, dtype, GRADIENT, index32=False)
        for name, outputs in (("gradient", GRADIENT), ("evaluation", EVALUATION), ("hits", HITS)):
            found[f"logistic {name} {dtype}"] = logistic_source(dtype, outputs)
        found[f"penalised step {dtype}"] = update_source(dtype)
        for K, L in ((1, 1), (10, 1), (10, 32), (pair.MAX_COLUMNS, 32), (1, 32)):
            for name, source in zip(pair.NAMES, pair.sources(785, K, 128, L, dtype), strict=True):
                found[f"{name} K={K} L={L} {dtype}"] = source
    return found


SOURCES = sources()


@pytest.fixture(autouse=True, scope="module")
def compiler_is_loaded() -> None:
    """The first compilation loads NVRTC's own library, and in 13.0 two threads trip over each other there."""
    compile_cubin(update_source("float32"), ARCHITECTURES[0])


# for the daily tests the shapes that differ most
RARE = re.compile(r"K=(4|33|256|1024|1100) float64|K=(4|256|1024) |hits K=(256|1024)|K=32 L=|K=1 L=32")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if RARE.search(name) else []) for name in SOURCES]
)
def test_compiles_without_spills(name):
    with ThreadPoolExecutor(2) as pool:  # NVRTC compiles outside the interpreter's lock
        compiled = list(pool.map(lambda architecture: compile_cubin(SOURCES[name], architecture), ARCHITECTURES))
    for architecture, (cubin, usage) in zip(ARCHITECTURES, compiled, strict=True):
        assert cubin[:4] == b"\x7fELF"
        assert usage.spills == 0, f"{name} spills {usage.spills} bytes on sm_{architecture}"
        assert usage.stack == 0, f"{name} keeps {usage.stack} bytes a thread in memory on sm_{architecture}"
        assert usage.registers * max(pair.THREADS) <= 65536


def test_a_wrong_name_does_not_compile():
    source = softmax_source(10, "float32", GRADIENT).replace("minus_inf;", "minus_infinity;", 1)
    with pytest.raises(CompileException):
        compile_cubin(source, "80")


def test_a_spill_is_noticed():
    forward, *_ = pair.sources(65, 32, 32, 1, "float64")
    _, usage = compile_cubin(forward.replace("__launch_bounds__(THREADS)", "__launch_bounds__(1024, 2)"), "80")
    assert usage.spills > 0


@pytest.mark.parametrize(
    ("K", "stores"), [(10, "tile[e] ="), (100, "mine[j * G] = v[j]"), (1000, "mine[j * G] = v[j]")]
)
def test_each_logit_is_read_once_and_written_once(K, stores):
    """In the source: one load of a lane's logits and, for whichever warp, one store: all that memory sees of them."""
    body = softmax_source(K, "float32", GRADIENT)
    assert body.count("? mine[j * G]") == body.count(stores) == 1
    assert "row[k]" not in body
    evaluation = softmax_source(K, "float32", EVALUATION)
    assert evaluation.count("mine[") == 1
    assert "tile[" not in evaluation


@pytest.mark.parametrize("outputs", [GRADIENT, EVALUATION, HITS], ids=["gradient", "evaluation", "hits"])
def test_label_and_scale_are_read_once(outputs):
    """CuPy hands them over as references: each further use would be a load behind a store, which it may alias."""
    bodies = [softmax.operation(K, **outputs) for K in (10, 100, 1100)] + [logistic.operation(**outputs)]
    for body in bodies:
        code = re.sub(r"//.*", "", body)
        assert len(re.findall(r"\by\b", code)) == 1
        assert len(re.findall(r"\bscale\b", code)) == outputs["gradient"]
