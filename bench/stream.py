"""Rows that are streamed: a pass compared with one over rows that are held, what each format costs, what a fit holds.

    python bench/stream.py [--part PART] [--rounds 5] [--folder FOLDER] [--write]

ratio    524,288 x 768 float32 and 10 classes in an npy file that lies in the system's cache: a cost and gradient of 1,
         3 and 6 models, over streamed rows and over held rows in one piece; wall time, and the least
         time of the processors, which other processes disturb less
formats  131,072 of such rows as npy, npz, IDX pixels, and Parquet, a column for each feature or one of lists: rows
         and MB a second of a pass of one model
memory   4,000,000 x 768 float32 (12 GB, written first and removed afterwards; FOLDER/X.npy and y.npy are used if they
         are there), 10 classes, `--memory 1GiB`: `gpureg train` with `--max-iter` 3; the peak resident memory of that
         process (VmHWM)

Medians of the rounds, in turn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import medians, noted, say, write, written

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.data import default_scaling, fit_scaling
from gpureg.fitting.blocking import Blocking
from gpureg.fitting.prepare import rows_of
from gpureg.kernels.choice import choose_kernels
from gpureg.rows.ahead import HostRows
from gpureg.rows.protocol import Rows

FEATURES, CLASSES, AT_ONCE = 768, 10, 1 << 15


def drawn(rows: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embeddings of overlapping classes, some rows at a time; the noise is drawn once and moved along the features."""
    random = np.random.default_rng(seed)
    centres = 0.1 * random.standard_normal((CLASSES, FEATURES), np.float32)
    noise = random.standard_normal((AT_ONCE, FEATURES), np.float32)
    for start in range(0, rows, AT_ONCE):
        y = random.integers(0, CLASSES, min(AT_ONCE, rows - start))
        yield np.roll(noise[: len(y)], start // AT_ONCE, axis=1) + centres[y], y


def write_npy(folder: Path, rows: int) -> tuple[Path, Path]:
    """`X.npy` and `y.npy`, never held whole."""
    labels = []
    with (folder / "X.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        for X, y in drawn(rows):
            file.write(X.tobytes())
            labels.append(y.astype(np.uint8))
    np.save(folder / "y.npy", np.concatenate(labels))
    return folder / "X.npy", folder / "y.npy"


def placed(path: Path, options: dict[str, Any], *, blocks: bool = True) -> tuple[Rows, Any]:
    """The rows of a file as a fit has them, with the kernels."""
    data = gpureg.load_dataset(path, val_size=0, **options)
    config = FitConfig(solver="lbfgs", block_rows=1 << 16 if blocks else None)
    kernels = choose_kernels(numpy_backend("float32"), config.loss, len(data.classes), "auto", config.memory)
    scaling = fit_scaling(default_scaling(data), data)
    blocking = Blocking.of(data, config, lambda event: None, minibatches=False, one_model=0)  # none is trained
    return rows_of(kernels, HostRows(data.X_train, data.y_train), scaling, config.dtype, blocking), kernels


def ratio(folder: Path, rounds: int) -> dict[str, Any]:
    """A pass over streamed rows and over held ones."""
    rows = 1 << 19
    X, y = write_npy(folder, rows)
    kinds = {
        "streamed": placed(X, {"labels": y, "stream": True}),
        "held, in one piece": placed(X, {"labels": y}, blocks=False),
    }
    kernels = [placed_[1] for placed_ in kinds.values()]
    found: dict[str, Any] = {"rows": rows, "features": FEATURES, "classes": CLASSES}
    for models in (1, 3, 6):
        W = 0.01 * np.random.default_rng(1).standard_normal((FEATURES + 1, models * CLASSES)).astype(np.float32)
        calls = {
            name: (lambda rows=placed_[0], W=W: rows.cost_and_gradient(W, None)) for name, placed_ in kinds.items()
        }
        with kernels[0].steady():  # as during a fit
            seconds, work = medians(calls, rounds), medians(calls, rounds, time.process_time, min)
        against, more = (times["streamed"] / times["held, in one piece"] for times in (seconds, work))
        own = {
            name: {"seconds": round(value, 4), "processor_s": round(work[name], 4)} for name, value in seconds.items()
        }
        found[f"{models} models"] = own | {"ratio": round(against, 2), "processor_ratio": round(more, 2)}
        for name, value in seconds.items():
            print(
                f"{models} models, {name:18s} {value:7.3f} s  {rows * FEATURES * 4 / value / 1e6:8,.0f} MB/s  "
                f"{work[name]:7.3f} s of the processors"
            )
        print(f"{models} models: streamed / held in one piece = {against:.2f}, of the processors' time {more:.2f}")
    return found


def formats(folder: Path, rounds: int) -> dict[str, Any]:
    """A pass over the rows of each format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 1 << 17
    X_file, y_file = write_npy(folder, rows)
    X, y = np.load(X_file), np.load(y_file)
    np.savez(folder / "d.npz", X=X, y=y)
    for name, array in (("images-idx3", (20 * np.abs(X)).astype(np.uint8).reshape(rows, 24, 32)), ("labels-idx1", y)):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    table = pa.table({f"x{k}": X[:, k] for k in range(FEATURES)} | {"label": y})
    pq.write_table(table, folder / "columns.parquet", row_group_size=1 << 14)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), FEATURES)
    pq.write_table(
        pa.table({"e": lists, "label": y}), folder / "lists.parquet", row_group_size=1 << 14, use_dictionary=False
    )
    files: dict[str, tuple[Path, dict[str, Any]]] = {
        "npy": (X_file, {"labels": y_file}),
        "npz": (folder / "d.npz", {}),
        "idx": (folder / "train-images-idx3-ubyte", {}),
        "parquet, a column for each feature": (folder / "columns.parquet", {}),
        "parquet, a column of lists": (folder / "lists.parquet", {}),
    }
    found: dict[str, Any] = {"rows": rows, "features": FEATURES, "classes": CLASSES}
    W = 0.01 * np.random.default_rng(1).standard_normal((FEATURES + 1, CLASSES)).astype(np.float32)
    for name, (file, options) in files.items():
        own, kernels = placed(file, options | {"stream": True})
        with kernels.steady():
            seconds = medians({name: lambda own=own: own.cost_and_gradient(W, None)}, rounds)[name]
        size = file.stat().st_size
        found[name] = {
            "seconds": round(seconds, 4),
            "rows_s": round(rows / seconds),
            "MB_s": round(size / seconds / 1e6),
        }
        print(f"{name:36s} {rows / seconds:10,.0f} rows/s  {size / seconds / 1e6:8,.0f} MB/s of the file")
    return found


def memory(folder: Path, rows: int) -> dict[str, Any]:
    """The peak of a fit on rows that fit in no budget."""
    X, y = folder.parent / "X.npy", folder.parent / "y.npy"
    if not y.exists():
        say(f"writing {rows * FEATURES * 4 / 1e9:.1f} GB to {folder}")
        X, y = write_npy(folder, rows)
    rows = len(np.load(y))
    command = [
        sys.executable, "-c", PEAK, "train", "--dataset", str(X), "--labels", str(y), "--stream", "--memory", "1GiB",
        "--max-iter", "3", "--out", str(folder / "run"), "--quiet",
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stderr.strip().splitlines()[-1].split()[-1])
    seconds = time.perf_counter() - begun
    print(f"{rows:,} x {FEATURES}: VmHWM {peak / 1e9:.3f} GB, {seconds:.0f} s in all")
    return {"rows": rows, "features": FEATURES, "classes": CLASSES, "VmHWM": peak, "seconds": round(seconds, 1)}


PEAK = """
import sys
from gpureg_cli.main import app
try:
    app(sys.argv[1:])
finally:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    print("VmHWM", int(line.split()[1]) * 1024, file=sys.stderr)
"""


def main() -> None:
    """The chosen parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("ratio", "formats", "memory"), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4_000_000, help="of the part memory")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "ratio": lambda folder: ratio(folder, given.rounds),
        "formats": lambda folder: formats(folder, given.rounds),
        "memory": lambda folder: memory(folder, given.rows),
    }
    found: dict[str, Any] = {}
    for part in given.part or parts:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found[part] = noted(partial(parts[part], Path(folder)))
    if given.write:  # parts that were measured before stay
        before = written("stream")
        write("stream", {part: before[part] for part in parts if part in before} | found)


if __name__ == "__main__":
    main()
