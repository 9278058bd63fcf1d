"""Words, missing values, dates and ids in a table: what is learnt from the training rows, and applied to new ones."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import invoke
from gpureg_cli.main import app
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from typer.testing import CliRunner

import gpureg
from gpureg.data.encoding import Encoding
from gpureg.errors import DataError, GpuregWarning, UsageError
from gpureg.model.linear import LinearModel

N = 400
CITIES = ["Oslo", "Rome", "São Paulo", 'a,"b"', " padded", "東京"]


def people(n: int = N, seed: int = 0) -> pd.DataFrame:
    """A table as people have it: an id, a date, words with commas and letters of all kinds, missing values."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": np.arange(n) + 1000,
            "age": rng.normal(40, 10, n).round(2),
            "city": rng.choice(CITIES, n),
            "when": pd.date_range("2020-01-01", periods=n).astype(str),
            "rooms": rng.integers(0, 5, n).astype(float),
            "owner": rng.choice([True, False], n),
            "kind": rng.choice(["7", "12", "x"], n),
        }
    )
    score = table.age + 6 * (table.city == "Rome") - 3 * table.owner + rng.normal(0, 5, n)
    table["answer"] = np.where(score > 41, "yes", "no")
    table.loc[rng.choice(n, n // 10, replace=False), "age"] = np.nan
    table.loc[rng.choice(n, n // 20, replace=False), "rooms"] = np.nan
    return table


def with_missing_words(table: pd.DataFrame) -> pd.DataFrame:
    table = table.copy()
    table.loc[::17, "city"] = None
    return table


def written(table: pd.DataFrame, folder: Path, form: str, name: str = "table") -> Path:
    """The same table in a form of file."""
    path = folder / f"{name}.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "tsv":
        table.to_csv(path, index=False, sep="\t")
    elif form == "csv.gz":
        table.to_csv(path, index=False)
    elif form == "parquet":
        table.to_parquet(path, index=False)
    elif form == "categories":
        path = folder / f"{name}.parquet"
        table.assign(city=table.city.astype("category"), kind=table.kind.astype("category")).to_parquet(path)
    else:
        path.mkdir()
        half = len(table) // 2
        table[:half].to_parquet(path / "part-0.parquet", index=False)
        table[half:].iloc[:, ::-1].to_parquet(path / "part-1.parquet", index=False)
        (path / "_SUCCESS").touch()
    return path


OPTIONS = (
    "--drop",
    "id,when",
    "--categorical",
    "one-hot",
    "--missing",
    "mean",
    "--solver",
    "lbfgs",
    "--dtype",
    "float64",
)


def pipeline(C: float) -> object:
    """scikit-learn's way, with every category a column and all features scaled."""
    numbers = ["age", "rooms", "owner"]
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="mean"), numbers),
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city", "kind"]),
        ]
    )
    return make_pipeline(columns, StandardScaler(), LogisticRegression(C=C, tol=1e-12, max_iter=10_000))


