"""Too little memory on a device, wherever it shows: the fit ends on the CPU with the reason, or says what to change in
its caller's words. An allocator that gives nothing from its k-th request on stands for a device that is full."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, script

_HEAD = """
import json, sys, warnings
import cupy, numpy as np
import gpureg
from gpureg.errors import DeviceError, GpuregWarning, OutOfMemoryError
warnings.simplefilter("always")
data = gpureg.load_dataset("digits")
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 3000)
X = (rng.standard_normal((3000, 300)) + y[:, None]).astype(np.float32)

pool, requests = cupy.get_default_memory_pool(), 0
def full_from(k):
    global requests
    requests = 0
    def allocate(size):
        global requests
        requests += 1
        if requests > k:
            raise cupy.cuda.memory.OutOfMemoryError(size, pool.total_bytes(), 1 << 20)
        return pool.malloc(size)
    cupy.cuda.set_allocator(allocate)

def job(strict):
"""

# what a caller calls, and what its advice says
ENTRIES = {
    "fit, sgd": (
        "    found = gpureg.fit(data, epochs=2, l2=(0.0, 0.1), cv=2, device='cuda', strict_device=strict)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "fit, sgd, the best": (
        "    found = gpureg.fit(data, epochs=2, keep='best', l2=(0.0, 0.1), device='cuda', strict_device=strict)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "fit, sgd, the pair, refitted": (
        "    found = gpureg.fit(data, epochs=2, solver='sgd', kernels='pair', l2=(0.0, 0.1), refit='all',\n"
        "        device='cuda', strict_device=strict)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "fit, lbfgs": (
        "    found = gpureg.fit(data, solver='lbfgs', l2=(0.1, 1.0), cv=2, device='cuda', strict_device=strict)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "fit, lbfgs, folds": (
        "    found = gpureg.fit(data, solver='lbfgs', l2=(1.0, 0.1), folds=np.arange(len(data.y_train)) % 2,\n"
        "        class_weight='balanced', score='roc-auc', device='cuda', strict_device=strict)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "fit, lbfgs, a path, refitted and tested": (
        "    found = gpureg.fit(data, solver='lbfgs', l2=(1.0, 0.5, 0.2), refit='all', path_patience=1,\n"
        "        test=(data.X_val, data.y_val), device='cuda', strict_device=strict)\n"
        "    found.model.evaluate(data.X_val, data.y_val), found.model.predict(data.X_val)\n"
        "    return found.device, found.model.coef",
        "Use dtype='float32', a smaller train_size, or a smaller memory.",
    ),
    "LogisticRegression": (
        "    model = gpureg.LogisticRegression(C=1e-3, device='cuda', tol=1e-3, max_iter=20).fit(X, y)\n"
        "    return None, model.coef_",
        "Use dtype='float32', fewer rows, or fewer values of C or folds at a time.",
    ),
    "LogisticRegression, two classes and weights": (
        "    model = gpureg.LogisticRegression(C=1e-3, device='cuda', tol=1e-3, class_weight='balanced')\n"
        "    model.fit(X, y == 1, sample_weight=np.linspace(0.5, 1.5, len(y)))\n"
        "    return None, model.coef_",
        "Use dtype='float32', fewer rows, or fewer values of C or folds at a time.",
    ),
    "LogisticRegressionCV": (
        "    model = gpureg.LogisticRegressionCV(Cs=[1e-4, 1e-3], cv=2, device='cuda', tol=1e-3, max_iter=20)\n"
        "    model.fit(X, y)\n"
        "    return None, model.coef_",
        "Use dtype='float32', fewer rows, or fewer values of C or folds at a time.",
    ),
}

QUICK = ("fit, sgd", "LogisticRegression")  # the others are long

# the fit with a device that is full from its k-th request on, for k over the whole course; what each ended as
_COURSE = """
full_from(1 << 60)
usual = job(False)
count, ended = requests, []
shares = [*np.linspace(0, 1, 9)[:-1], 0.95, 0.99]  # the last are of certificates and what is measured at the end
for k in sorted({int(share * count) for share in shares} | {3, count - 1}):
    full_from(k)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        device, coef = job(False)
    texts = [str(w.message) for w in said if issubclass(w.category, GpuregWarning)]
    np.testing.assert_allclose(np.asarray(coef), np.asarray(usual[1]), rtol=0.02, atol=2e-3)
    assert device in (None, "cpu"), device
    ended.append(texts)
    if "strict" in sys.argv:
        full_from(k)
        try:
            job(True)
            raise SystemExit("a full device was not noticed")
        except (OutOfMemoryError, DeviceError) as error:
            ended[-1].append(str(error))
