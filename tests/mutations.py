"""Seeded mutations of small valid files of every format that data are read from."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from random import Random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from test_data_helpers import idx_bytes

N = 24
_RANDOM = np.random.default_rng(0)
X = _RANDOM.normal(size=(N, 3))
Y = np.arange(N) % 3
WORDS = np.array(["cat", "dog", "Ünïcode"])[Y]
EXTREMES = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**64 - 1)
TOKENS = (
    b"<f8", b">f8", b"|O", b"|O8", b"<U5", b"|S3", b"<M8[D]", b"<c16", b"|b1", b"|V8", b"<f2", b"(24, 3)", b"(24,)",
    b"(3, 24)", b"(24, 3, 1)", b"()", b"(-1, 3)", b"True", b"False", b"nan", b"inf", b"-0", b"1e999", b"1_0", b"01",
    b"''", b'""', b'"', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b",
    b"PK\x03\x04", b"PAR1", b"\x93NUMPY", b"{", b"}", b"(" * 50, b"9" * 50, b"pandas", b"index_columns",
)  # fmt: skip


def _npz(write: Callable[..., None], **arrays: object) -> bytes:
    stream = io.BytesIO()
    write(stream, **arrays)
    return stream.getvalue()


def _npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)  # type: ignore[arg-type]
    return stream.getvalue()


def _parquet(table: pa.Table, compression: str = "snappy", **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=compression, **options)
    return stream.getvalue()


def _text(delimiter: str, labels: object) -> bytes:
    rows = [
        delimiter.join(map(str, [*row, n % 2 == 0, label]))
        for n, (row, label) in enumerate(zip(X.tolist(), labels, strict=True))  # type: ignore[call-overload]
    ]
    return "\n".join([delimiter.join(['"a"', "b", "c", "t", "y"]), *rows]).encode()


def corpus() -> dict[str, bytes]:
    """Valid files by name; of images the labels are `labels_of`."""
    columns = {"a": X[:, 0], "b": X[:, 1].astype(np.float32), "n": np.arange(N) // 5}
    frame = pd.DataFrame(columns | {"y": WORDS}, index=pd.Index(range(5, N + 5), name="site"))
    lists = {"e": pa.FixedSizeListArray.from_arrays(X.reshape(-1), 3), "l": X.tolist(), "y": Y}
    images = (_RANDOM.integers(0, 255, (N, 4, 3))).astype(np.uint8)
    return {
        "stored.npz": _npz(np.savez, X=X, y=Y),
        "packed.npz": _npz(np.savez_compressed, X=X.astype("f4"), y=WORDS, X_val=X[:5], y_val=WORDS[:5]),
        "images.npz": _npz(np.savez_compressed, x_train=images, y_train=Y == 1),
        "m.npy": _npy(np.column_stack([X, Y])),
        "i.npy": _npy(np.column_stack([Y, Y * 2, Y % 2])),
        "t.csv": _text(",", WORDS),
        "semicolon.csv": _text(";", Y),
        "t.tsv": _text("\t", Y == 1),
        "t.csv.gz": gzip.compress(_text(",", Y), mtime=0),
        "plain.parquet": _parquet(pa.table(columns | {"y": Y}), "none", use_dictionary=False, write_page_checksum=True),
        "pandas.parquet": _parquet(pa.Table.from_pandas(frame), "snappy"),
        "gzip.parquet": _parquet(pa.table(columns | {"y": pa.array(WORDS.tolist()).dictionary_encode()}), "gzip"),
        "lists.parquet": _parquet(pa.table(lists), "zstd", version="2.6", data_page_version="2.0"),
        "truths.parquet": _parquet(pa.table({"a": X[:, 0], "t": Y > 0, "y": Y == 0})),
        "train-images-idx3-ubyte": idx_bytes(images),
        "train-images-idx3-ubyte.gz": gzip.compress(idx_bytes(images), mtime=0),
        "f-images-idx2": idx_bytes(X),
    }


LABELS = idx_bytes(Y.astype(np.uint8))


def mutate(content: bytes, random: Random, others: list[bytes]) -> bytes:
    """One to four changes: bits, bytes, numbers, words, pieces moved, cut or taken from another file.

    Of a packed file every second time what is in it is changed, and packed again: else its checksum finds them all.
    """
    if random.random() < 0.5:
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(mutate(gzip.decompress(content), random, others), mtime=0)
        if content.startswith(b"PK"):
            return _mutate_member(content, random, others)
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        random.choice(CHANGES)(data, random, others)
    return bytes(data)


def _mutate_member(content: bytes, random: Random, others: list[bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as changed:
        chosen = random.choice(archive.namelist())
        for name in archive.namelist():
            member = archive.read(name)
            changed.writestr(name, mutate(member, random, others) if name == chosen else member)
    return stream.getvalue()


def _flip(data: bytearray, random: Random, others: list[bytes]) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _bytes(data: bytearray, random: Random, others: list[bytes]) -> None:
    at = _place(data, random)
    data[at : at + random.randrange(1, 9)] = random.randbytes(random.randrange(0, 9))


def _number(data: bytearray, random: Random, others: list[bytes]) -> None:
    at, size = _place(data, random), random.choice((1, 2, 4, 8))
    data[at : at + size] = (random.choice(EXTREMES) % 256**size).to_bytes(size, random.choice(("little", "big")))


def _word(data: bytearray, random: Random, others: list[bytes]) -> None:
    there = [token for token in TOKENS if token in data]
    new = random.choice(TOKENS)
    if there and random.random() < 0.7:
        old = random.choice(there)
        at = data.find(old, random.randrange(len(data)))
        if at >= 0:
            data[at : at + len(old)] = new.ljust(len(old)) if random.random() < 0.5 else new
            return
    data[random.randrange(len(data)) : 0] = new


def _cut(data: bytearray, random: Random, others: list[bytes]) -> None:
    at = random.randrange(len(data))
    if random.random() < 0.5:
        del data[at:]
    else:
        del data[at : at + random.randrange(1, 64)]


def _splice(data: bytearray, random: Random, others: list[bytes]) -> None:
    source = random.choice([bytes(data), *others])
    start = random.randrange(len(source))
    piece = source[start : start + random.choice((1, 8, 64, 512, 4096))]
    at = random.randrange(len(data) + 1)
    data[at : at + (len(piece) if random.random() < 0.5 else 0)] = piece


def _repeat(data: bytearray, random: Random, others: list[bytes]) -> None:
    at = random.randrange(len(data))
    data[at:at] = data[at : at + random.randrange(1, 32)] * random.choice((1, 10, 100))


def _place(data: bytearray, random: Random) -> int:
    """More often near the beginning and the end, where headers and footers are."""
    near = min(len(data), 256)
    return random.choice((random.randrange(len(data)), random.randrange(near), len(data) - 1 - random.randrange(near)))


CHANGES = (_flip, _flip, _bytes, _number, _number, _word, _word, _cut, _splice, _repeat)
