"""Builds the soft device, once per version of CuPy and of these sources, and tells the environment that finds it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from hostcuda.build import CXX, cache_dir

HERE = Path(__file__).parent
TESTS = HERE.parent
CUBLAS, CUSOLVER, DRIVER = "libcublas.so.13", "libcusolver.so.12", "libcuda.so.1"
# asked for by cuda-pathfinder before the two above; nothing of them is called
EMPTY = ("libcublasLt.so.13", "libcusparse.so.12", "libnvJitLink.so.13")
_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-w")


class SoftDeviceError(RuntimeError):
    """It can't be built here; the text says why."""


@functools.cache
def environment() -> dict[str, str]:
    """Variables for a process that is to see the soft device. Raises SoftDeviceError."""
    home = _home()
    if not home.exists():
        _build(home)
    return {
        "PYTHONPATH": os.pathsep.join([str(home / "site"), str(TESTS)]),
        "SOFTDEVICE_LIBRARIES": os.pathsep.join(
            str(home / "lib" / name) for name in (DRIVER, *EMPTY, CUBLAS, CUSOLVER)
        ),
        "SOFTDEVICE_LAPACK": _lapack(),
        "CUPY_ACCELERATORS": "",  # CUB comes compiled for real devices
        "CUPY_CACHE_IN_MEMORY": "1",  # hostcuda keeps what it compiled
        "CUPY_TF32": "0",
    }


def _home() -> Path:
    sources = "".join(p.read_text() for p in sorted(HERE.iterdir()) if p.suffix in (".cpp", ".h", ".py"))
    key = hashlib.sha256(f"{_cupy_version()} {sys.version} {_cuda_include()} {sources}".encode()).hexdigest()[:16]
    return cache_dir() / f"softdevice-{key}"


def _build(home: Path) -> None:
    if sys.platform != "linux":
        raise SoftDeviceError("it is built on Linux only")
    made = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        for folder in ("lib", "site", "work"):
            (made / folder).mkdir()
        _shadow(made / "site")
        _runtime_object(made / "work")
        _libraries(made)
        extension = f"cupy_backends/cuda/api/runtime{sysconfig.get_config_var('EXT_SUFFIX')}"
        _run(CXX, "-shared", made / "work" / "runtime.o", made / "lib" / DRIVER, "-o", made / "site" / extension)
        shutil.rmtree(made / "work")
        made.rename(home)
    except OSError as error:
        if not home.exists():  # else somebody was faster
            raise SoftDeviceError(str(error)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _shadow(site: Path) -> None:
    """CuPy's backends as links, without the wrapper of the runtime; CuPy itself is taken from where it is installed."""
    installed = Path(_package("cupy_backends"))
    for path in installed.rglob("*"):
        made = site / "cupy_backends" / path.relative_to(installed)
        if path.is_dir():
            made.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".so" and path.name.startswith("runtime."):
            continue
        elif "__pycache__" not in path.parts:
            made.parent.mkdir(parents=True, exist_ok=True)
            made.symlink_to(path)
    (site / "sitecustomize.py").symlink_to(HERE / "sitecustomize.py")


def _runtime_object(work: Path) -> None:
    """`cupy_backends.cuda.api.runtime` of the installed version, compiled from its source against the CUDA headers."""
    _source(work)
    # build constants, as CuPy's own build sets them
    constants = {"CUPY_USE_CUDA_PYTHON": False, "CUPY_CUDA_VERSION": 13000, "CUPY_HIP_VERSION": 0}
    options = [option for name, value in constants.items() for option in ("-E", f"{name}={value}")]
    api = work / "cupy_backends" / "cuda" / "api"
    _run(sys.executable, "-m", "cython", "-3", "--cplus", *options, "cupy_backends/cuda/api/runtime.pyx", cwd=work)
    (work / "cuda_profiler_api.h").write_text(
        'extern "C" int cudaProfilerStart(void);\nextern "C" int cudaProfilerStop(void);\n'
    )
    includes = [work, work / "cupy_backends", sysconfig.get_path("include"), np.get_include(), _cuda_include()]
    flags = [f"-I{path}" for path in includes]
    _run(CXX, *_FLAGS, "-O0", *flags, "-c", api / "runtime.cpp", "-o", work / "runtime.o")


def _source(work: Path) -> None:
    """CuPy's source archive, through pip, as everything else that the tests need."""
    archives = work / "archives"
    # without this variable CuPy's build looks for a CUDA toolkit just to say what the archive holds
    environment = os.environ | {"CUPY_INSTALL_USE_STUB": "1"}
    version = _cupy_version()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "cupy", f"cupy=={version}"]
    _run(*pip, "--dest", archives, env=environment)
    with tarfile.open(archives / f"cupy-{version}.tar.gz") as archive:
        for member in archive.getmembers():
            parts = Path(member.name).parts[1:]
            if parts[:1] == ("cupy_backends",) and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                path = work.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def _libraries(home: Path) -> None:
    work, lib = home / "work", home / "lib"
    backends = Path(_package("cupy_backends")) / "cuda" / "libs"
    for name in ("cuda", "streams", "libraries"):
        _run(CXX, *_FLAGS, f"-I{_cuda_include()}", "-c", HERE / f"{name}.cpp", "-o", work / f"{name}.o")
    runtime = _undefined(work / "runtime.o")
    _link(work, lib / DRIVER, ("cuda", "streams"), runtime, "SOFT { global: cu*; _ZN4soft*; _ZTHN4soft*; local: *; };")
    for target, module, prefix in ((CUBLAS, "cublas", "cublas"), (CUSOLVER, "cusolver", "cusolver")):
        wanted = _undefined(*backends.glob(f"{module}.*.so"))
        _link(work, lib / target, ("libraries",), wanted, f"{target} {{ global: {prefix}*; local: *; }};", lib / DRIVER)
    (work / "empty.c").write_text("")
    for name in EMPTY:
        _run(CXX, "-shared", "-x", "c", work / "empty.c", f"-Wl,-soname,{name}", "-o", lib / name)