@pytest.mark.parametrize("words", [people, lambda *a: with_missing_words(people(*a))], ids=["words", "missing words"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_of_all_kinds_equals_a_pipeline_of_scikit_learn(tmp_path, form, words):
    train, new = words(N, 0), words(150, 1)
    new.loc[3, "city"] = "Paris"  # which no training row has
    data, rows = written(train, tmp_path, form), written(new, tmp_path, form, "new")
    run = tmp_path / "run"
    result = invoke(
        "train",
        "--dataset",
        data,
        *OPTIONS,
        "--task",
        "logistic",
        "--val-size",
        0,
        "--tol",
        1e-12,
        "--out",
        run,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    theirs = pipeline(1.0)
    X, X_new = train.drop(columns=["id", "when", "answer"]), new.drop(columns=["id", "when", "answer"])
    theirs.fit(X.assign(owner=X.owner.astype(float)), train.answer)
    expected = theirs.predict_proba(X_new.assign(owner=X_new.owner.astype(float)))

    predicted = tmp_path / "p.csv"
    result = invoke("predict", run, rows, "--out", predicted)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("categories that no training row has") == 1
    table = pd.read_csv(predicted)
    np.testing.assert_allclose(table[["p_no", "p_yes"]], expected, atol=2e-5)
    assert (table.label == theirs.predict(X_new.assign(owner=X_new.owner.astype(float)))).all()

    # within the certificate: scikit-learn's weights, in ours' objective, are no further from the optimum
    estimator = theirs[-1]
    features = theirs[:-1].transform(X.assign(owner=X.owner.astype(float)))
    logits = features @ estimator.coef_[0] + estimator.intercept_[0]
    y = (train.answer == "yes").to_numpy()
    objective = (
        np.logaddexp(0, np.where(y, -logits, logits)).mean() + found["models"][0]["l2"] * (estimator.coef_**2).sum()
    )
    certificate = found["models"][0]["certificate"]
    assert abs(objective - certificate["objective"]) <= certificate["gap_bound"] + 1e-12

    result = invoke("evaluate", run, rows, "--json")
    assert result.exit_code == 0, result.stderr
    accuracy = theirs.score(X_new.assign(owner=X_new.owner.astype(float)), new.answer)
    assert json.loads(result.stdout)["accuracy"] == pytest.approx(accuracy)


def weights_of(model: LinearModel) -> dict[str, np.ndarray]:
    assert model.feature_names is not None
    return dict(zip(model.feature_names, model.coef[0].T.tolist(), strict=True))


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_every_form_gives_the_same_weights(tmp_path, missing):
    table = with_missing_words(people())
    options = {"drop": ["id", "when"], "categorical": "one-hot", "missing": missing}
    X, y = table.drop(columns="answer"), table.answer
    if missing == "drop":
        assert table.isna().any(axis=1).sum() > 50
    models = []
    for form in ("csv", "tsv", "csv.gz", "parquet", "categories", "folder"):
        folder = tmp_path / form
        folder.mkdir()
        path, run = written(table, folder, form), folder / "run"
        arguments = (*OPTIONS[:4], "--missing", missing, *OPTIONS[6:])
        result = invoke("train", "--dataset", path, "--target", "answer", *arguments, "--out", run, "--quiet")
        assert result.exit_code == 0, result.stderr
        models.append(gpureg.load_run(run).model)
        data = gpureg.load_dataset(path, target="answer", **options)
        with pytest.warns(GpuregWarning, match="left out") if missing == "drop" else nullcontext():
            models.append(gpureg.fit(data, solver="lbfgs", dtype="float64").model)
    for frame in (X, pl.from_pandas(X), pl.from_pandas(X).to_arrow()):
        data = gpureg.make_dataset(frame, y, **options)
        with pytest.warns(GpuregWarning, match="left out") if missing == "drop" else nullcontext():
            models.append(gpureg.fit(data, solver="lbfgs", dtype="float64").model)
    first = weights_of(models[0])
    for model in models:
        found = weights_of(model)
        assert set(found) == set(first)
        for name, weights in first.items():
            np.testing.assert_allclose(found[name], weights, rtol=1e-6, atol=1e-9, err_msg=name)
    for model in models[:2]:
        np.testing.assert_allclose(model.predict_proba(X), models[0].predict_proba(pl.from_pandas(X)), atol=1e-7)


def test_rows_that_training_leaves_out_get_no_label(tmp_path):
    table = people()
    data = gpureg.make_dataset(
        table.drop(columns="answer"), table.answer, drop=["id", "when"], categorical="one-hot", missing="drop"
    )
    complete = ~table.isna().any(axis=1)
    assert len(data.y_train) + len(data.y_val) == complete.sum()
    with pytest.warns(GpuregWarning, match=f"{(~complete).sum()} of 400 rows have missing values"):
        result = gpureg.fit(data)
    model = result.model
    labels = model.predict(table)
    assert [label is None for label in labels] == (~complete).tolist()
    probabilities = model.predict_proba(table)
    np.testing.assert_array_equal(np.isnan(probabilities).all(axis=1), ~complete)
    assert np.isfinite(probabilities[complete]).all()
    with pytest.warns(GpuregWarning, match="training left out such rows"):
        found = model.evaluate(table, table.answer)
    assert found.n == complete.sum()
    result.save(tmp_path / "run")
    rows = written(table, tmp_path, "csv")
    for form in ("csv", "parquet", "npz", "npy"):
        out = tmp_path / f"p.{form}"
        done = invoke("predict", tmp_path / "run", rows, "--out", out)
        assert done.exit_code == 0, done.stderr
        assert "get no label" in done.stderr
    by_csv, by_parquet = pd.read_csv(tmp_path / "p.csv"), pd.read_parquet(tmp_path / "p.parquet")
    for one in (by_csv, by_parquet):
        assert (one.label.isna() == ~complete).all()
        assert (one.p_yes.isna() == ~complete).all()
    assert (np.load(tmp_path / "p.npz")["label"] == "").sum() == (~complete).sum()
    assert np.isnan(np.load(tmp_path / "p.npy")).all(axis=1).sum() == (~complete).sum()
    done = invoke("evaluate", tmp_path / "run", rows, "--json")
    assert json.loads(done.stdout)["n"] == complete.sum()
    assert json.loads(done.stdout)["loss"] == pytest.approx(found.loss)


def test_numbers_for_classes_keep_empty_labels(tmp_path):
    X = np.array([[0.0], [1.0], [np.nan], [2.0], [3.0], [0.5]])
    y = [1, 1, 2, 2, 2, 1]
    data = gpureg.make_dataset(X, y, missing="drop", val_size=0)
    with pytest.warns(GpuregWarning, match="1 of 6 rows"):
        result = gpureg.fit(data)
    assert result.model.predict(X).tolist() == [1, 1, None, 2, 2, 1]
    result.save(tmp_path / "run")
    np.save(tmp_path / "new.npy", X)
    for form in ("csv", "parquet", "npz"):
        assert invoke("predict", tmp_path / "run", tmp_path / "new.npy", "--out", tmp_path / f"p.{form}").exit_code == 0
    assert (tmp_path / "p.csv").read_text().splitlines()[3] == ",nan,nan"
    assert pd.read_parquet(tmp_path / "p.parquet").label.isna().tolist() == [False, False, True, False, False, False]
    np.testing.assert_array_equal(np.load(tmp_path / "p.npz")["label"], [1, 1, np.nan, 2, 2, 1])


def test_means_are_of_the_training_rows_and_weighted():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 2))
    X[::7, 0] = np.nan
    y, w = np.arange(60) % 2, rng.integers(1, 4, 60)
    data = gpureg.make_dataset(X[:40], y[:40], X[40:], y[40:], sample_weight=w[:40], missing="mean")
    there = ~np.isnan(X[:40, 0])
    mean = np.average(X[:40, 0][there], weights=w[:40][there])
    np.testing.assert_allclose(data.X_train[~there, 0], mean)
    np.testing.assert_allclose(data.X_val[np.isnan(X[40:, 0]), 0], mean)
    repeated = gpureg.make_dataset(
        np.repeat(X[:40], w[:40], axis=0), np.repeat(y[:40], w[:40]), missing="mean", val_size=0
    )
    assert data.encoding is not None
    assert repeated.encoding is not None
    np.testing.assert_allclose(data.encoding.fill, repeated.encoding.fill)


def test_categories_are_those_of_the_training_rows():
    table = pd.DataFrame({"w": ["a"] * 10 + ["b"] * 10 + ["c", "c"], "x": np.arange(22) / 7})
    y = np.arange(22) % 2
    data = gpureg.make_dataset(table[:20], y[:20], table[20:], y[20:], categorical="one-hot")
    assert data.feature_names == ("w=a", "w=b", "x")
    np.testing.assert_array_equal(data.X_val[:, :2], 0)
    assert [notice for notice in data.notices if "in 'w' (2)" in notice]
    model = _fitted(data)
    with pytest.warns(GpuregWarning, match="no training row has"):
        seen = model.predict_proba(table)
    assert np.isfinite(seen).all()


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (pd.DataFrame({"w": ["a", "b"] * 10, "x": np.arange(20) / 7}), "a data frame with the columns w, x"),
        (
            pd.DataFrame({"v": np.arange(20) / 3, "x": [np.nan, *np.arange(19) / 7]}),
            "an array (N, 2), or a data frame of these columns",
        ),
    ],
    ids=["words", "numbers"],
)
def test_a_card_says_which_rows_a_model_takes(table, rows, tmp_path):
    table.assign(y=np.arange(20) % 2).to_csv(tmp_path / "t.csv", index=False)
    options = ("--categorical", "one-hot", "--missing", "mean", "--val-size", 0, "--out", tmp_path / "run")
    done = invoke("train", "--dataset", tmp_path / "t.csv", *options)
    assert done.exit_code == 0, done.stderr
    assert invoke("export", tmp_path / "run", "--card", tmp_path / "card.md").exit_code == 0
    assert f"model.predict_proba(X)  # {rows}\n" in (tmp_path / "card.md").read_text()
    model = gpureg.load_run(tmp_path / "run").model
    assert model.predict_proba(table).shape == (20, 2)
    if rows.startswith("an array"):
        assert model.predict_proba(table.to_numpy()).shape == (20, 2)


