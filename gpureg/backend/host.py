"""`Backend`, and the one of the CPU.

It adds what the array API lacks: the way to the device and back, waiting, free memory, and how to recognise a lack of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpureg.errors import OutOfMemoryError, size_text
from gpureg.types import Array


def _is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError)


@dataclass(frozen=True)
class Backend:
    """The device, namespace and float type of the arithmetic.

    `xp` is an array-API namespace, `dtype` the float type's name, `why` one sentence that says how the device was
    chosen, `requested` the device that was asked for, `card` a GPU's name, compute capability and memory and the
    versions of its driver and runtime, as text. `from_host` takes a NumPy array to the device, `to_host` brings
    one back. `current` makes the device the current one for a while, `lacks_memory` tells whether an error says that
    there is too little memory, `release` gives back what is kept for later arrays. `notice`: what the user is told
    about the choice.
    """

    name: str
    xp: Any
    device: str
    dtype: str
    why: str
    requested: str
    from_host: Callable[[Any], Array]
    to_host: Callable[[Array], Any]
    synchronize: Callable[[], None]
    free_memory: Callable[[], int | None]
    card: dict[str, str] = field(default_factory=dict)
    current: Callable[[], AbstractContextManager[None]] = nullcontext
    lacks_memory: Callable[[BaseException], bool] = _is_memory_error
    release: Callable[[], None] = lambda: None
    notice: str | None = None

    @property
    def float_type(self) -> Any:
        """The namespace's own dtype object."""
        return getattr(self.xp, self.dtype)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block, the device is the current one, and an allocator's error, wherever it comes from, becomes an
        OutOfMemoryError that says how much was requested and how much is free.
        """
        with self.current():
            try:
                yield
            except OutOfMemoryError:
                raise
            except (MemoryError, RuntimeError) as error:
                if not self.lacks_memory(error):
                    raise
                free = self.free_memory()
                there = "" if free is None else f"; {size_text(max(0, free))} are free"
                reason = str(error).rstrip(".") or type(error).__name__
                raise OutOfMemoryError(f"{self.device} ran out of memory ({reason}){there}.") from error


def numpy_backend(dtype: str, *, why: str = "asked for", requested: str = "cpu", notice: str | None = None) -> Backend:
    """NumPy on the CPU."""
    return Backend(
        name="numpy",
        xp=np,
        device="cpu",
        dtype=dtype,
        why=why,
        requested=requested,
        from_host=np.asarray,
        to_host=np.asarray,
        synchronize=lambda: None,
        free_memory=_free_memory,
        notice=notice,
    )


def _free_memory() -> int | None:
    try:
        with open("/proc/meminfo") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
