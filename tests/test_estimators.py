"""The estimators as scikit-learn's: its own checks, pipelines, searches, pickles, data frames and other arrays."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.backend import cuda_unusable
from gpureg.errors import GpuregWarning

KINDS = [LogisticRegression, LogisticRegressionCV]


@pytest.fixture(scope="module")
def iris() -> Any:
    return load_iris(return_X_y=True)


def check(model: Any) -> None:
    """All of scikit-learn's checks: none fails, and skipped are only arrays that this machine does not have."""
    with warnings.catch_warnings():
        # the checks fit with max_iter=5, and to few samples
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The least populated class in y has only", UserWarning)
        warnings.filterwarnings("ignore", "No sample of the class|Training rows of some classes", GpuregWarning)
        results = check_estimator(model, on_skip=None, on_fail=None)
    failed = [result for result in results if result["status"] not in ("passed", "skipped")]
    assert not failed, [(result["check_name"], result["exception"]) for result in failed]
    skipped = [result for result in results if result["status"] == "skipped"]
    assert {result["check_name"] for result in skipped} <= {
        "check_array_api_input",
        "check_array_api_mixed_inputs",
        "check_array_api_same_namespace",
    }
    assert len(results) > 60


# three folds: some of the checks have three rows of a class, of which scikit-learn's own class can't make five either
@pytest.mark.parametrize("model", [LogisticRegression(), LogisticRegressionCV(cv=3)])
def test_scikit_learn_s_checks(model: Any) -> None:
    check(model)


def checks_of_other_arrays() -> int:
    """Run those of scikit-learn's checks that enable array API dispatch; how many there were arrays for.

    They try PyTorch's CUDA where it was built with it, whether or not there is a device.
    """
    if cuda_unusable() is not None:
        torch.backends.cuda.is_built = lambda: False
    ran = 0
    for kind in KINDS:
        for model, run in estimator_checks_generator(kind()):
            if run.func.__name__.startswith("check_array_api"):
                with contextlib.suppress(SkipTest):
                    run(model)
                    ran += 1
    return ran


def test_scikit_learn_s_checks_of_other_arrays(tmp_path: Path) -> None:
    """With array API dispatch, which wants an environment variable before SciPy is imported: NumPy, PyTorch and
    array-api-strict on two devices, mixed inputs too."""
    if cuda_unusable() is not None:  # CuPy without a device is what scikit-learn's check does not foresee
        (tmp_path / "cupy.py").write_text("raise ModuleNotFoundError('there is no device')\n")
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([str(tmp_path), folder, os.path.dirname(folder)])
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": path}
    code = "import test_estimators as here; print(here.checks_of_other_arrays())"
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2 * 7  # NumPy, PyTorch twice, array-api-strict twice, a mixture, the same namespace


