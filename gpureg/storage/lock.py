"""One writer at a time in a run directory: a lock that the system drops when its process ends, however it ends.

The lock is the system's, on the file .lock; the mere presence of the file means nothing, and a stale one blocks nobody.
The holder removes it at the end.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpureg.errors import GpuregWarning, RunError, named

LOCK = ".lock"
PATIENCE = 0.5  # seconds: a reader that finishes a swap, or a process that is just being killed, holds it for less
PAUSE = 0.02
# Lustre without -o flock, some FUSE and network mounts
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class OccupiedError(RunError):
    """A run directory already holds a run, or another process is writing into it."""


class Lock:
    """The lock of a folder, held from `acquire` to `release`; `folder` may be renamed in between."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self.descriptor = folder, descriptor

    @classmethod
    def acquire(cls, folder: Path, patience: float = PATIENCE) -> Lock:
        """Take the lock. Raises OccupiedError if another process has it for longer than `patience`, and OSError."""
        deadline = time.monotonic() + patience
        while True:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                held = _try_lock(descriptor, folder)
                # the holder before removed the file that was opened here: the lock is on the next one
                if held and _is(descriptor, folder / LOCK):
                    return cls(folder, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if time.monotonic() >= deadline and not held:
                raise OccupiedError(
                    f"Another process is writing into {folder}. Wait for it to end, or give another {named('out')}."
                )
            time.sleep(0 if held else PAUSE)

    def release(self) -> None:
        """Remove the file and drop the lock."""
        with suppress(OSError):
            (self.folder / LOCK).unlink()
        os.close(self.descriptor)


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of `folder`. Raises OccupiedError if another process has it for longer than `patience`, OSError."""
    lock = Lock.acquire(folder, patience)
    try:
        yield
    finally:
        lock.release()


def _try_lock(descriptor: int, folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"The file system of {folder} has no locks ({error.strerror}): nothing keeps a second process from writing "
            "into the same run directory.",
            GpuregWarning,
            stacklevel=3,
        )
    return True


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
