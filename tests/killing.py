"""A process killed, or refused by the disk, at the n-th thing that it does to the file system; found by counting, so
that every moment is tried and no clock decides.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from gpureg.errors import RunError

Announced = tuple[Any, ...]


def touches(event: str, arguments: Announced) -> bool:
    """Whether Python announces (PEP 578, just before it) something done to the file system; a replace is a rename."""
    return event == "open" or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def writes(event: str, arguments: Announced) -> bool:
    """Whether it needs room on the disk."""
    opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    made = event == "os.mkdir" and not os.path.isdir(arguments[0])
    return bool(opened or made or event == "os.rename")


DONE, REFUSED, FAILED = 0, 2, 1


def forked(action: Callable[[], Any], hook: Callable[[str, Announced], None] | None = None) -> int:
    """Begin `action` in a process of its own, every file operation shown to `hook` first; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        if hook is not None:
            sys.addaudithook(hook)
        action()
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(DONE)


def status_of(child: int) -> int:
    """How it ended: an exit code, or less a signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_each(
    counts: Callable[[str, Announced], bool], action: Callable[[], Any], happens: Callable[[], None]
) -> Iterator[int]:
    """Run `action` again and again in processes of their own; in the n-th, `happens` comes in place of its n-th
    operation that `counts`. Yields how each ended, until one has fewer.
    """
    number, reached = 0, mmap.mmap(-1, 1)  # memory that both processes see
    while True:
        left, number = [number], number + 1
        reached[0] = 0

        def hook(event: str, arguments: Announced, left: list[int] = left) -> None:
            if counts(event, arguments):
                left[0] -= 1
                if left[0] == -1:
                    reached[0] = 1
                    happens()

        status = status_of(forked(action, hook))
        assert status != FAILED
        if not reached[0]:
            return
        yield status


def kill() -> None:
    """This process, as `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def no_space() -> None:
    """The disk is full."""
    raise OSError(28, "No space left on device")
