"""Files that are damaged, traps, or not files: one clear error, at once, and bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_helpers import N, X, Y, csv, idx_bytes, new_rows, npz, read, write_gz

import gpureg.data.arrays
import gpureg.data.idx_set
import gpureg.data.tables  # noqa: F401  # now: nobody may not read what is imported where it is used
from gpureg.data import load_dataset, make_dataset
from gpureg.data.files import read_path
from gpureg.data.limits import BOMB_BYTES, Limit, machine_limit, machine_memory
from gpureg.errors import DataError, UsageError

SMALL = Limit(1 << 20)


def limited(path: Path) -> None:
    read_path(path, limit=SMALL)


# --- not files


@pytest.mark.parametrize("name", ["pipe", "p.csv", "p.npz", "p.npy", "p.parquet", "images-p", "p.csv.gz"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for load in (load_dataset, lambda path: new_rows(path, 2)):
        with pytest.raises(DataError, match=r"is a named pipe \(FIFO\); expected a file"):
            load(tmp_path / name)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_a_device_is_refused_at_once(device):
    with pytest.raises(DataError, match="is a device; expected a file"):
        load_dataset(device)


def test_a_socket_is_refused_and_so_are_folders_by_a_file_s_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.csv")
        with pytest.raises(DataError, match="is a socket"):
            load_dataset("s.csv")


def test_labels_and_cached_files_that_are_pipes(tmp_path):
    write_gz(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.unlink()
    os.mkfifo(labels)
    with pytest.raises(DataError, match="its labels are missing"):
        load_dataset(tmp_path)


def test_links_are_followed(tmp_path):
    path = csv(tmp_path, "x,y\n1,a\n2,b\n")
    (tmp_path / "link.csv").symlink_to(path)
    assert read(tmp_path / "link.csv").labels == ("a", "b")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    for name in ("loop.csv", "gone.csv"):
        with pytest.raises(UsageError, match="nor a file that exists"):
            load_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x.csv", "~\0/x.csv"])
def test_homes_that_there_are_not(name):
    with pytest.raises(UsageError, match=r"no such home folder|nor a file that exists"):
        load_dataset(name)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that anyone may search, and no rights but anyone's: root may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if os.geteuid() == 0:
            os.seteuid(65534)
            try:
                yield Path(folder)
            finally:
                os.seteuid(0)
        else:
            yield Path(folder)


@pytest.mark.parametrize("name", ["t.csv", "t.npz", "t.npy", "t.parquet", "t", "t.csv.gz"])
def test_what_may_not_be_read(as_nobody, name):
    folder = as_nobody / "in"
    folder.mkdir()
    path = folder / name
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DataError, match=r"[Pp]ermission denied.* Check"):
        load_dataset(path)
    folder.chmod(0)
    with pytest.raises(DataError, match=r"can't be reached: permission denied. Check"):
        load_dataset(path)
    folder.chmod(0o700)


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails: Linux's /proc/self/mem"
)
@pytest.mark.parametrize("name", ["t.csv", "t.npz", "t.npy", "t.parquet", "t", "t.csv.gz"])
def test_a_disk_that_fails(tmp_path, name):
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"can't read .*: (Input/output error|Invalid argument)\. Check"):
        load_dataset(tmp_path / name)


def test_a_file_whose_name_is_not_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_text("x,y\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(20)))
    data = load_dataset(path)
    assert data.name == "caf\\xe9"
    assert data.source["origin"].encode().endswith(b"caf\\xe9.csv")
    table = pa.table({"x": np.arange(4.0), "y": [0, 1, 0, 1]})
    other = path.with_suffix(".parquet")
    with other.open("wb") as stream:
        pq.write_table(table, stream)
    np.savez(path.with_suffix(".npz"), X=X, y=Y)
    assert load_dataset(other).name == load_dataset(path.with_suffix(".npz")).name == "caf\\xe9"


# --- damaged gzip


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "train-images-idx3-ubyte.gz"])
def test_gzip_with_a_flipped_bit_or_cut_off(tmp_path, name):
    random = np.random.default_rng(0)
    table = ("x,y\n" + "".join(f"{random.normal()},{i % 2}\n" for i in range(2000))).encode()
    content = table if "sv" in name else idx_bytes(random.integers(0, 255, (50, 3, 2)).astype(np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(50, np.uint8))))
    packed = bytearray(gzip.compress(content))
    for position in (len(packed) // 2, len(packed) - 6, len(packed) - 2):  # the data, the checksum, the length
        damaged = packed.copy()
        damaged[position] ^= 16
        for found in (damaged, packed[:position]):
            (tmp_path / name).write_bytes(found)
            with pytest.raises(DataError):
                load_dataset(tmp_path / name)


# --- bombs, and files beyond the memory


def zeros_npy(size: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size // 8, 8)})
    return header.getvalue()


def bomb(path: Path, size: int) -> None:
    """An npz whose X unpacks to `size` zero bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as member:
            member.write(zeros_npy(size))
            for _ in range(size >> 24):
                member.write(bytes(1 << 24))
        archive.writestr("y.npy", zeros_npy(8) + bytes(8))


