"""Places where a run can't be written: folders that are closed to the process, and disks that are full."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import SCRIPT, environment

DROP_FROM_BOUNDING_SET, OVERRIDES_PERMISSIONS = 24, (1, 2)  # prctl's number; CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def without_privileges() -> None:
    """In a child, before it becomes another program: root is held to a folder's permissions, as anyone is."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in OVERRIDES_PERMISSIONS:
            assert libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())


def limited_to(size: int) -> Callable[[], None]:
    """In a child: `ulimit -f`, in bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def script_where(before: Callable[[], None], *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed script, with `before` done to its process first."""
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=before,
        timeout=120,
    )


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """A folder that may be neither searched nor written."""
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(0o755)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of its own at `folder`, and whether there could be one: only root may mount, and not everywhere."""
    options = ["-t", "tmpfs", "-o", f"size={size},nr_inodes=100", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
