"""An array namespace, a device and a float type, chosen once at the edge and passed on."""

from gpureg.backend.choice import choose_backend, parse_device
from gpureg.backend.cuda import cuda_count, cuda_unusable, cupy_backend
from gpureg.backend.host import Backend, numpy_backend

__all__ = ["Backend", "choose_backend", "cuda_count", "cuda_unusable", "cupy_backend", "numpy_backend", "parse_device"]
