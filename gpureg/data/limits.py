"""How much a file may unpack to: what half of the machine's memory holds, and no bomb."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gpureg.errors import DataError, TooLargeError, size_text

# A gigabyte that takes a five-hundredth of that in its file: deflate's best is a thousandth, and tables of numbers come
# nowhere near it.
BOMB_BYTES, BOMB_RATIO = 1 << 30, 500


@dataclass(frozen=True)
class Limit:
    """A maximum number of bytes that the rows of one file may take in memory.

    Above `suspicious` bytes, a compressed file must also not be a bomb.
    """

    most: int
    suspicious: int = BOMB_BYTES

    def check(self, size: int, file: Path, packed: int | None = None) -> None:
        """Raise TooLargeError if `size` bytes, unpacked from `packed` if the file is compressed, are too many, and
        DataError for a bomb.
        """
        if size > self.most:
            raise TooLargeError(
                f"{file}: its rows take {size_text(size)} to read; expected {size_text(self.most)} or less, half of "
                "this machine's memory. Keep fewer rows or columns, store a narrower type (float32, uint8), or use a "
                "machine with more memory."
            )
        if packed is not None and size > self.suspicious and size > BOMB_RATIO * max(1, packed):
            raise DataError(
                f"{file}: {size_text(packed)} of compressed data unpack to {size_text(size)} or more, over "
                f"{BOMB_RATIO} times as much: the file is damaged or a trap. If this is intended, store the data "
                "uncompressed (np.savez)."
            )


UNLIMITED = Limit(sys.maxsize)  # for what is read in blocks


def machine_limit() -> Limit:
    """Half of the machine's memory; without a limit where the platform does not say what it has."""
    memory = machine_memory()
    return Limit(sys.maxsize if memory is None else memory // 2)


def machine_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use: the machine's, its cgroup's or its own limit, whichever is least."""
    found = [*_cgroup_limits(root), *_own_limit()]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on this platform
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((size for size in found if size > 0), default=None)


def _own_limit() -> list[int]:
    """What `ulimit -v` allows."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if soft == resource.RLIM_INFINITY else [soft]


def _cgroup_limits(root: Path) -> list[int]:
    """The limits of this process's cgroup and of those around it, of both versions."""
    groups: list[tuple[Path, Path]] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "/")
        memory = "sys/fs/cgroup/memory" if "memory" in controllers.split(",") else "sys/fs/cgroup"
        groups.append((root / memory, Path(path.lstrip("/"))))
    found = []
    for base, group in groups:
        for folder in (base / group, *(base / parent for parent in group.parents)):
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = _text(folder / name).strip()
                if text.isdecimal():  # not "max", nor a file that is not there
                    found.append(int(text))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
