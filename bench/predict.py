"""`gpureg predict` from Parquet to Parquet: rows a second and peak memory of the whole process.

    python bench/predict.py                  # 10,000,000 rows x 30 features, 3 classes
    python bench/predict.py --rows 1000000   # fewer

The file is read once before, so that it lies in the system's cache. Everything is written into a temporary folder and
removed afterwards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP = 1 << 20  # rows of a row group
GPUREG = Path(sys.executable).with_name("gpureg")


def write_rows(path: Path, rows: int, features: int, labels: Path, classes: int) -> None:
    """Gaussian blobs in float64, and the first of them with their class, to train on."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, features))
    names = [f"x{index}" for index in range(features)]
    with pq.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in names])) as writer:
        for start in range(0, rows, GROUP):
            count = min(GROUP, rows - start)
            y = random.integers(0, classes, count)
            X = random.standard_normal((features, count)) + centres.T[:, y]
            writer.write_table(pa.table(list(X), names=names))
            if start == 0:
                kinds = np.array([f"class {k}" for k in range(classes)])
                few = min(count, 5000)
                pq.write_table(pa.table([*X[:, :few], kinds[y[:few]]], names=[*names, "kind"]), labels)


def run(*arguments: object, cwd: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, and peak resident memory in MB of one command."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(GPUREG), *map(str, arguments)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"gpureg {' '.join(map(str, arguments))} ended with {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Write the rows, train, predict, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpureg-bench-") as scratch:
        folder = Path(scratch)
        arguments = (folder / "rows.parquet", options.rows, options.features, folder / "train.parquet", options.classes)
        # in a process of its own: a child's peak memory begins with that of its parent
        writer = multiprocessing.get_context("spawn").Process(target=write_rows, args=arguments)
        writer.start()
        writer.join()
        run("train", "--dataset", "train.parquet", "--out", "run", "--quiet", cwd=folder)
        with (folder / "rows.parquet").open("rb") as stream:
            while stream.read(1 << 24):
                pass
        size = (folder / "rows.parquet").stat().st_size / 1e9
        print(f"{options.rows:,} rows x {options.features} features, {options.classes} classes, {size:.2f} GB")
        for number in range(options.rounds):
            seconds, processor, peak = run("predict", "run", "rows.parquet", "--out", "out.parquet", cwd=folder)
            with pq.ParquetFile(folder / "out.parquet") as written:
                assert written.metadata.num_rows == options.rows
            load = os.getloadavg()[0]
            print(
                f"round {number + 1}: {seconds:.2f} s ({options.rows / seconds:,.0f} rows/s), {processor:.2f} s of the "
                f"processors, peak {peak:.0f} MB; load average {load:.1f} on {os.cpu_count()} cores",
                flush=True,
            )


if __name__ == "__main__":
    main()
