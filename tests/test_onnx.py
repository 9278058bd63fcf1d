"""Models as ONNX: onnxruntime gives the probabilities that gpureg gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gpureg
from gpureg import LogisticRegression, LogisticRegressionCV
from gpureg.errors import UsageError
from gpureg.model.onnx import TOLERANCE, input_type

LOADERS = {"wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}


def run(path: Path, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels, probabilities, and the type of the input."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.name == "X"
    assert [output.name for output in session.get_outputs()] == ["label", "probabilities"]
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[given.type]
    label, p = session.run(None, {"X": X.astype(kind)})
    return label, p, kind.__name__


@pytest.mark.filterwarnings("ignore::gpureg.errors.GpuregWarning")  # of fits that stop early, which are good enough
@pytest.mark.parametrize("l2", [0.1, 1e-4, 1e-7])
@pytest.mark.parametrize("scale", ["standard", "none"])
@pytest.mark.parametrize("name", LOADERS)
def test_probabilities_within_the_tolerance(name: str, scale: str, l2: float, tmp_path: Path) -> None:
    bunch = LOADERS[name]()
    X, y = bunch.data, bunch.target_names.astype(str)[bunch.target]
    if scale == "none":
        X = X / X.max()
    data = gpureg.make_dataset(X, y)
    model = gpureg.fit(data, solver="lbfgs", l2=l2, scale=scale, dtype="float64", tol=1e-3).model
    label, p, kind = run(model.to_onnx(tmp_path / "m.onnx"), X)
    np.testing.assert_allclose(p, model.predict_proba(X), atol=TOLERANCE, rtol=0)
    decided = np.sort(model.predict_proba(X), axis=1)[:, -2:]
    clear = decided[:, 1] - decided[:, 0] > 2 * TOLERANCE
    np.testing.assert_array_equal(label[clear], model.predict(X)[clear])
    if kind == "float64":
        np.testing.assert_allclose(p, model.predict_proba(X), atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [((3, 7), int), (("no", "yes"), str), ((False, True), str), ((1.5, 2.5), str), ((-(2**63), 0), int)],
)
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_labels_and_ties(classes: tuple[Any, ...], kind: type, task: str, tmp_path: Path) -> None:
    """At a tie softmax takes the first class and logistic the negative one."""
    K = 1 if task == "logistic" else 2
    model = gpureg.LinearModel(
        task, classes, np.array([[[2.0], [-1.0]]])[:, :K], np.zeros((1, K)), np.zeros(1), np.ones(1), np.zeros(1)
    )
    X = np.array([[-3.0], [0.0], [3.0]])
    label, p, _ = run(model.to_onnx(tmp_path / "m.onnx"), X)
    assert [kind(value) for value in model.predict(X).tolist()] == label.tolist()
    np.testing.assert_allclose(p, model.predict_proba(X), atol=1e-15)


def test_the_type_of_the_input_follows_the_cost_of_rounding() -> None:
    zero, one = np.zeros(3), np.ones(3)
    small, large = np.full((2, 3), [[1e-3], [-1e-3]]), np.full((2, 3), [[30.0], [-30.0]])
    assert input_type(small, zero, one) is np.float32
    assert input_type(large, zero, one) is np.float64
    assert input_type(small, 1e5 * one, one) is np.float64
    assert input_type(np.full((2, 3), 30.0), zero, one) is np.float32  # the same for every class
    assert input_type(large, np.full(3, 127.5), np.full(3, 127.5)) is np.float32  # pixels


def test_the_file_says_what_its_columns_are(tmp_path: Path) -> None:
    frame = load_wine(as_frame=True).frame
    data = gpureg.make_dataset(frame.drop(columns="target"), frame["target"])
    model = gpureg.fit(data, solver="lbfgs", l2=[0.1, 0.01]).model
    read = onnx.load(model.to_onnx(tmp_path / "m.onnx", model=0))
    said = {entry.key: entry.value for entry in read.metadata_props}
    assert json.loads(said["feature_names"]) == list(frame.columns[:-1])
    assert json.loads(said["classes"]) == [0, 1, 2]
    assert (said["task"], float(said["l2"])) == ("softmax", 0.1)
    assert read.producer_name == "gpureg"
    content = (tmp_path / "m.onnx").read_bytes()
    assert model.to_onnx(tmp_path / "again.onnx", model=0).read_bytes() == content


def test_what_can_t_be_written_is_refused(tmp_path: Path) -> None:
    model = gpureg.LinearModel(
        "softmax", (0, 1), np.full((1, 2, 1), np.nan), np.zeros((1, 2)), np.zeros(1), np.ones(1), np.zeros(1)
    )
    with pytest.raises(UsageError, match="diverged"):
        model.to_onnx(tmp_path / "m.onnx")
    model.coef[:] = 0
    with pytest.raises(UsageError, match="can't be written"):
        model.to_onnx(tmp_path / "no" / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    model = gpureg.LinearModel(
        "softmax", (0, 1), np.zeros((1, 2, 1)), np.zeros((1, 2)), np.zeros(1), np.ones(1), np.zeros(1)
    )
    with pytest.raises(UsageError, match=r"pip install 'gpureg\[onnx\]'"):
        model.to_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("kind", [LogisticRegression, LogisticRegressionCV])
def test_pipelines_convert(kind: Any, words: bool, name: str, dtype: Any) -> None:
    bunch = LOADERS[name]()
    X, y = bunch.data.astype(dtype), bunch.target_names.astype(str)[bunch.target] if words else bunch.target
    estimator = kind(Cs=3, cv=3) if kind is LogisticRegressionCV else kind()
    pipeline = make_pipeline(StandardScaler(), estimator).fit(X, y)
    made = to_onnx(pipeline, X[:1], options={id(estimator): {"zipmap": False}})
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    label, p = session.run(None, {"X": X})
    np.testing.assert_allclose(p, pipeline.predict_proba(X), atol=1e-6 if dtype is np.float32 else 1e-12)
    np.testing.assert_array_equal(label, pipeline.predict(X))


def test_zipmap_is_skl2onnx_s() -> None:
    X, y = load_wine(return_X_y=True)
    X = X.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    session = onnxruntime.InferenceSession(
        to_onnx(pipeline, X[:1]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    _, p = session.run(None, {"X": X[:2]})
    assert [sorted(row) for row in p] == [[0, 1, 2], [0, 1, 2]]


IMPORTS = {
    "theirs first": "import skl2onnx\nfrom gpureg import LogisticRegression",
    "ours first, which imports nothing for it": (
        "import sys\nfrom gpureg import LogisticRegression\nassert not {'onnx', 'skl2onnx'} & set(sys.modules)"
        "\nimport skl2onnx"
    ),
}


@pytest.mark.parametrize("order", IMPORTS)
def test_it_is_registered_in_either_order_of_imports(order: str) -> None:
    code = IMPORTS[order] + (
        "\nfrom skl2onnx._supported_operators import sklearn_operator_name_map as known"
        "\nassert known[LogisticRegression] == 'GpuregLogisticRegression'"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