def _fitted(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        return gpureg.fit(data, **options).model


@pytest.mark.parametrize("missing", ["", "NA", "None", "nan"])
def test_what_a_csv_writes_for_a_missing_word(tmp_path, missing):
    rows = "".join(f"{i / 3},{['red', 'blue', missing][i % 3]},{i % 2}\n" for i in range(30))
    (tmp_path / "t.csv").write_text("x,w,y\n" + rows)
    with pytest.raises(DataError, match=r"column 'w' has 10 missing values, the first in row 2 .*missing='mean'"):
        gpureg.load_dataset(tmp_path / "t.csv", categorical="one-hot")
    data = gpureg.load_dataset(tmp_path / "t.csv", categorical="one-hot", missing="mean", val_size=0)
    assert data.feature_names == ("x", "w=blue", "w=red", "w=")
    np.testing.assert_array_equal(data.X_train[:, 3], np.arange(30) % 3 == 2)
    data = gpureg.load_dataset(tmp_path / "t.csv", categorical="one-hot", missing="drop", val_size=0)
    assert len(data.y_train) == 20


def test_an_empty_word_in_a_frame_is_a_category():
    table = pd.DataFrame({"w": ["", "a"] * 10})
    data = gpureg.make_dataset(table, np.arange(20) % 2, categorical="one-hot", val_size=0)
    assert data.feature_names == ("w=", "w=a")


def test_a_column_that_holds_words_late(tmp_path):
    """What the first lines say of a column is a guess."""
    rows = "".join(f"{i},{i % 5 if i < 900 else 'none of them'},{i % 2}\n" for i in range(1000))
    (tmp_path / "t.csv").write_text("x,w,y\n" + rows)
    data = gpureg.load_dataset(tmp_path / "t.csv", categorical="one-hot", drop="x", val_size=0)
    assert data.feature_names == ("w=0", "w=1", "w=2", "w=3", "w=4", "w=none of them")
    assert data.X_train.sum() == 1000


@pytest.mark.parametrize("kind", ["int", "float", "bool"])
def test_a_category_of_numbers(tmp_path, kind):
    """A pandas column of categories is one, whatever its values; new data may write the values as plain numbers."""
    values = {"int": [10, 2, 30], "float": [1.0, 2.5, 3.0], "bool": [True, False, True]}[kind]
    column = pd.Series([values[i % 3] for i in range(60)])
    table = pd.DataFrame({"c": column.astype("category"), "x": np.arange(60) / 60, "y": np.arange(60) % 2})
    X, y = table[["c", "x"]], table.y
    with pytest.raises(DataError, match="do not hold numbers: c"):
        gpureg.make_dataset(X, y)
    data = gpureg.make_dataset(X, y, categorical="one-hot")
    names = {"int": ("c=2", "c=10", "c=30"), "float": ("c=1", "c=2.5", "c=3"), "bool": ("c=False", "c=True")}[kind]
    assert data.feature_names == (*names, "x")
    result = gpureg.fit(data)
    expected = result.model.predict_proba(table)
    np.testing.assert_array_equal(result.model.predict_proba(table.assign(c=column)), expected)
    np.testing.assert_array_equal(result.model.predict_proba(table.assign(c=column.astype(str))), expected)
    result.save(tmp_path / "run")
    table.to_csv(tmp_path / "t.csv", index=False)
    assert invoke("predict", tmp_path / "run", tmp_path / "t.csv", "--out", tmp_path / "p.npy").exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, rtol=1e-12)


