"""What the tests of the data room share: a tiny data set in IDX files, its catalog entry, and small
tables and arrays."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpureg.data import Dataset, Request, open_blocks
from gpureg.data.catalog import DatasetSpec, FileSpec
from gpureg.data.files import read_path
from gpureg.data.matching import Expected
from gpureg.data.uses import Uses


def idx_bytes(array: npt.NDArray[np.generic]) -> bytes:
    codes = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    code = codes[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def tiny_files(n_train: int = 12, n_val: int = 6) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    files = {}
    for part, n in (("train", n_train), ("t10k", n_val)):
        files[f"{part}-images-idx3-ubyte"] = idx_bytes(random.integers(0, 256, (n, 3, 2), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx_bytes((np.arange(n) % 3).astype(np.uint8))
    return files


def tiny_spec(mirrors: tuple[str, ...] = (), npm: str | None = None, installed: tuple[str, ...] = ()) -> DatasetSpec:
    return DatasetSpec(
        name="tiny",
        description="for tests",
        files=tuple(FileSpec(n, hashlib.sha256(c).hexdigest(), len(c)) for n, c in tiny_files().items()),
        mirrors=mirrors,
        npm=npm,
        installed=installed,
        installed_by="the package tiny" if installed else None,
    )


def write_gz(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_files().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))


N = 20
X = np.arange(3.0 * N).reshape(N, 3)
Y = np.arange(N) % 2


def read(path: Path, target: str | None = None, weights: str | None = None):
    return read_path(path, Uses(target, weights))


def new_rows(path: Path | str, n_features: int, names: tuple[str, ...] | None = None) -> np.ndarray:
    """The features of new data, as a model of so many features (of these names) reads them."""
    blocks = list(open_blocks(path, Request(Expected(n_features, names))).rows)
    return np.concatenate([block.X for block in blocks])


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def npz(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def joined(data: Dataset) -> tuple[np.ndarray, list[object]]:
    """All rows again, in the order of the first feature, and their labels."""
    rows = np.concatenate([data.X_train, data.X_val])
    codes = np.concatenate([data.y_train, data.y_val])
    order = np.argsort(rows[:, 0])
    return rows[order], [data.classes[code] for code in codes[order]]