def _link(work: Path, target: Path, names: tuple[str, ...], wanted: set[str], versions: str, *others: Path) -> None:
    """A library of object files in which every function that is wanted and missing ends the process with its name."""
    objects = [work / f"{name}.o" for name in names]
    missing = sorted(wanted - {symbol for file in objects for symbol in _symbols("--defined-only", file)})
    stub = 'extern "C" int {0}() {{ std::fprintf(stderr, "soft device: {0} is not there\\n"); std::abort(); }}'
    rest = work / f"{target.name}.cpp"
    rest.write_text("\n".join(["#include <cstdio>", "#include <cstdlib>", *map(stub.format, missing), ""]))
    script = work / f"{target.name}.map"
    script.write_text(versions)
    linker = [f"-Wl,-soname,{target.name}", f"-Wl,--version-script={script}"]
    _run(CXX, *_FLAGS, "-shared", *objects, rest, *others, *linker, "-ldl", "-o", target)


def _undefined(*files: Path) -> set[str]:
    """The CUDA functions that object files and libraries ask for."""
    return {s for f in files for s in _symbols("--undefined-only", f) if re.match(r"cu(da|blas|solver)?[A-Z]", s)}


def _symbols(which: str, file: Path) -> set[str]:
    dynamic = ["--dynamic"] if file.suffix == ".so" else []
    lines = _run("nm", *dynamic, which, file).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.strip()}


def _cupy_version() -> str:
    try:
        return importlib.metadata.version("cupy-cuda13x")
    except importlib.metadata.PackageNotFoundError as error:
        raise SoftDeviceError("cupy-cuda13x is not installed") from error


def _cuda_include() -> str:
    """The CUDA headers that come as packages."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for header in Path(root).glob("*/include/cuda_runtime_api.h"):
            return str(header.parent)
    raise SoftDeviceError("the CUDA headers (nvidia-cuda-runtime, nvidia-cuda-crt) are not installed")


def _package(name: str) -> str:
    return next(iter(importlib.util.find_spec(name).submodule_search_locations))


def _lapack() -> str:
    """NumPy's own OpenBLAS, with 64-bit integers."""
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for path in folder.glob("libscipy_openblas64_*.so"):
        return str(path)
    raise SoftDeviceError("NumPy brings no OpenBLAS of its own here")


def _run(*command, cwd=None, env=None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SoftDeviceError(f"{' '.join(map(str, command))}\n{(done.stderr or done.stdout)[-3000:]}")
    return done.stdout