DATES = [
    "2020-01-{:02d}", "2020/1/{}", "{}.1.2020", "1/{}/2020", "2020-01-{:02d} 10:00", "2020-01-{:02d}T10:00:00.5Z",
    "2020-01-{:02d} 10:00:00+02:00",
]  # fmt: skip


@pytest.mark.parametrize("pattern", DATES)
def test_dates_are_refused_with_advice(tmp_path, pattern):
    rows = "".join(f"{i},{pattern.format(1 + i % 28)},{i % 2}\n" for i in range(30))
    (tmp_path / "t.csv").write_text("x,when,y\n" + rows)
    with pytest.raises(DataError, match=r"'when' holds dates .* drop='when'"):
        gpureg.load_dataset(tmp_path / "t.csv", categorical="one-hot")
    result = invoke("train", "--dataset", tmp_path / "t.csv", "--out", tmp_path / "r")
    assert result.exit_code == 2
    assert "--drop" in result.stderr


@pytest.mark.parametrize(
    "column", [pd.date_range("2020-01-01", periods=30), [pd.Timedelta(i, "s") for i in range(30)], [["a"]] * 30]
)
def test_types_that_are_neither_numbers_nor_words(tmp_path, column):
    table = pd.DataFrame({"x": np.arange(30) / 7, "when": column, "y": np.arange(30) % 2})
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"neither numbers nor words: when \(.*with drop"):
        gpureg.load_dataset(tmp_path / "t.parquet", categorical="one-hot")
    data = gpureg.load_dataset(tmp_path / "t.parquet", categorical="one-hot", drop="when")
    assert data.feature_names == ("x",)


