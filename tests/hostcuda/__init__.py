"""CUDA kernels without a GPU: the source that CuPy would compile, run on the CPU or compiled to machine code."""

from hostcuda.build import LaunchError, build
from hostcuda.generate import ARCHITECTURES, Arg, compile_cubin, elementwise_source
from hostcuda.launch import HostArray, host, launch_elementwise, launch_raw, settings

__all__ = [
    "ARCHITECTURES",
    "Arg",
    "HostArray",
    "LaunchError",
    "build",
    "compile_cubin",
    "elementwise_source",
    "host",
    "launch_elementwise",
    "launch_raw",
    "settings",
]
