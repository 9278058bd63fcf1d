"""CUDA source to a function of this process: g++, CuPy's own carray.cuh, and hostcuda.h."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from cupy._core import core

HERE = Path(__file__).parent
CXX = os.environ.get("CXX", "g++")
_INCLUDE = core._get_header_dir_path()
_FLAGS = ("-std=c++17", "-fPIC", "-w", "-fno-fast-math")
# a load wider than its address allows ends a launch on a GPU, and an x86 does not mind
_SANITIZED = ("-O1", "-g", "-fsanitize=address,alignment", "-fno-sanitize-recover=alignment")
_PRELUDE = '#include "hostcuda.h"\n#include <cupy/carray.cuh>\n'


def cache_dir() -> Path:
    """Where builds are kept, named by a hash of all that goes into them; HOSTCUDA_CACHE moves it."""
    path = Path(os.environ.get("HOSTCUDA_CACHE") or Path(tempfile.gettempdir()) / f"gpureg-hostcuda-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class LaunchError(RuntimeError):
    """The kernel did what no GPU would survive or forgive: a deadlock, a bad shuffle mask, a failed assert."""


class HostFunction:
    """A compiled kernel; call it with the addresses of its arguments."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.hc_launch.restype = ctypes.c_char_p

    def __call__(
        self, addresses: list[int], grid: int, block: int, *, reverse: bool, last_blocks: int | None = None
    ) -> None:
        """All blocks of the grid, or only the `last_blocks`."""
        array = (ctypes.c_void_p * len(addresses))(*addresses)
        first = 0 if last_blocks is None else max(0, grid - last_blocks)
        failure = self._library.hc_launch(array, grid, block, first, grid, int(reverse), ctypes.c_size_t(0))
        if failure:
            raise LaunchError(failure.decode())


@functools.cache
def build(source: str, name: str, sanitize: bool = False) -> HostFunction:
    """Compile the kernel `name` of a CUDA source for the CPU. Raises RuntimeError with the compiler's words."""
    return HostFunction(build_library(source, name, sanitize))


def build_library(source: str, name: str, sanitize: bool = False) -> Path:
    """The library with the kernel `name`; its `hc_launch` runs it."""
    optimise = _SANITIZED if sanitize else ("-O1",)
    text = _PRELUDE + _host_source(source, name)
    key = _digest(text, *optimise)
    library = cache_dir() / f"{key}.so"
    if not library.exists():
        code = cache_dir() / f"{key}-{os.getpid()}.cpp"
        code.write_text(text)
        _compile([*_FLAGS, *optimise, "-shared", "-include", str(_header(optimise)), str(code)], library)
        code.unlink()
    return library


def _host_source(source: str, name: str) -> str:
    # the size of dynamic shared memory is an argument of the launch; the heap gives it exact bounds
    source = re.sub(
        r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];", r"\1* \2 = reinterpret_cast<\1*>(hc::dynamic_shared);", source
    )
    types = _parameter_types(source, name)
    sizes = ", ".join(f"sizeof({kind})" for kind in types)
    call = ", ".join(f"*reinterpret_cast<{kind}*>(a[{j}])" for j, kind in enumerate(types))
    fibers = "true" if re.search(r"_sync\s*\(|__sync", source) else "false"
    return f"""{source}
extern "C" const size_t hc_sizes[] = {{{sizes}, 0}};
extern "C" const char* hc_launch(
    void** a, unsigned grid, unsigned block, unsigned first, unsigned last, int reverse, size_t shared) {{
  auto f = [&]() {{ {name}({call}); }};
  hc::reversed = reverse; hc::dynamic_shared = std::malloc(shared ? shared : 1);
  hc::run_grid(grid, block, first, last, {fibers}, f);
  std::free(hc::dynamic_shared);
  return hc::failure[0] ? hc::failure : nullptr;
}}
"""


def _parameter_types(source: str, name: str) -> list[str]:
    found = re.search(rf"\b{name}\s*\((.*?)\)\s*\{{", source, re.S)
    if found is None:
        raise ValueError(f"no kernel {name} in the source")
    types, depth, current = [], 0, ""
    for character in found[1] + ",":
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            types.append(re.sub(r"\b\w+\s*$", "", current.strip()).replace("const ", "").strip())
            current = ""
        else:
            current += character
    return types


@functools.cache
def _header(optimise: tuple[str, ...]) -> Path:
    """The prelude as a precompiled header: it takes most of a build's time."""
    key = _digest(_PRELUDE, *optimise)
    header = cache_dir() / f"prelude-{key}.h"
    header.write_text(_PRELUDE)
    compiled = header.with_suffix(".h.gch")
    if not compiled.exists():
        _compile([*_FLAGS, *optimise, "-x", "c++-header", str(header)], compiled)
    return header


def _compile(arguments: list[str], out: Path) -> None:
    partial = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    command = [CXX, *arguments, "-I", str(HERE), "-I", _INCLUDE, "-o", str(partial)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")
    partial.replace(out)


@functools.cache
def _compiler_version() -> str:
    return subprocess.run([CXX, "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def _surroundings() -> bytes:
    carray = Path(_INCLUDE, "cupy", "carray.cuh").read_bytes()
    return (HERE / "hostcuda.h").read_bytes() + carray + _compiler_version().encode() + repr(_FLAGS).encode()


def _digest(*parts: str) -> str:
    return hashlib.sha256(_surroundings() + "\0".join(parts).encode()).hexdigest()[:24]