def test_a_pipeline_a_search_a_clone_and_a_pickle(iris: Any) -> None:
    X, y = iris
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipe, {"logisticregression__C": [0.01, 1.0, 100.0]}, scoring="neg_log_loss", cv=3)
    search.fit(X, y)
    assert search.best_params_["logisticregression__C"] in (1.0, 100.0)
    assert search.score(X, y) > -0.2
    own = LogisticRegressionCV(Cs=[0.01, 1.0, 100.0], cv=3).fit(StandardScaler().fit_transform(X), y)
    assert search.best_params_["logisticregression__C"] == own.C_
    for model in (LogisticRegression(C=3.0, class_weight="balanced"), own):
        copied = clone(model)
        assert copied.get_params() == model.get_params()
        assert not hasattr(copied, "coef_")
        again = pickle.loads(pickle.dumps(model.fit(X, y)))
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_data_frames_and_text_labels(iris: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = iris
    frame = pandas.DataFrame(X, columns=list("abcd"))
    names = pandas.Series(np.array(["setosa", "versicolor", "virginica"])[y])
    plain = LogisticRegression().fit(X, y)
    model = LogisticRegression().fit(frame, names)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_features_in_ == 4
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert (model.predict(frame) == names).mean() > 0.95
    np.testing.assert_array_equal(model.predict_proba(frame), plain.predict_proba(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("dcba")])


def test_two_classes_have_one_column_and_the_second_is_positive(iris: Any) -> None:
    X, y = iris[0][:100], np.array(["no", "yes"])[iris[1][:100]]
    model = LogisticRegression().fit(X, y)
    assert (model.coef_.shape, model.intercept_.shape, model.decision_function(X).shape) == ((1, 4), (1,), (100,))
    assert (model.predict(X) == np.where(model.decision_function(X) > 0, "yes", "no")).all()
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-model.decision_function(X))), rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), proba, rtol=1e-12)
    far = np.array([[1e5, -1e5, 1e5, 1e5], [-1e5, 1e5, -1e5, -1e5]])
    assert np.isfinite(model.predict_log_proba(far)).all()  # log(predict_proba) is -inf there


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_tensors_in_tensors_out(kind: Any, classes: int, iris: Any) -> None:
    torch = pytest.importorskip("torch")
    X, y = iris[0][iris[1] < classes], iris[1][iris[1] < classes]
    plain = kind().fit(X, y)
    rows, labels = torch.from_numpy(X).requires_grad_(), torch.from_numpy(y)
    model = kind().fit(rows, labels, sample_weight=torch.ones(len(y)))
    assert torch.equal(model.classes_, torch.unique(labels))
    for name in ("coef_", "intercept_", "n_iter_"):
        assert isinstance(getattr(model, name), torch.Tensor), name
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        found = getattr(model, method)(rows)
        assert isinstance(found, torch.Tensor)
        assert found.device == rows.device
        np.testing.assert_allclose(found.numpy(), getattr(plain, method)(X), rtol=1e-6, atol=1e-9)
    assert model.score(rows, labels) == pytest.approx(plain.score(X, y), rel=1e-6)
    assert model.predict(rows).dtype == labels.dtype
    # weights follow the rows that are asked about
    assert isinstance(model.predict_proba(X), np.ndarray)
    assert isinstance(plain.predict_proba(rows), torch.Tensor)
    text = kind().fit(rows, np.array(["a", "b", "c"])[y])
    assert text.predict(rows).dtype.kind in "UO"
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.predict(rows), model.predict(rows))


@pytest.mark.parametrize(("given", "kept"), [("float32", "float32"), ("float64", "float64"), ("bfloat16", "float32")])
def test_results_have_the_input_s_float_type(given: str, kept: str, iris: Any) -> None:
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(iris[0]).to(getattr(torch, given))
    model = LogisticRegression().fit(rows, torch.from_numpy(iris[1]))
    assert model.coef_.dtype == getattr(torch, kept)
    assert model.predict_proba(rows).dtype == getattr(torch, kept)
    assert model.score(rows, iris[1]) > 0.95
    whole = LogisticRegression().fit((iris[0] * 10).astype(int), iris[1])
    assert whole.coef_.dtype == np.float64
    assert LogisticRegression(dtype="float32").fit(*iris).coef_.dtype == np.float32


def test_array_api_strict_s_second_device(iris: Any) -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    rows, labels = (strict.asarray(value, device=device) for value in iris)
    model = LogisticRegression().fit(rows, labels)
    for found in (model.coef_, model.n_iter_, model.classes_, model.predict(rows), model.predict_proba(rows)):
        assert found.device == device
    assert model.score(rows, labels) > 0.95


def test_rows_that_do_not_fit_are_refused(iris: Any) -> None:
    torch = pytest.importorskip("torch")
    X, y = iris
    with pytest.raises(NotFittedError):
        LogisticRegression().predict(X)
    model = LogisticRegression().fit(X, y)
    for wrong in (X[:, :3], torch.from_numpy(X[:, :3])):
        with pytest.raises(ValueError, match="X has 3 features, but LogisticRegression is expecting 4"):
            model.predict(wrong)
    with pytest.raises(ValueError, match="dimensions"):
        model.predict(torch.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        model.predict(torch.full((1, 4), float("nan")))


def test_a_device_that_is_not_there(iris: Any) -> None:
    if cuda_unusable() is None:
        assert LogisticRegression(device="cuda").fit(*iris).score(*iris) > 0.95
        return
    with pytest.warns(match="is not available"):
        model = LogisticRegression(device="cuda").fit(*iris)
    np.testing.assert_allclose(model.coef_, LogisticRegression(device="cpu").fit(*iris).coef_)
