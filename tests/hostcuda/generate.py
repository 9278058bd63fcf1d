"""CuPy's own CUDA source for a kernel object, and its machine code, without a driver.

The private names used here have the same signatures in CuPy 13.6, 14.0 and 14.2.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import cupy
import numpy as np
from cupy._core import _carray, _kernel, _scalar, core
from cupy.cuda import compiler

_NDARRAY, _INDEXER, _SCALAR = 1, 2, 3  # cupy/_core/_kernel.pxd: enum _ArgKind
_HEADERS = "".join(f"#include <{name}>\n" for name in core._cupy_header_list)
ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")


@dataclass(frozen=True)
class Arg:
    """What CuPy looks at when it specialises a kernel for an argument; ndim None is a scalar."""

    dtype: str
    ndim: int | None = None
    contiguous: bool = True
    index32: bool = True

    def info(self):
        if self.ndim is None:
            return _kernel._ArgInfo(_SCALAR, _scalar.CScalar, np.dtype(self.dtype), 0, True, True)
        return _kernel._ArgInfo(_NDARRAY, cupy.ndarray, np.dtype(self.dtype), self.ndim, self.contiguous, self.index32)


def elementwise_source(kernel, args: list[Arg], loop_ndim: int, index32: bool = True) -> str:
    """The source CuPy hands to NVRTC for an ElementwiseKernel called with these arguments."""
    infos = [arg.info() for arg in args]
    infos.append(_kernel._ArgInfo(_INDEXER, _carray.Indexer, None, loop_ndim, True, index32))
    given = tuple(None if arg.ndim is None else np.dtype(arg.dtype) for arg in args[: kernel.nin])
    made = tuple(np.dtype(arg.dtype) for arg in args[kernel.nin :])
    _, _, types = kernel._decide_params_type(given, made)
    return _kernel._get_elementwise_kernel_code(
        tuple(infos), types, kernel.params, kernel.operation, kernel.name, kernel.preamble, **dict(kernel.kwargs)
    )


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel."""

    registers: int
    stack: int
    spills: int
    shared: int


def compile_cubin(source: str, architecture: str, *, cupy_headers: bool = True) -> tuple[bytes, Usage]:
    """Machine code for one architecture; raises cupy.cuda.compiler.CompileException."""
    options = (
        *core.assemble_cupy_compiler_options(()),
        "-ftz=true",
        f"-arch=sm_{architecture}",
        "--device-as-default-execution-space",
        "-Xptxas=-v",
    )
    log = io.StringIO()
    program = compiler._NVRTCProgram((_HEADERS if cupy_headers else "") + source, "kernel.cu", (), (), method="cubin")
    cubin, _ = program.compile(options, log)
    return cubin, _usage(log.getvalue())


def _usage(log: str) -> Usage:
    spill = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.search(r"Used (\d+) registers", log)
    if spill is None or registers is None:
        raise ValueError(f"ptxas said something else than expected: {log}")
    shared = re.search(r"(\d+) bytes smem", log)
    return Usage(int(registers[1]), int(spill[1]), int(spill[2]) + int(spill[3]), int(shared[1]) if shared else 0)