def test_a_small_npz_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    bomb(tmp_path / "b.npz", 1 << 26)
    assert (tmp_path / "b.npz").stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(DataError, match=r"KiB of compressed data unpack to 64\.0 MiB or more, over 500 times as much"):
        read_path(tmp_path / "b.npz", limit=Limit(1 << 40, 1 << 24))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24
    assert BOMB_BYTES == 1 << 30
    with pytest.raises(DataError, match="8388608 rows but 1 labels"):  # not a gigabyte, so not suspicious: it is read
        read(tmp_path / "b.npz")


def test_gzip_that_unpacks_without_end(tmp_path):
    member = gzip.compress(b"0.5,0.5,1\n" * 100_000)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a,b,y\n") + member * 20)
    with pytest.raises(DataError, match=r"its rows take [1-9]\.. MiB to read; expected 1\.0 MiB or less"):
        limited(tmp_path / "b.csv.gz")
    (tmp_path / "x-images").write_bytes(
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 1 << 12, 1 << 5, 1 << 5) + bytes(1 << 22))
    )
    (tmp_path / "x-labels").write_bytes(gzip.compress(idx_bytes(np.zeros(1 << 12, np.uint8))))
    with pytest.raises(DataError, match="half of this machine's memory"):
        limited(tmp_path / "x-images")


def test_rows_that_take_more_than_their_text(tmp_path):
    path = csv(tmp_path, "a,b,c,d,y\n" + "1,1,1,1,1\n" * 20_000)  # 200 kB of text, 1.6 MB of numbers
    with pytest.raises(DataError, match="its rows take"):
        limited(path)


def test_parquet_that_unpacks_to_more_than_its_size(tmp_path):
    n = 1_000_000
    table = pa.table({"x": np.zeros(n), "y": np.zeros(n, np.int8)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 20_000
    with pytest.raises(DataError, match=r"its rows take 17\.2 MiB to read"):
        limited(tmp_path / "t.parquet")
    lists = pa.table({"e": pa.FixedSizeListArray.from_arrays(np.zeros(n), 10), "y": np.zeros(n // 10, np.int8)})
    pq.write_table(lists, tmp_path / "l.parquet")
    with pytest.raises(DataError, match="its rows take"):
        limited(tmp_path / "l.parquet")
    words = pa.table({"x": np.zeros(1000), "y": ["w" * 10_000] * 999 + ["v"]})
    pq.write_table(words, tmp_path / "w.parquet", use_dictionary=False)
    with pytest.raises(DataError, match="its rows take"):
        limited(tmp_path / "w.parquet")


def test_labels_that_repeat_are_held_once(tmp_path):
    words = pa.table({"x": np.arange(1000) / 3, "y": ["v" * 20_000, "w" * 20_000] * 500})  # 20 MB of words
    pq.write_table(words, tmp_path / "t.parquet")
    raw = read_path(tmp_path / "t.parquet", limit=SMALL)
    assert [len(label) for label in raw.labels] == [20_000, 20_000]


def test_arrays_beyond_the_limit(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((1 << 17, 2)))
    np.savez(tmp_path / "m.npz", X=np.zeros((1 << 17, 2)), y=np.zeros(1 << 17))
    for name in ("m.npy", "m.npz"):
        with pytest.raises(DataError, match="its rows take"):
            limited(tmp_path / name)


def test_an_npz_of_many_members_reads_those_that_it_needs(tmp_path):
    np.savez(tmp_path / "m.npz", X=X, y=Y, other=np.zeros(1 << 20))
    limited(tmp_path / "m.npz")


# --- absurd headers


@pytest.mark.parametrize("sizes", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1,) * 3, (1, 2**32 - 1, 1), (0,), (2**31, 2, 2)])
def test_idx_with_absurd_shapes(tmp_path, sizes):
    path = tmp_path / "x-images"
    path.write_bytes(struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes))
    path.with_name("x-labels").write_bytes(idx_bytes(np.zeros(1, np.uint8)))
    with pytest.raises(DataError, match=r"is empty|promises"):
        load_dataset(path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"is empty|promises"):
        load_dataset(path)


def test_idx_with_absurd_dimensions(tmp_path):
    for dimensions in (0, 4, 65, 255):
        path = tmp_path / "x-images"
        path.write_bytes(struct.pack(f">HBB{dimensions}I", 0, 8, dimensions, *[1] * dimensions) + b"1")
        path.with_name("x-labels").write_bytes(idx_bytes(np.zeros(1, np.uint8)))
        with pytest.raises(DataError, match=f"promises {dimensions} dimensions; expected 1 to 3"):
            load_dataset(path)


@pytest.mark.parametrize("shape", ["(10**18,)", "(-1,)", "(2**62, 2**62)", "'a'", "(1.5,)", "(" * 200])
def test_npy_with_absurd_shapes(tmp_path, shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(246) + "\n"
    path = tmp_path / "m.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    with pytest.raises(DataError, match="can't read"):
        load_dataset(path)


def test_parquet_without_columns_or_rows(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({}), path)
    with pytest.raises(DataError, match="has no columns"):
        load_dataset(path)
    with pytest.raises(DataError, match="has no columns"):
        new_rows(path, 2)
    pq.write_table(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match="no rows"):
        load_dataset(path)
    pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]), path)
    with pytest.raises(DataError, match="columns with the same name: x"):
        load_dataset(path)