def test_ids_get_the_notice(tmp_path):
    table = pd.DataFrame({"x": np.arange(40) % 7, "id": [f"u{i}" for i in range(40)], "n": range(40)})
    data = gpureg.make_dataset(table, np.arange(40) % 2, categorical="one-hot")
    assert any("id, n: features of words or whole numbers that are all different" in n for n in data.notices)
    assert any("drop='id,n'" in n for n in data.notices)


def test_a_column_without_a_value_has_no_mean():
    table = pd.DataFrame({"x": np.arange(20) / 3, "gone": np.full(20, np.nan)})
    with pytest.raises(DataError, match=r"'gone' has no value in any training row.*drop='gone'"):
        gpureg.make_dataset(table, np.arange(20) % 2, missing="mean")
    with pytest.raises(DataError, match=r"every row has a missing value.*missing='mean'"):
        gpureg.make_dataset(table, np.arange(20) % 2, missing="drop")
    data = gpureg.make_dataset(table, np.arange(20) % 2, missing="mean", drop="gone")
    assert data.feature_names == ("x",)


def test_infinite_values_are_not_missing(tmp_path):
    X = np.arange(20.0).reshape(10, 2)
    X[3, 1] = np.inf
    for missing in ("mean", "drop"):
        with pytest.raises(DataError, match=r"row 3 .* is inf"):
            gpureg.make_dataset(X, np.arange(10) % 2, missing=missing)


@pytest.mark.parametrize("kind", ["Int64", "boolean", "float16", "UInt8", "string"])
def test_nullable_types(kind):
    values = pd.Series([1, 0, None] * 20, dtype="Int64")
    column = values.astype(kind) if kind != "float16" else values.astype("float64").astype("float16")
    table = pd.DataFrame({"c": column, "x": np.arange(60) / 50})
    with pytest.raises(DataError):
        gpureg.make_dataset(table, np.arange(60) % 2, categorical="one-hot")
    data = gpureg.make_dataset(table, np.arange(60) % 2, categorical="one-hot", missing="mean", val_size=0)
    if kind == "string":
        assert data.feature_names == ("c=0", "c=1", "c=", "x")
        return
    np.testing.assert_allclose(data.X_train[:, 0].astype(float), [1, 0, 0.5] * 20)


def test_lists_with_missing_values(tmp_path):
    vectors = [[1.0, 2.0], None, [3.0, None], [4.0, 6.0]] * 10
    table = pa.table({"e": pa.array(vectors, pa.list_(pa.float32())), "x": np.arange(40.0), "y": np.arange(40) % 2})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'e' has 10 missing values"):
        gpureg.load_dataset(tmp_path / "t.parquet")
    data = gpureg.load_dataset(tmp_path / "t.parquet", missing="mean", val_size=0)
    assert data.feature_names == ("e[0]", "e[1]", "x")
    mean = np.array([8 / 3, 4.0])
    np.testing.assert_allclose(data.X_train[:4, :2], [[1, 2], mean, [3, 4], [4, 6]], rtol=1e-6)
    model = _fitted(data)
    np.testing.assert_allclose(
        model.predict_proba(table.drop_columns(["y"])),
        model.predict_proba(pd.DataFrame(data.X_train, columns=data.feature_names)),
        rtol=1e-6,
    )


