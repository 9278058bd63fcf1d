"""One file over HTTP, in a separate process: whatever a server does, that process can be ended.

A name that is not resolved, a handshake, headers or a body that come a byte at a time: no timeout of a socket bounds
them all. `download` starts this file as a program, which copies a URL to its standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_BLOCK = 1 << 16
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """What a source may take: seconds to connect and between two packets; bytes a second on average, once it has had
    `grace` seconds; seconds in all."""

    connect: float = 3.0
    read: float = 10.0
    grace: float = 20.0
    slowest: float = 16 * 1024
    total: float = 600.0


class DownloadError(Exception):
    """Why a file did not come, in a few words."""


def download(url: str, stream: IO[bytes], most: int, limits: Limits, deadline: float) -> None:
    """Copy what `url` gives to the file `stream`, at most `most` bytes, until `deadline` (of `time.monotonic`).

    Raises DownloadError with the reason.
    """
    arguments = [url, str(most), str(limits.connect), str(limits.read)]
    # -P: no module of the current folder takes the place of one of Python's
    command = [sys.executable or "python", "-P", str(Path(__file__)), *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.PIPE) as process:
        try:
            reason = _wait(process, stream, limits, deadline)
        finally:
            process.kill()
        said = b"" if process.stderr is None else process.stderr.read(1 << 16)
    if reason is None and process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with {process.returncode}"
    if reason is not None:
        raise DownloadError(reason)


def _wait(process: subprocess.Popen[bytes], stream: IO[bytes], limits: Limits, deadline: float) -> str | None:
    """Until the process has ended; the reason if it takes too long."""
    started = time.monotonic()
    while True:
        try:
            process.wait(_POLL_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        size = os.fstat(stream.fileno()).st_size
        if now - started > limits.grace and size < limits.slowest * (now - started):
            return f"too slow: {size} bytes in {now - started:.0f} s; expected {limits.slowest:.0f} bytes a second"
        if now > deadline:
            return f"not finished after {limits.total:.0f} s"


def main(url: str, most: str, connect: str, read: str) -> None:
    """Copy a URL to the standard output. Ends with 1, and the reason on the standard error, if that can't be done."""
    import requests

    size = 0
    try:
        with requests.get(url, stream=True, timeout=(float(connect), float(read))) as response:
            response.raise_for_status()
            for block in response.iter_content(_BLOCK):
                size += len(block)
                if size > int(most):
                    raise SystemExit(f"more than {most} bytes came, which the file does not have")
                view = memoryview(block)
                while view:
                    view = view[os.write(1, view) :]
    except Exception as error:  # a server can make of an answer, and of a redirect, what it likes
        raise SystemExit(_reason(error)) from None


def _reason(error: Exception) -> str:
    """The cause in few words: `requests` wraps the one line that matters in three layers."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    text = str(inner if isinstance(inner, Exception) else error) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 240 else text[:237] + "..."


if __name__ == "__main__":
    main(*sys.argv[1:])
