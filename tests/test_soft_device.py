"""CuPy itself on a device made of host memory (`softdevice`): the GPU tests, and the program, run unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, same_run, script

ROOT = Path(__file__).resolve().parent.parent
# what even a soft device can't show, by the reason that the test gives
ALLOWED_SKIPS = ("GB of device memory are free",)


@pytest.mark.long
@pytest.mark.mnist
def test_the_gpu_tests_pass_on_it(soft: dict[str, str], tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """All of `tests/gpu`: launches, transfers, memory, two devices, resuming, the report's numbers; without
    those marked `long`, unless this suite runs them too."""
    log = tmp_path / "device.log"
    log.touch()
    env = environment(**soft, GPUREG_REQUIRE_GPU="1", SOFTDEVICE_MEMORY="3000000000", SOFTDEVICE_LOG=str(log))
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "tests/gpu"]
    whole = bool(pytestconfig.getoption("--all"))
    command += ["--all"] if whole else []
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.M)
    assert all(any(reason in line for reason in ALLOWED_SKIPS) for line in skipped), skipped
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= (115 if whole else 100)


@pytest.mark.long
@pytest.mark.parametrize("order", ["SOFTDEVICE_EAGER", "SOFTDEVICE_REVERSE"])
def test_kernels_and_resuming_pass_in_other_orders(soft: dict[str, str], order: str) -> None:
    """Work that is done as early as CUDA allows, where it is done as late otherwise; blocks and lanes reversed."""
    env = environment(**soft, GPUREG_REQUIRE_GPU="1", SOFTDEVICE_MEMORY="3000000000") | {order: "1"}
    chosen = ("tests/gpu/test_gpu_kernels.py", "tests/gpu/test_gpu_resume.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d{2} passed", done.stdout)


DIGITS = ("train", "--dataset", "digits", "--force")
TRAIN = (*DIGITS, "--epochs", 4, "--out")


def test_both_devices_give_the_same_bits(soft: dict[str, str], tmp_path: Path) -> None:
    for device in ("cuda", "cuda:1"):
        done = script(*TRAIN, device.replace(":", ""), "--device", device, cwd=tmp_path, **soft)
        assert done.returncode == 0, done.stderr
        assert f"on {device if ':' in device else 'cuda:0'}" in done.stdout
    same_run(tmp_path / "cuda", tmp_path / "cuda1")


def test_the_current_device_is_left_alone_where_cupy_is_first_loaded_by_a_fit(soft: dict[str, str]) -> None:
    job = (
        "import gpureg, sys; assert 'cupy' not in sys.modules; data = gpureg.load_dataset('digits');"
        "assert gpureg.fit(data, epochs=1, device='cuda:1', strict_device=True).device == 'cuda:1';"
        "import cupy; assert cupy.cuda.runtime.getDevice() == 0"
    )
    done = subprocess.run([sys.executable, "-c", job], env=environment(**soft), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_current_device_is_left_alone_where_the_caller_chose_it_before_cupy_was_loaded(
    soft: dict[str, str],
) -> None:
    """As PyTorch would: the runtime knows it, and CuPy does not yet."""
    job = (
        "import ctypes, gpureg, os, sys; assert 'cupy' not in sys.modules;"
        "runtime = ctypes.CDLL(os.environ['SOFTDEVICE_LIBRARIES'].split(os.pathsep)[0]); runtime.cudaSetDevice(1);"
        "data = gpureg.load_dataset('digits');"
        "assert gpureg.fit(data, epochs=1, device='cuda:0', strict_device=True).device == 'cuda:0';"
        "found = ctypes.c_int(-1); runtime.cudaGetDevice(ctypes.byref(found)); assert found.value == 1"
    )
    done = subprocess.run([sys.executable, "-c", job], env=environment(**soft), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


_SLOW_DOUBLES = """
import numpy as np, pytest, gpureg
from gpureg.errors import GpuregWarning
data, slow = gpureg.load_dataset("digits"), "cuda:0 is 32 times as slow in float64 as in float32"
assert gpureg.fit(data, epochs=1).device == "cuda:0"
assert gpureg.fit(data, epochs=1, device="cuda", dtype="float64").device == "cuda:0"
with pytest.warns(GpuregWarning, match=f"Running on the CPU: {slow}; device='cuda:0' or dtype='float32' uses it"):
    found = gpureg.fit(data, epochs=1, dtype="float64")
