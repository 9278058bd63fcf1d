"""What a run was made with: versions, devices, BLAS and threads. `gpureg info` shows it, environment.json stores it."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from typing import Any

from threadpoolctl import threadpool_info

from gpureg.version import __version__

PACKAGES = ("numpy", "scikit-learn", "cupy-cuda13x", "cupy-cuda12x", "array-api-compat", "matplotlib", "safetensors")


def describe_environment() -> dict[str, Any]:
    """Versions, machine and BLAS as plain values."""
    return {
        "gpureg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "executable": sys.executable,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "blas": [
            {key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for library in threadpool_info()
            if library.get("user_api") == "blas"
        ],
    }


def blas_threads() -> int:
    """The number of threads that the BLAS uses now: `threads` limits it, and the bits of a product depend on it."""
    counts = [library["num_threads"] for library in threadpool_info() if library.get("user_api") == "blas"]
    return max(counts, default=1)


@cache  # reading a package's metadata takes a millisecond
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