@pytest.mark.parametrize("members", [{"X.npy": b"", "y.npy": b""}, {"X": b"1", "y": b"1"}, {}, {"X.npy": b"\x93NUMPY"}])
def test_archives_that_are_not_npz(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UsageError):
        load_dataset(tmp_path / "a.npz")


def test_files_under_each_other_s_names(tmp_path):
    np.save(tmp_path / "m.npy", X)
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    (tmp_path / "b.npz").write_bytes((tmp_path / "m.npy").read_bytes())
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npz").read_bytes())
    with pytest.raises(DataError, match="is an npy file under another name"):
        load_dataset(tmp_path / "b.npz")
    with pytest.raises(DataError, match="is an npz archive under another name"):
        load_dataset(tmp_path / "b.npy")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"X": X, "X_train": X, "y": Y}, "has X and X_train: which are the features"),
        ({"X_train": X, "y": Y}, "'y_train'|has no such array"),
        ({"X": X, "y": Y, "y_val": Y}, "has only one of X_val and y_val"),
        ({"X": X, "y": Y, "x_val": X}, "has only one of X_val and y_val"),
    ],
)
def test_names_of_arrays_that_do_not_fit(tmp_path, arrays, says):
    with pytest.raises(UsageError, match=says):
        load_dataset(npz(tmp_path, **arrays))


def test_names_of_arrays(tmp_path):
    for prefix in ("X", "x"):
        data = load_dataset(
            npz(tmp_path, **{f"{prefix}_train": X, "y_train": Y, f"{prefix}_val": X[:4], "y_val": Y[:4]})
        )
        assert (len(data.y_train), len(data.y_val)) == (N, 4)
        np.testing.assert_array_equal(new_rows(tmp_path / "a.npz", 3), X[:4])
    parity, third = Y, np.arange(N) % 3
    path = npz(tmp_path, X=X, y=Y, X_val=X, y_val=Y, third=third, third_val=third[::-1])
    assert load_dataset(path, target="third").y_val.tolist() == third[::-1].tolist()
    path = npz(tmp_path, X=X, y=Y, X_val=X, y_val=Y, third=third)
    with pytest.raises(DataError, match="one of X_val and third_val"):
        load_dataset(path, target="third")
    assert parity is Y


# --- the machine's memory


def test_the_machine_s_memory_is_the_least_limit(tmp_path):
    whole = machine_memory()
    assert whole is not None
    assert machine_limit().most == whole // 2
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    group = tmp_path / "sys" / "fs" / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert machine_memory(tmp_path) == whole or machine_memory(tmp_path) >= whole
    (group.parent / "memory.max").write_text("1048576\n")
    assert machine_memory(tmp_path) == 1 << 20
    (group / "memory.max").write_text("4096\n")
    assert machine_memory(tmp_path) == 4096
    (tmp_path / "proc" / "self" / "cgroup").write_text("3:cpu,memory:/c\n1:name=systemd:/d\nnonsense\n")
    old = tmp_path / "sys" / "fs" / "cgroup" / "memory" / "c"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("8192\n")
    assert machine_memory(tmp_path) == 8192


def test_the_limit_of_the_process_counts(tmp_path):
    """`ulimit -v`: an array that it does not hold is refused before it is read, and so is one by its header alone."""
    with (tmp_path / "m.npy").open("wb") as stream:
        stream.write(zeros_npy(300 << 20))
        stream.truncate(300 << 20)  # of which nothing is on the disk
    code = (
        "import resource, sys, numpy, gpureg\n"
        "from gpureg.data.limits import machine_limit\n"
        "gpureg.load_dataset, gpureg.DataError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "assert machine_limit().most == 1 << 29\n"
        "try:\n"
        "    gpureg.load_dataset(sys.argv[1])\n"
        "except gpureg.DataError as error:\n"
        "    sys.exit(0 if 'its rows take 600 MiB' in str(error) else str(error))\n"
        "sys.exit('it was read')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.npy")], check=True)


def test_messages_are_one_line_of_printable_text(tmp_path):
    name = "\x1b[31mred\n" + "x" * 5000
    pq.write_table(pa.table({name: ["a", "b"], "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "t.parquet")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    with pytest.raises(UsageError) as refused:
        make_dataset(np.eye(2), ["\x1b[31m", "b"], classes=["c", "d"])
    assert str(refused.value).isprintable()
