"""Sparse features from files, through the commands and in scikit-learn's pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import dump_svmlight_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from test_sparse import K, labels, samples

import gpureg
from gpureg.data import load_dataset
from gpureg.errors import DataError, UsageError

X = samples()
Y = labels(X, K)


def svmlight(path: Path, *, zero_based: bool = False) -> Path:
    dump_svmlight_file(X, Y, str(path), zero_based=zero_based)
    return path


def archive(folder: Path, form: str = "csr") -> Path:
    sparse.save_npz(folder / "X.npz", X.asformat(form))
    np.save(folder / "y.npy", Y)
    return folder / "X.npz"


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_an_archive_and_its_labels_are_what_was_saved(form: str, tmp_path: Path) -> None:
    data = load_dataset(archive(tmp_path, form), labels=str(tmp_path / "y.npy"), val_size=0)
    assert (data.X_train != X).nnz == 0
    assert (data.y_train == Y).all()
    assert data.classes == tuple(range(K))


@pytest.mark.parametrize("zero_based", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_svmlight_is_read_as_sparse(zero_based: bool, packed: bool, tmp_path: Path) -> None:
    import gzip

    path = svmlight(tmp_path / "data.svm", zero_based=zero_based)
    if packed:
        text, path = path.read_bytes(), tmp_path / "data.svm.gz"
        path.write_bytes(gzip.compress(text))
    data = load_dataset(path, val_size=0)
    assert abs(data.X_train - X).max() < 1e-15
    assert (data.y_train == Y).all()


@pytest.mark.parametrize("form", ["npz", "svmlight"])
def test_the_commands_take_sparse_files(form: str, tmp_path: Path) -> None:
    path = archive(tmp_path) if form == "npz" else svmlight(tmp_path / "data.svmlight")
    own = ["--labels", str(tmp_path / "y.npy")] if form == "npz" else []
    out = tmp_path / "run"
    trained = invoke("train", "--dataset", str(path), *own, "--dtype", "float64", "--out", str(out), "--json")
    assert trained.exit_code == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["n_features"] == X.shape[1]
    model = gpureg.load_run(out).model
    assert not model.offset.any()
    predicted = invoke("predict", str(out), str(path), "--out", str(tmp_path / "p.npy"))
    assert predicted.exit_code == 0, predicted.stderr
    assert abs(np.load(tmp_path / "p.npy") - model.predict_proba(X)).max() < 1e-12
    evaluated = invoke("evaluate", str(out), str(path), *own, "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(model.evaluate(X, Y).loss, abs=1e-12)


def test_a_sweep_is_resumed_by_its_rows(tmp_path: Path) -> None:
    """The hash of sparse rows tells them from others."""
    from gpureg.fitting.resume import data_sha256

    data = gpureg.make_dataset(X, Y, val_size=0)
    other = X.copy()
    other.data[7] += 1e-9
    assert data_sha256(data) == data_sha256(gpureg.make_dataset(X.tocoo(), Y, val_size=0))
    assert data_sha256(data) != data_sha256(gpureg.make_dataset(other, Y, val_size=0))


def test_validation_and_test_files_may_be_sparse(tmp_path: Path) -> None:
    path = svmlight(tmp_path / "data.svm")
    data = load_dataset(path, val=str(path), test=str(path))
    assert abs(data.X_val - X).max() < 1e-15
    fitted = gpureg.fit(data, l2=1e-3, dtype="float64")
    assert fitted.test is not None
    assert fitted.test.loss == pytest.approx(fitted.models[0].val_loss, abs=1e-12)


def test_an_archive_may_hold_its_labels(tmp_path: Path) -> None:
    """As an array `y` next to the matrix, and weights; so do files for validation and test, which have no --labels."""
    path, own = archive(tmp_path), tmp_path / "own.npz"
    weights = np.arange(len(Y)) % 3
    np.savez(own, y=Y, w=weights, g=np.arange(len(Y)) % 20, **np.load(path))
    given = load_dataset(path, labels=str(tmp_path / "y.npy"), val_size=0)
    data = load_dataset(own, target="y", val_size=0)
    assert (data.X_train != given.X_train).nnz == 0
    assert (data.y_train == given.y_train).all()
    weighted = load_dataset(own, target="y", weights="w", groups="g", val=str(own), test=str(own))
    assert weighted.groups is not None
    assert len(weighted.y_train) == len(weighted.y_val) == (weights > 0).sum()
    np.savez(own, y=Y, **np.load(path))
    out = tmp_path / "run"
    done = invoke("train", "--dataset", path, "--labels", tmp_path / "y.npy", "--val", own, "--test", own,
                  "--dtype", "float64", "--out", out, "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["models"][0]["val_loss"] == pytest.approx(result["models"][0]["train_loss"], abs=1e-12)
    assert result["test"]["loss"] == pytest.approx(result["models"][0]["train_loss"], abs=1e-12)
    evaluated = invoke("evaluate", out, own, "--json")
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(result["test"]["loss"], abs=1e-12)


def test_svmlight_has_no_groups(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"groups='g': .* has no columns to name"):
        load_dataset(svmlight(tmp_path / "data.svm"), groups="g")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "a sparse matrix without labels. Name a file of labels with labels"),
        ({"labels": "short.npy"}, "600 rows but 5 labels"),
        ({"labels": "y.npy", "drop": ("3",)}, "sparse, has no columns to name"),
        ({"labels": "y.npy", "missing": "mean"}, "what is not stored there is 0, not missing"),
    ],
)
def test_what_does_not_fit_an_archive_is_refused(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = archive(tmp_path)
    np.save(tmp_path / "short.npy", Y[:5])
    options = {name: str(tmp_path / value) if name == "labels" else value for name, value in given.items()}
    with pytest.raises((UsageError, DataError), match=says):
        load_dataset(path, **options)


@pytest.mark.parametrize(
    "text", ["1 1:x\n", "0 1:1 1:2 0:3\n1 2\n", "1 99999999999999999999:1\n", "a 1:1\nb 2:1\n", "1 5:1 3:1\n", ""]
)
def test_damaged_svmlight_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.svm"
    path.write_text(text)
    with pytest.raises(DataError):
        load_dataset(path)


def test_new_rows_of_svmlight_have_the_features_of_the_model(tmp_path: Path) -> None:
    run, rows = tmp_path / "run", tmp_path / "rows.svm"
    (tmp_path / "small.svm").write_text("1 1:1 3:1\n0 2:1\n" * 4)
    done = invoke("train", "--dataset", tmp_path / "small.svm", "--val-size", 0, "--out", run)
    assert done.exit_code == 0, done.stderr
    rows.write_text("1 2:1\n0 1:2\n")
    found = invoke("predict", run, rows, "--out", tmp_path / "p.npy")
    assert found.exit_code == 0, found.stderr
    expected = gpureg.load_run(run).model.predict_proba(np.array([[0.0, 1, 0], [2, 0, 0]]))
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, rtol=1e-12)
    rows.write_text("1 2:1\n0 5:2\n")
    refused = invoke("predict", run, rows)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{rows} has 5 features; expected at most 3, those that this model was trained on" in refused.stderr


FROM = {0: "1 0:1 2:1\n0 1:1\n", 1: "1 1:1 3:1\n0 2:1\n"}  # the same rows, their indices counted from 0 and from 1
NEW = {0: "1 1:3 2:1\n0 2:2\n", 1: "1 2:3 3:1\n0 3:2\n"}  # of which none has the first feature
NEW_ROWS = np.array([[0.0, 3, 1], [0, 0, 2]])


def of_base(folder: Path, base: int) -> tuple[Path, Path, Path]:
    """A run on a file counted from `base`, that file, and new rows that are counted likewise."""
    (folder / "old.svm").write_text(FROM[base] * 4)
    (folder / "new.svm").write_text(NEW[base])
    return folder / "run", folder / "old.svm", folder / "new.svm"


@pytest.mark.parametrize("base", [0, 1])
def test_new_rows_are_counted_as_the_training_rows_are(base: int, tmp_path: Path) -> None:
    run, old, new = of_base(tmp_path, base)
    done = invoke("train", "--dataset", old, "--val-size", 0, "--dtype", "float64", "--out", run)
    assert done.exit_code == 0, done.stderr
    model = gpureg.load_run(run).model
    assert model.index_base == base
    predicted = invoke("predict", run, new, "--out", tmp_path / "p.npy")
    assert predicted.exit_code == 0, predicted.stderr
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model.predict_proba(NEW_ROWS), rtol=1e-12)
    evaluated = invoke("evaluate", run, new, "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    expected = model.evaluate(NEW_ROWS, [1, 0])
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(expected.loss, abs=1e-12)


@pytest.mark.parametrize("base", [0, 1])
def test_files_for_validation_and_test_are_counted_as_the_training_rows_are(base: int, tmp_path: Path) -> None:
    run, old, new = of_base(tmp_path, base)
    done = invoke("train", "--dataset", old, "--val", new, "--test", new, "--dtype", "float64", "--out", run, "--json")
    assert done.exit_code == 0, done.stderr
    result, expected = json.loads(done.stdout), gpureg.load_run(run).model.evaluate(NEW_ROWS, [1, 0])
    assert result["models"][0]["val_loss"] == pytest.approx(expected.loss, abs=1e-12)
    assert result["test"]["loss"] == pytest.approx(expected.loss, abs=1e-12)


@pytest.mark.parametrize("use", ["predict", "evaluate", "val", "test"])
def test_an_index_0_is_refused_if_the_training_rows_count_from_1(use: str, tmp_path: Path) -> None:
    run, old, new = of_base(tmp_path, 1)
    new.write_text(FROM[0])
    train = ["train", "--dataset", old, "--out", run]
    if use in ("predict", "evaluate"):
        assert invoke(*train, "--val-size", 0).exit_code == 0
        refused = invoke(use, run, new)
    else:
        refused = invoke(*train, f"--{use}", new)
        assert not run.exists()
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{new} has an index 0, but in the training file the lowest possible index is 1" in refused.stderr


def test_a_model_of_old_does_not_know_its_base_and_judges_each_file(tmp_path: Path) -> None:
    run, old, new = of_base(tmp_path, 1)
    assert invoke("train", "--dataset", old, "--val-size", 0, "--out", run).exit_code == 0
    from gpureg.data.blocks import Request, open_blocks
    from gpureg.model.metadata import described, model_of

    model = gpureg.load_run(run).model
    known = described(model)
    arrays = {name: getattr(model, name) for name in ("coef", "intercept", "offset", "scale")}
    earlier = model_of({name: value for name, value in known.items() if name != "index_base"}, arrays)
    assert earlier.index_base is None
    for text, rows in ((NEW[1], NEW_ROWS), (FROM[0], np.array([[1.0, 0, 1], [0, 1, 0]]))):
        new.write_text(text)
        (block,) = open_blocks(new, Request(earlier.expected)).rows
        assert (block.X.toarray() == rows).all()
    with pytest.raises(ValueError, match="index_base is 2"):
        model_of(known | {"index_base": 2}, arrays)


@pytest.mark.parametrize("damage", ["cut", "shape", "format", "indices"])
def test_damaged_archives_are_refused(damage: str, tmp_path: Path) -> None:
    path = archive(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    else:
        arrays = dict(np.load(path))
        changed = {"shape": np.array([3, 3]), "format": np.array(b"xyz"), "indices": arrays["indices"] + 10_000}
        np.savez(path, **arrays | {damage: changed[damage]})
    with pytest.raises((DataError, UsageError)):
        load_dataset(path, labels=str(tmp_path / "y.npy"))


WORDS = ["gold", "river", "bank", "stone", "lamp", "wolf", "salt", "corn", "iron", "glass", "snow", "fire"]


def texts(count: int = 200) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, count)
    drawn = [random.choice(WORDS, 8, p=np.roll(np.linspace(1, 4, 12) / 30, 4 * label)) for label in y]
    return [" ".join(words) for words in drawn], np.array(["a", "b", "c"])[y]


def test_a_pipeline_of_texts_is_scikit_learn_s() -> None:
    documents, y = texts()
    ours, theirs = (
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), model).fit(documents, y)
        for model in (gpureg.LogisticRegression(C=5, tol=1e-8), LogisticRegression(C=5, tol=1e-9, max_iter=1000))
    )
    assert abs(ours.predict_proba(documents) - theirs.predict_proba(documents)).max() < 1e-5
    search = GridSearchCV(ours, {"logisticregression__C": [0.1, 10.0]}, cv=3).fit(documents, y)
    assert search.best_score_ > 0.5
    chosen = make_pipeline(TfidfVectorizer(), gpureg.LogisticRegressionCV(Cs=3, cv=3)).fit(documents, y)
    assert chosen[-1].scores_.shape == (3, 1, 3)
    assert chosen.predict_proba(documents).shape == (200, 3)


def test_a_table_of_words_and_numbers_is_scikit_learn_s() -> None:
    import pandas as pd

    random = np.random.default_rng(1)
    table = pd.DataFrame({"town": random.choice(WORDS, 300), "size": random.normal(50, 9, 300)})
    y = (table.town.isin(WORDS[:5]) ^ (random.random(300) < 0.2)).astype(int)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town"]), (StandardScaler(), ["size"]), sparse_threshold=1.0
    )
    assert sparse.issparse(columns.fit_transform(table))
    ours, theirs = (
        make_pipeline(columns, model)
        for model in (gpureg.LogisticRegression(tol=1e-8), LogisticRegression(tol=1e-9, max_iter=1000))
    )
    difference = ours.fit(table, y).predict_proba(table) - theirs.fit(table, y).predict_proba(table)
    assert abs(difference).max() < 1e-5
    assert (cross_val_score(ours, table, y) == cross_val_score(theirs, table, y)).all()


def test_an_estimator_of_sparse_rows_is_exported() -> None:
    onnx = pytest.importorskip("onnxruntime")
    fitted = gpureg.fit(gpureg.make_dataset(X, Y), l2=1e-3, dtype="float64").model
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = fitted.to_onnx(Path(folder) / "model.onnx")
        session = onnx.InferenceSession(str(path))
        given = session.get_inputs()[0]
        kind = np.float32 if "float" in given.type and "double" not in given.type else np.float64
        found = session.run(None, {given.name: X.toarray().astype(kind)})[1]
    assert abs(found - fitted.predict_proba(X)).max() < 1e-6
