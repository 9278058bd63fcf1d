"""The choice among the kernels' twins."""

from __future__ import annotations

from collections.abc import Callable

from gpureg.backend import Backend
from gpureg.errors import UsageError
from gpureg.kernels.protocol import Kernels


def fallback_notices(kernels: Kernels, which: str, features: int, batch: int) -> list[str]:
    """What to tell where kernels named `which` hand batches of B with D features to others of their twin."""
    as_asked: Callable[[int, int], bool] | None = getattr(kernels, "steps_as_asked", None)
    if as_asked is None or as_asked(features, batch):
        return []
    return [
        f"--kernels {which} does not take batches of {batch} with {features} features and {kernels.n_columns} columns "
        f"a model on {kernels.backend.device}; --kernels fused trained in its place."
    ]


def choose_kernels(
    backend: Backend, task: str, n_classes: int, which: str = "auto", memory: int | None = None
) -> Kernels:
    """The twin for a backend: `fused` where there is one (NumPy, CUDA), else `reference`; `which` names one.

    Raises UsageError where the named one does not run on the backend.
    """
    from gpureg.kernels.reference import ReferenceKernels

    if which in ("auto", "fused") and backend.name == "numpy":
        from gpureg.kernels.cpu.fused import NumpyKernels

        return NumpyKernels(backend, task, n_classes)
    if which in ("auto", "fused", "pair", "epoch") and backend.name == "cupy":
        from gpureg.kernels.cuda import CudaKernels

        return CudaKernels(backend, task, n_classes, memory=memory, steps_by="fused" if which == "auto" else which)
    if which in ("auto", "reference"):
        return ReferenceKernels(backend, task, n_classes)
    raise UsageError(
        f"--kernels {which} was asked for, but the {backend.name} backend has none; use --kernels auto or reference."
    )
