"""The choice among the kernels' twins."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gpureg.backend import Backend
from gpureg.errors import UsageError, named
from gpureg.kernels.protocol import Kernels
from gpureg.losses import Loss


def fallback_notices(kernels: Kernels, which: str, features: int, batch: int) -> list[str]:
    """What to say if kernels named `which` hand batches of B with D features to others of their twin."""
    if which == "pair" and kernels.backend.name == "numpy":
        return [f"{named('kernels', which)} is not available on the CPU; {named('kernels', 'fused')} trained instead."]
    if kernels.steps_as_asked(features, batch):
        return []
    return [
        f"{named('kernels', which)} does not support batches of {batch} with {features} features and "
        f"{kernels.n_columns} columns a model on {kernels.backend.device}; {named('kernels', 'fused')} trained instead."
    ]


def choose_kernels(
    backend: Backend, loss: Loss, n_classes: int, which: str = "auto", memory: int | None = None
) -> Kernels:
    """The twin for a backend and a loss; `which` names one, `auto` takes `fused` if there is one, else `reference`.

    `pair` becomes `fused` where the CPU took over from a device. Raises UsageError if the named one does not run on the
    backend or does not implement the loss: a loss is never replaced by another.
    """
    from gpureg.kernels.reference import ReferenceKernels

    fused = _fused_twin(backend)
    if which == "reference" or (which == "auto" and (fused is None or loss not in fused.implements)):
        return ReferenceKernels(backend, loss, n_classes)
    took_over = backend.name == "numpy" and backend.requested != "cpu"
    if fused is None or (which == "pair" and backend.name != "cupy" and not took_over):
        given, other = named("kernels", which), named("kernels", "auto")
        raise UsageError(f"{given} does not run on the {backend.name} backend; use {other}.")
    if loss not in fused.implements:
        names = " and ".join(known.name for known in fused.implements)
        raise UsageError(
            f"{named('kernels', which)} on the {backend.name} backend implements {names}, not the loss {loss.name!r}; "
            f"use {named('kernels', 'auto')} or reference."
        )
    return fused.make(loss, n_classes, memory, which)


@dataclass(frozen=True)
class _Fused:
    """The fused twin of a backend: the losses that it implements, and how it is made."""

    implements: Collection[Loss]
    make: Callable[[Loss, int, int | None, str], Kernels]


def _fused_twin(backend: Backend) -> _Fused | None:
    if backend.name == "numpy":
        from gpureg.kernels.cpu.fused import NumpyKernels

        return _Fused(NumpyKernels.implements, lambda loss, K, memory, way: NumpyKernels(backend, loss, K))
    if backend.name == "cupy":
        from gpureg.kernels.cuda import CudaKernels

        return _Fused(
            CudaKernels.implements,
            lambda loss, K, memory, way: CudaKernels(backend, loss, K, memory=memory, steps_by=way),
        )
    return None
