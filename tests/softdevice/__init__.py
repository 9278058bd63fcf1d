"""A CUDA device made of host memory, for CuPy itself: the tests of `tests/gpu`, and the program, run on it unchanged.

`hostcuda` executes the product's kernels at their call sites; what lies between those, CuPy's own code, is only
executed here: its arrays, its memory pool, its launches, its use of cuBLAS and cuSOLVER. The pieces:

* `cuda.cpp`, `streams.cpp` and `libraries.cpp` stand in for the driver, the runtime, cuBLAS and cuSOLVER. There are two
  devices. Work is deferred: a launch, a product or a copy is done when somebody waits for it, in an order that CUDA
  allows, so that what nobody waits for is never there in time (SOFTDEVICE_EAGER: at once, the earliest that CUDA
  allows). Streams can be captured into graphs. A cuBLAS handle that is left in TF32 mode, or in the other pointer mode,
  ends the process.
* CuPy's wheel links the CUDA runtime statically, so its wrapper `cupy_backends.cuda.api.runtime` is made again from
  CuPy's source of the same version, against `cuda.cpp`. Everything else of CuPy is the wheel's.
* `sitecustomize.py` hands the source that CuPy would give to NVRTC to `hostcuda`.

With SOFTDEVICE_IDLE launches and products are accepted and not run: what takes time is the host's part
(`bench/cuda_host.py`). SOFTDEVICE_REVERSE runs blocks and lanes in the other order, SOFTDEVICE_LOG names a file that
gets a line for each launch, product, copy and wait, SOFTDEVICE_MEMORY is the memory of a device in bytes.

What it can't show: speed, real concurrency, a device's rounding, cuBLAS's own choices. `build.environment()` returns
the environment in which a Python process finds it.
"""
