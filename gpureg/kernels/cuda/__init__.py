"""The CUDA kernels: fused twins of `kernels.reference`, launched through CuPy.

Nothing here imports CuPy until a kernel is needed: every module imports it inside the function that uses it.
"""

from gpureg.kernels.cuda.fused import CudaKernels

__all__ = ["CudaKernels"]
