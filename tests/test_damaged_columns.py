"""Columns that only a damaged file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpureg.data import parquet_files
from gpureg.data.matching import Expected, table_matrix
from gpureg.errors import DataError


def test_an_index_beyond_its_dictionary_is_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"word": ["a", "b"]}), tmp_path / "words.parquet")
    wrong = pa.DictionaryArray.from_arrays(pa.array([0, 2]), pa.array(["a", "b"]), safe=False)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pa.table({"word": wrong}))
    limit = parquet_files.machine_limit()
    with pytest.raises(DataError, match=r"can't read .*words\.parquet as Parquet: an index of 2 into 2 words"):
        parquet_files.read_parquet(tmp_path / "words.parquet", ["word"], ("word",), limit)


def test_a_nan_that_signals_is_a_nan() -> None:
    signalling = np.array([0x3F800000, 0x7FA00001], np.uint32).view(np.float32)
    table = pa.table({"x": pa.array(signalling)})
    np.testing.assert_array_equal(table_matrix(table, Expected(1, ("x",)), ["x"], "table"), [[1.0], [np.nan]])