print(json.dumps({"requests": count, "ended": ended}))
"""


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, marks=[pytest.mark.long] * (entry not in QUICK)) for entry in ENTRIES]
)
def test_a_device_that_is_full_from_some_point_on(soft: dict[str, str], entry: str) -> None:
    call, advice = ENTRIES[entry]
    strict = ["strict"] if entry.startswith("fit") else []
    command = [sys.executable, "-c", f"{_HEAD}{call}\n{_COURSE}", *strict]
    done = subprocess.run(command, env=environment(**soft), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["requests"] > 30
    assert len(found["ended"]) > 5
    for said in found["ended"]:
        reasons = [text for text in said if "memory" in text]
        assert len(reasons) > len(strict), said  # a cross-validation and its refit each find out
        assert re.search(r"cuda:0 (ran out of|has too little|has no) memory", reasons[0])
        assert (
            advice in reasons[0] or "no memory left" in reasons[0]
        )  # the first requests are those that try the device
        assert all("--" not in text for text in reasons), "flags are the command line's"


@pytest.mark.parametrize("solver", [pytest.param("sgd", marks=pytest.mark.long), "lbfgs"])
def test_the_pools_limit_is_what_is_free(soft: dict[str, str], tmp_path: Path, solver: str) -> None:
    env = soft | {"CUPY_GPU_MEMORY_LIMIT": "700000"}
    train = ("train", "--dataset", "digits", "--solver", solver, "--l2", 0.1, "--device", "cuda", "--force", "--out")
    done = script(*train, "a", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert re.search(r"too little memory \(This run needs about .* and 6\d\d KiB are free", done.stderr)
    assert "on cpu" in done.stdout
    done = script(*train, "b", "--strict-device", cwd=tmp_path, **env)
    assert done.returncode == 2
    assert "Use --dtype float32" in done.stderr
    assert not (tmp_path / "b").exists()


def test_every_way_of_saying_it_is_understood(soft: dict[str, str]) -> None:
    job = """
import cupy, pytest
from cupy_backends.cuda.libs.cublas import CUBLASError
from cupy_backends.cuda.libs.cusolver import CUSOLVERError
from gpureg.backend import cupy_backend
from gpureg.errors import OutOfMemoryError
backend = cupy_backend("float32", 0, why="a test", requested="cuda")
runtime, driver = cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError
words = r"cuda:0 ran out of memory \\(.+\\); 4.0 GiB are free"
allocator = cupy.cuda.memory.OutOfMemoryError(8, 8)
for error in (allocator, runtime(2), driver(2), CUBLASError(3), CUSOLVERError(2), MemoryError()):
    with pytest.raises(OutOfMemoryError, match=words), backend.in_use():
        raise error
for error in (runtime(1), driver(1), CUBLASError(13), RuntimeError("out of memory"), ValueError()):
    with pytest.raises(type(error)), backend.in_use():
        raise error
"""
    done = subprocess.run([sys.executable, "-c", job], env=environment(**soft), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_results_for_which_the_callers_device_has_no_memory(soft: dict[str, str]) -> None:
    """CuPy's arrays come back as CuPy's: of the fitted attributes as of predictions."""
    job = f"""{_HEAD}
    return None
import pytest
arrays = cupy.asarray(X), cupy.asarray(y)
model = gpureg.LogisticRegression(C=1e-3, device="cpu", tol=1e-3)
full_from(0)
words = r"too little memory where X lies \\(Out of memory .*\\)\\. Free some of it"
with pytest.raises(OutOfMemoryError, match=words):
    model.fit(*arrays)
full_from(1 << 60)
model.fit(*arrays)
full_from(0)
for method in (model.predict_proba, model.decision_function, model.predict):
    with pytest.raises(OutOfMemoryError, match=words):
        method(arrays[0])
assert model.score(X, y) > 0.5
"""
    done = subprocess.run([sys.executable, "-c", job], env=environment(**soft), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