def test_the_run_holds_what_was_learnt(tmp_path):
    table = people()
    data = gpureg.make_dataset(
        table.drop(columns="answer"), table.answer, drop=["id", "when"], categorical="one-hot", missing="mean"
    )
    result = gpureg.fit(data)
    result.save(tmp_path / "run")
    again = gpureg.load_run(tmp_path / "run").model
    assert again.encoding == result.model.encoding
    assert again.encoding is not None
    assert again.encoding.names == ("age", "city", "rooms", "owner", "kind")
    assert again.encoding.categories[4] == ("12", "7", "x")
    np.testing.assert_array_equal(again.predict_proba(table), result.model.predict_proba(table))
    np.testing.assert_array_equal(again.predict_proba(table[table.columns[::-1]]), result.model.predict_proba(table))
    with pytest.raises(UsageError, match=r"lacks columns .*: city"):
        again.predict(table.drop(columns="city"))
    with pytest.raises(UsageError, match=r"columns of words \(city, kind\)"):
        again.predict(np.zeros((3, 5)))
    with pytest.raises(DataError, match="trained on numbers"):
        again.predict(table.assign(age="old"))


def by_onnx(path: Path, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of onnxruntime, one input for each column of a table."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {}
    for given in session.get_inputs():
        column = table[given.name.removesuffix("_column")]
        if given.type == "tensor(string)":
            values = column.astype(object).where(column.notna(), "").to_numpy(object)
        elif given.shape[1] > 1:
            values = np.stack(column.to_list())
        else:
            values = column.to_numpy(float)
        kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}
        feeds[given.name] = values.reshape(len(table), given.shape[1]).astype(kinds[given.type])
    label, p = session.run(None, feeds)
    return label, p


@pytest.mark.parametrize("missing", ["refuse", "mean", "drop"])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_onnx_takes_the_columns_of_the_table(tmp_path, missing, task):
    table = people() if missing == "refuse" else with_missing_words(people())
    if missing == "refuse":
        table = table.dropna().reset_index(drop=True)
    table["label"] = table.kind  # which is the name of an output, too
    rng = np.random.default_rng(1)
    table["e"] = list(rng.normal(size=(len(table), 3)))
    X = table.drop(columns="answer")
    X["city"] = X.city.astype("category")
    data = gpureg.make_dataset(X, table.answer, task=task, drop=["id", "when"], categorical="one-hot", missing=missing)
    model = _fitted(data, task=task, dtype="float64")
    model.to_onnx(tmp_path / "m.onnx")
    new = X.copy()
    new["city"] = new.city.astype(object)
    new.loc[5, "city"] = "Paris"
    label, p = by_onnx(tmp_path / "m.onnx", new)
    with pytest.warns(GpuregWarning, match="no training row has"):
        expected = model.predict_proba(new)
    np.testing.assert_allclose(p, expected, atol=1e-6)
    there = np.isfinite(expected).all(axis=1)
    assert there.all() == (missing != "drop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GpuregWarning)
        assert (label[there] == model.predict(new)[there]).all()


def test_onnx_of_a_matrix_with_missing_values_and_chosen_columns(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 5))
    X[::9, 2] = np.nan
    y = (X[:, 0] > 0).astype(int)
    for missing in ("mean", "drop"):
        model = _fitted(gpureg.make_dataset(X, y, missing=missing, drop=[1]), dtype="float64")
        model.to_onnx(tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert (given.name, given.shape[1]) == ("X", 5)
        _, p = session.run(None, {"X": X.astype(np.float32)})
        np.testing.assert_allclose(p, model.predict_proba(X), atol=1e-6)
        assert np.isnan(p).any() == (missing == "drop")


def test_scikit_learns_estimator_does_not_encode():
    table = pd.DataFrame({"w": ["a", "b"] * 10, "x": np.arange(20.0)})
    model = _fitted(gpureg.make_dataset(table, [0, 1, 1, 0] * 5, categorical="one-hot"))
    with pytest.raises(UsageError, match=r"encoded.*to_onnx"):
        model.to_sklearn()


def test_objects_in_an_array():
    X = np.array([[None, 1.0], [2, 3.0], [4, pd.NA]] * 10, dtype=object)
    y = np.arange(30) % 2
    with pytest.raises(DataError, match=r"row 0 .* holds nothing.*missing='mean'"):
        gpureg.make_dataset(X, y)
    data = gpureg.make_dataset(X, y, missing="mean", val_size=0)
    np.testing.assert_allclose(data.X_train[:3], [[3, 1], [2, 3], [4, 2]])
    model = _fitted(data)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X.astype(object)))
    assert np.isfinite(model.predict_proba(X)).all()
    for words in (np.array([["a", 1.0]] * 30, dtype=object), np.array([["a", "b"]] * 30)):
        with pytest.raises(DataError, match=r"Words are columns of a data frame"):
            gpureg.make_dataset(words, y, categorical="one-hot")


