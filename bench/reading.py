"""Reading a table compared with pandas: CSV and Parquet of 1,000,000 rows x 30 columns of numbers and a label, in turn.

    python bench/reading.py                 # five rounds of each
    python bench/reading.py --rows 100000   # fewer rows
    python bench/reading.py --profile csv   # where our time goes

gpureg reads, checks every value, finds the classes and, as by default, splits off 20% for validation, stratified; with
`val_size=0` it does not split. pandas reads into a frame (`read_csv` with its default engine and with pyarrow's,
`read_parquet`); "X, y" goes on to what a fit needs, `to_numpy` of the features and `factorize` of the labels, "X in
rows, y" to the matrix in the order that a fit works on, where a frame holds columns, and "X, y, split" to
scikit-learn's stratified `train_test_split`. Wall and processor seconds, the median and the least of each: on a busy
machine the latter say more. The files lie in the system's cache; they are written into a temporary folder and removed
afterwards.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

import gpureg


def write_table(folder: Path, rows: int, columns: int) -> tuple[Path, Path]:
    """The same rows as CSV and as Parquet: normal numbers of six decimals, and one of three words."""
    random = np.random.default_rng(0)
    words = np.array(["first", "second", "third"])[random.integers(0, 3, rows)]
    numbers = {f"x{index}": random.normal(size=rows).round(6) for index in range(columns)}
    table = pa.table(numbers | {"kind": words})
    arrow_csv.write_csv(table, folder / "t.csv")
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.csv", folder / "t.parquet"


def features_and_labels(frame: pd.DataFrame) -> tuple[Any, Any]:
    """What a fit needs of a frame: a matrix, and indices of the classes."""
    return frame.drop(columns="kind").to_numpy(), pd.factorize(frame["kind"])[0]


def in_rows(X: Any, y: Any) -> tuple[Any, Any]:
    """The matrix in rows, as gpureg has read it, and as scikit-learn's fit makes it of what it is given."""
    return np.ascontiguousarray(X), y


def split(X: Any, y: Any) -> Any:
    """The split that gpureg makes by default, by scikit-learn."""
    from sklearn.model_selection import train_test_split

    return train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)


def ways(csv: Path, parquet: Path) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is timed, by format and name."""
    return {
        "csv": {
            "gpureg": lambda: gpureg.load_dataset(csv),
            "gpureg, val_size=0": lambda: gpureg.load_dataset(csv, val_size=0),
            "pandas": lambda: pd.read_csv(csv),
            "pandas, X, y": lambda: features_and_labels(pd.read_csv(csv)),
            "pandas, X in rows, y": lambda: in_rows(*features_and_labels(pd.read_csv(csv))),
            "pandas, X, y, split": lambda: split(*features_and_labels(pd.read_csv(csv))),
            "pandas, pyarrow": lambda: pd.read_csv(csv, engine="pyarrow"),
        },
        "parquet": {
            "gpureg": lambda: gpureg.load_dataset(parquet),
            "gpureg, val_size=0": lambda: gpureg.load_dataset(parquet, val_size=0),
            "pandas": lambda: pd.read_parquet(parquet),
            "pandas, X, y": lambda: features_and_labels(pd.read_parquet(parquet)),
            "pandas, X in rows, y": lambda: in_rows(*features_and_labels(pd.read_parquet(parquet))),
            "pandas, X, y, split": lambda: split(*features_and_labels(pd.read_parquet(parquet))),
        },
    }


def main() -> None:
    """Write the files, time every way in turn, print medians and the least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=("csv", "parquet"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        formats = ways(*write_table(Path(folder), given.rows, given.columns))
        if given.profile:
            formats[given.profile]["gpureg"]()
            with cProfile.Profile() as profile:
                formats[given.profile]["gpureg"]()
            pstats.Stats(profile).sort_stats("tottime").print_stats(15)
            return
        for form, calls in formats.items():
            seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
            for _ in range(given.rounds):
                for name, call in calls.items():
                    begun = time.perf_counter(), time.process_time()
                    call()
                    seconds[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
            for name, found in seconds.items():
                (wall, least), (cpu, fewest) = ((statistics.median(v), min(v)) for v in zip(*found, strict=True))
                print(f"{form:8s} {name:22s} {wall:6.3f} s (least {least:.3f}), processors {cpu:.3f} s ({fewest:.3f})")


if __name__ == "__main__":
    main()
