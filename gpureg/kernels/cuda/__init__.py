"""The CUDA kernels: fused twins of `kernels.reference`, launched through CuPy.

Nothing here imports CuPy until a kernel is wanted: every module takes it inside the function that needs it.
"""

from gpureg.kernels.cuda.fused import CudaKernels

__all__ = ["CudaKernels"]