assert (found.device, found.environment["device_why"]) == ("cpu", slow)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((3000, 300)), rng.integers(0, 10, 3000)
import cupy
pool = cupy.get_default_memory_pool()
pool.free_all_blocks()
before = pool.total_bytes()
gpureg.LogisticRegression(C=1e-4).fit(X, y)
assert pool.total_bytes() < before + X.nbytes // 4, "it was fitted on the device"
gpureg.LogisticRegression(C=1e-4).fit(X.astype(np.float32), y)
assert pool.total_bytes() > before + X.nbytes // 4, "it was not fitted on the device"
"""


def test_auto_leaves_a_device_alone_that_is_slow_in_float64(soft: dict[str, str]) -> None:
    env = environment(**soft, SOFTDEVICE_DOUBLE_RATIO="32")
    done = subprocess.run([sys.executable, "-c", _SLOW_DOUBLES], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_large_upload_pins_little(soft: dict[str, str], tmp_path: Path) -> None:
    """CuPy pins a copy of what it uploads, in sizes of powers of 2, and keeps it for the process."""
    log = tmp_path / "device.log"
    job = (
        "import cupy, numpy as np; from gpureg.backend import cupy_backend;"
        "backend = cupy_backend('float32', 0, why='a test', requested='cuda');"
        "rows = np.arange(30_000_000, dtype=np.float32).reshape(-1, 3)[::2];"  # not contiguous, as a part of the rows
        "np.testing.assert_array_equal(cupy.asnumpy(backend.from_host(rows)), rows)"
    )
    env = environment(**soft, SOFTDEVICE_LOG=str(log))
    done = subprocess.run([sys.executable, "-c", job], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pinned = [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("pinned")]
    assert sum(pinned) < 1 << 20


def test_an_idle_device_runs_nothing(soft: dict[str, str]) -> None:
    """As the benchmark of the host's time wants it: neither a kernel nor a product."""
    job = (
        "import cupy; assert not cupy.ones(3).any();"
        "a, out = cupy.asarray([[2.0, 3.0]]), cupy.zeros((1, 1)); cupy.matmul(a, a.T, out=out);"
        "assert not out.get().any()"
    )
    env = environment(**soft, SOFTDEVICE_IDLE="1")
    done = subprocess.run([sys.executable, "-c", job], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_the_launches_of_a_pass_to_the_optimum(soft: dict[str, str]) -> None:
    """By the benchmark of the host's part, which runs whole: no loop of launches over models, vectors or pairs, and one
    transfer back."""
    command = [sys.executable, "bench/cuda_host.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.findall(r"^lbfgs, (\d) model.* (\d+) launches, 2 transfers there and 1 back a pass", done.stdout, re.M)
    assert [int(models) for models, _ in found] == [1, 6]
    assert all(int(launches) <= 54 for _, launches in found)
    hessians = re.search(r"^Hessians of 10 models +(\d+) launches", done.stdout, re.M)
    assert hessians is not None
    assert int(hessians[1]) <= 400


def test_info_names_the_card(soft: dict[str, str], tmp_path: Path) -> None:
    shown = script("info", cwd=tmp_path, **soft).stdout
    assert re.search(r"^cuda +usable$", shown, re.M)
    assert re.search(r"^card +name soft device 0, compute capability 9.0, memory 4.0 GiB, driver 13.0", shown, re.M)


@pytest.mark.parametrize(("library", "solver"), [("cublas", "sgd"), ("cusolver", "lbfgs")])
def test_a_missing_library_is_a_reason_and_no_bug(
    soft: dict[str, str], tmp_path: Path, library: str, solver: str
) -> None:
    """CuPy installs without cuBLAS and cuSOLVER, and counts its devices all the same."""
    env = soft | {"SOFTDEVICE_WITHOUT": library}
    options = ("--solver", solver, "--l2", 0.1, "--device", "cuda")
    done = script(*DIGITS, "--out", "a", *options, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert "a CUDA library is missing" in done.stderr
    assert "Running on the CPU" in done.stderr
    done = script(*DIGITS, "--out", "b", *options, "--strict-device", cwd=tmp_path, **env)
    assert done.returncode == 3
    assert "pip install 'gpureg[cuda13]'" in done.stderr
    assert "bug" not in done.stderr
    assert not (tmp_path / "b").exists()


def test_too_little_memory_is_seen_before_the_start(soft: dict[str, str], tmp_path: Path) -> None:
    env = soft | {"SOFTDEVICE_MEMORY": "700000"}
    done = script(*TRAIN, "a", "--device", "cuda", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert re.search(r"too little memory \(This run needs about 1\.\d MiB on cuda:0 .* KiB are free", done.stderr)
    assert "on cpu" in done.stdout
    done = script(*TRAIN, "b", "--device", "cuda", "--strict-device", cwd=tmp_path, **env)
    assert done.returncode == 2
    assert not (tmp_path / "b").exists()