def test_words_that_are_not_text(tmp_path):
    table = pa.table({"w": pa.array([b"a", b"b\xff"] * 10, pa.binary()), "y": np.arange(20) % 2})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet, column 'w' holds the bytes .* not UTF-8"):
        gpureg.load_dataset(tmp_path / "t.parquet", categorical="one-hot")


def test_rows_from_a_stream_with_words_that_are_carried_along(tmp_path, monkeypatch):
    table = with_missing_words(people())
    data = gpureg.make_dataset(
        table.drop(columns="answer"), table.answer, drop=["id", "when"], categorical="one-hot", missing="mean"
    )
    gpureg.fit(data).save(tmp_path / "run")
    path = written(table, tmp_path, "csv")
    by_file = invoke("predict", tmp_path / "run", path, "--keep", "city,id,age")
    arguments = ["predict", str(tmp_path / "run"), "-", "--keep", "city,id,age"]
    by_stream = CliRunner().invoke(app, arguments, input=path.read_text())
    assert by_stream.exit_code == 0, by_stream.stderr
    assert by_stream.stdout == by_file.stdout
    kept = pd.read_csv(io.StringIO(by_file.stdout))
    assert kept.id.tolist() == table.id.tolist()
    assert kept.city.fillna("").tolist() == table.city.fillna("").tolist()


def test_a_test_set_with_words(tmp_path):
    table, held = people(), people(100, 1)
    held.loc[0, "city"] = "Paris"
    X, y = table.drop(columns="answer"), table.answer
    options = {"drop": ["id", "when"], "categorical": "one-hot", "missing": "mean"}
    data = gpureg.make_dataset(X, y, **options)
    with pytest.warns(GpuregWarning, match="no training row has") as told:
        result = gpureg.fit(data, test=(held, held.answer))
    assert sum("no training row has" in str(one.message) for one in told) == 1
    assert result.test is not None
    held.to_csv(tmp_path / "held.csv", index=False)
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(GpuregWarning, match="no training row has") as told:
        by_file = gpureg.fit(gpureg.load_dataset(tmp_path / "t.csv", test=tmp_path / "held.csv", **options))
    assert sum("no training row has" in str(one.message) for one in told) == 1
    assert by_file.test is not None
    assert by_file.test.loss == pytest.approx(result.test.loss, rel=1e-6)


def test_folds_and_both_solvers_take_encoded_columns(tmp_path):
    table = people()
    path = written(table, tmp_path, "csv")
    for solver, more in (("lbfgs", ()), ("sgd", ("--epochs", 3))):
        run = tmp_path / solver
        options = ("--drop", "id,when", "--categorical", "one-hot", "--missing", "mean", "--solver", solver, *more)
        done = invoke("sweep-lambda", "--dataset", path, *options, "--cv", 3, "--lambdas", "1e-2,1e-3", "--out", run)
        assert done.exit_code == 0, done.stderr
        assert gpureg.load_run(run).model.predict_proba(table).shape == (N, 2)
        done = invoke("export", run, "--csv", tmp_path / "sheets", "--card", tmp_path / "card.md")
        assert done.exit_code == 0, done.stderr
        assert "city=Rome" in (tmp_path / "sheets" / "weights.csv").read_text()


def test_a_damaged_encoding_is_refused(tmp_path):
    good = Encoding(2, ("a", "w"), None, (None, ("x", None)), "mean", (0.5, 0.0))
    assert Encoding.from_dict(json.loads(json.dumps(good.to_dict()))) == good
    for change in (
        {"width": "2"}, {"width": 3}, {"missing": "median"}, {"categories": 3}, {"categories": [None, 3]},
        {"categories": [None]}, {"categories": [None, [1]]}, {"names": ["a"]}, {"names": 3}, {"fill": [0.5]},
        {"fill": ["a", "b"]}, {"positions": [5, 6]}, {"positions": [0]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="encoding"):
            Encoding.from_dict(good.to_dict() | change)
