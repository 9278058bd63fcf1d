"""Dask's workers as threads of this process: what is fitted there is what is fitted here; and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dask_problems import EXACT, assert_same_probabilities, assert_within_certificates, fitted, problem, weights_of

import gpureg
from gpureg.backend import cuda_unusable
from gpureg.config import FitConfig

da = pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with Client(processes=False, **options) as found:
        yield found


def test_an_engine_needs_workers() -> None:
    """Before there is a client, which would have some."""
    X, y = problem(100)
    with pytest.raises(gpureg.UsageError, match=r"workers=2.*scheduler"):
        gpureg.fit(gpureg.make_dataset(X, y), engine="dask")


def test_a_sweep_over_folds_is_that_of_one_process(client: Any) -> None:
    X, y = problem(600)
    data = gpureg.make_dataset(X, y, sample_weight=weights_of(600))
    options: dict[str, Any] = {"l2": [1e-1, 1e-4], "cv": 2, "class_weight": "balanced", **EXACT}
    here, there = fitted(data, **options), fitted(data, engine="dask", **options)
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)
    assert here.selected == there.selected
    np.testing.assert_allclose([row.mean for row in here.cv or ()], [row.mean for row in there.cv or ()], rtol=1e-9)


def test_dask_arrays_are_data(client: Any) -> None:
    X, y = problem(600, classes=3)
    options: dict[str, Any] = {"l2": [1e-1, 1e-4], "score": "roc-auc", "refit": "all", **EXACT}
    here = fitted(gpureg.make_dataset(X, y, val_size=200), **options)
    split = gpureg.make_dataset(da.from_array(X, chunks=(350, 5)), da.from_array(y, chunks=400), val_size=200)
    there = fitted(split, **options)
    assert there.config["engine"] == "dask"
    assert_within_certificates(here, there)
    assert_same_probabilities(here, there, X)
    assert (here.n_train, here.n_val, here.selected) == (there.n_train, there.n_val, there.selected)


@pytest.mark.long
def test_what_float32_leaves_short_is_finished_in_float64(client: Any) -> None:
    X, y = problem(3000)
    split = gpureg.make_dataset(da.from_array(X, chunks=(1000, 12)), da.from_array(y, chunks=1000), val_size=0)
    there = gpureg.fit(split, l2=1e-8, scale="none")
    here = fitted(gpureg.make_dataset(X, y, val_size=0), l2=1e-8, scale="none", **EXACT)
    assert there.models[0].stop_reason == "converged"
    assert there.dtype == "float32"
    assert_within_certificates(here, there, resolution=2 * float(np.finfo(np.float32).eps))
    with pytest.warns(gpureg.GpuregWarning, match="dtype='float64'"):  # which it was short of
        gpureg.fit(split, l2=1e-8, scale="none", memory=200_000)


def test_estimators_take_dask_arrays(client: Any) -> None:
    X, y = problem(400, features=5, classes=3)
    split = da.from_array(X, chunks=(150, 3)), da.from_array(y, chunks=100)
    here = gpureg.LogisticRegression(tol=1e-9).fit(X, y)
    there = gpureg.LogisticRegression(tol=1e-9).fit(*split)
    found = there.predict_proba(split[0])
    assert hasattr(found, "dask")  # not computed before it is asked for
    assert np.abs(found.compute() - here.predict_proba(X)).max() < 1e-9
    np.testing.assert_array_equal(there.predict(split[0]).compute(), here.predict(X))


@pytest.mark.long
def test_estimators_take_data_frames_by_name(client: Any) -> None:
    import dask.dataframe as dd
    import pandas as pd

    X, y = problem(600, features=5, classes=2)
    names = [f"f{number}" for number in range(5)]
    frame = pd.DataFrame(X, columns=names)
    labels = pd.Series(np.array(["no", "yes"])[y], name="label")
    split = dd.from_pandas(frame, npartitions=2), dd.from_pandas(labels, npartitions=2)
    here = gpureg.LogisticRegressionCV(Cs=3, cv=2, tol=1e-9).fit(frame, labels)
    there = gpureg.LogisticRegressionCV(Cs=3, cv=2, tol=1e-9).fit(*split)
    np.testing.assert_allclose(there.scores_, here.scores_, rtol=1e-9)
    assert here.C_ == there.C_
    assert list(there.feature_names_in_) == names
    found = there.predict_proba(split[0])
    assert hasattr(found, "dask")  # not computed before it is asked for
    assert np.abs(found.compute() - here.predict_proba(frame)).max() < 1e-9
    np.testing.assert_array_equal(there.predict(split[0]).compute(), here.predict(frame))
    assert there.score(*split) == pytest.approx(here.score(frame, labels), rel=1e-12)


def test_a_device_that_workers_lack_is_told_once_or_required(client: Any) -> None:
    if cuda_unusable() is None:
        pytest.skip("there is a CUDA device here")
    X, y = problem(100)
    data = gpureg.make_dataset(X, y, val_size=0)
    with pytest.warns(gpureg.GpuregWarning, match="not available to 2 of 2 Dask workers") as told:
        gpureg.fit(data, l2=1e-2, engine="dask", device="cuda")
    assert len(told) == 1
    with pytest.raises(gpureg.DeviceError, match="strict_device"):
        gpureg.fit(data, l2=1e-2, engine="dask", device="cuda", strict_device=True)


def test_a_partition_that_is_not_finite_is_named(client: Any) -> None:
    X, y = problem(300)
    X[250, 1] = np.nan
    data = gpureg.make_dataset(da.from_array(X, chunks=(100, -1)), y)
    with pytest.raises(gpureg.DataError, match=r"partition 2: row 50 .* feature 1 is nan"):
        gpureg.fit(data, l2=1e-3)


def test_words_and_gaps_are_for_dask_to_fill(client: Any) -> None:
    X, y = problem(100)
    with pytest.raises(gpureg.UsageError, match=r"missing='mean'.*Encode words and fill gaps"):
        gpureg.make_dataset(da.from_array(X), y, missing="mean")


def test_minibatches_are_refused(client: Any) -> None:
    X, y = problem(100)
    with pytest.raises(gpureg.UsageError, match=r"engine.*lbfgs"):
        gpureg.fit(gpureg.make_dataset(X, y), engine="dask", solver="sgd")
    with pytest.raises(gpureg.UsageError, match=r"engine.*lbfgs"):
        gpureg.fit(gpureg.make_dataset(da.from_array(X), y), batch_size=10)


def test_sparse_rows_are_refused(client: Any) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X, y = problem(100)
    with pytest.raises(gpureg.UsageError, match=r"sparse.*dense"):
        gpureg.fit(gpureg.make_dataset(sparse.csr_array(X), y), engine="dask")


@pytest.mark.parametrize("given", [{"workers": 2}, {"scheduler": "tcp://1.2.3.4:5"}], ids=str)
def test_workers_need_the_engine(given: dict[str, Any]) -> None:
    with pytest.raises(gpureg.UsageError, match=r"engine='dask'"):
        FitConfig(**given)


def test_workers_are_of_one_kind() -> None:
    with pytest.raises(gpureg.UsageError, match=r"both given"):
        FitConfig(engine="dask", workers=2, scheduler="tcp://1.2.3.4:5")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = problem(60)
    data = gpureg.make_dataset(X, y, val_size=0)
    monkeypatch.setitem(sys.modules, "dask", None)  # an import of it then fails
    with pytest.raises(gpureg.UsageError, match=r"pip install 'gpureg\[dask\]'"):
        gpureg.fit(data, l2=1e-2, engine="dask", workers=2)
    assert gpureg.fit(data, l2=1e-2).models  # the local engine needs none of it
