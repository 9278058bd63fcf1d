"""A CUDA device made of host memory, for CuPy itself: the tests of `tests/gpu`, and the program, run on it unchanged.

`hostcuda` executes the product's kernels at their call sites; what lies between those, CuPy's own code, is only
executed here: its arrays, its memory pool, its launches, its use of cuBLAS and cuSOLVER. The pieces:

* `cuda.cpp` and `libraries.cpp` stand in for the driver, the runtime, cuBLAS and cuSOLVER. Two devices, synchronous.
* CuPy's wheel links the CUDA runtime statically, so its wrapper `cupy_backends.cuda.api.runtime` is made again from
  CuPy's source of the same version, against `cuda.cpp`. Everything else of CuPy is the wheel's.
* `sitecustomize.py` hands the source that CuPy would give to NVRTC to `hostcuda`.

With SOFTDEVICE_IDLE launches and products are accepted and not run: what takes time is the host's part
(`bench/cuda_host.py`).

What it can't show: speed, real concurrency, a device's rounding, cuBLAS's own choices. `build.environment()` returns
the environment in which a Python process finds it.
"""
