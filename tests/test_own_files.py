"""A user's own files: a validation set, labels of an array, chosen columns, Parquet folders, archives with parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import invoke

import gpureg
from gpureg.errors import DataError, GpuregWarning, UsageError

N, M = 120, 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N + M, 4)).round(3)
Y = np.where(X @ [1.0, -1, 0.5, 0] + RNG.normal(size=N + M) / 2 > 0, "up", "down")
W = RNG.integers(0, 3, N + M).astype(float)
NAMES = ["a", "b", "c", "d"]
OPTIONS = ("--solver", "lbfgs", "--dtype", "float64", "--l2", 0.01, "--quiet")


def frame(rows: slice, weights: bool = False) -> pd.DataFrame:
    table = pd.DataFrame(X[rows], columns=NAMES).assign(y=Y[rows])
    if weights:
        table.insert(0, "w", W[rows])
    return table


TRAIN, VAL = slice(0, N), slice(N, N + M)


def trained(tmp_path: Path, *options: object, data: Path, out: str = "run") -> gpureg.storage.directory.Run:
    done = invoke("train", "--dataset", data, *options, *OPTIONS, "--out", tmp_path / out, "--force")
    assert done.exit_code == 0, done.stderr
    return gpureg.load_run(tmp_path / out)


def written(tmp_path: Path, form: str, rows: slice, name: str) -> Path:
    """The rows with their weights, in a form of file."""
    table = frame(rows, weights=True)
    path = tmp_path / f"{name}.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "turned":  # the columns in another order, and one more
        path = tmp_path / f"{name}.parquet"
        table.iloc[:, ::-1].assign(more=0).to_parquet(path, index=False)
    elif form == "npz":
        np.savez(path, X=X[rows], y=Y[rows], w=W[rows])
    elif form == "npy":
        np.save(path, np.column_stack([W[rows], X[rows], Y[rows] == "up"]))
    return path


@pytest.mark.parametrize(("form", "val"), [("csv", "csv"), ("csv", "turned"), ("turned", "csv"), ("npz", "npz")])
def test_a_validation_set_of_ones_own(tmp_path, form, val):
    data, own = written(tmp_path, form, TRAIN, "train"), written(tmp_path, val, VAL, "val")
    more = ("--drop", "more") if form == "turned" else ()
    run = trained(tmp_path, "--val", own, "--weights", "w", "--target", "y", *more, data=data)
    assert (run.result["n_train"], run.result["n_val"]) == ((W[TRAIN] > 0).sum(), (W[VAL] > 0).sum())
    # the same in Python, of arrays and of frames
    result = gpureg.fit(
        gpureg.make_dataset(X[TRAIN], Y[TRAIN], X[VAL], Y[VAL], sample_weight=W[TRAIN], sample_weight_val=W[VAL]),
        solver="lbfgs", dtype="float64", l2=0.01,
    )  # fmt: skip
    assert run.result["models"][0]["val_loss"] == pytest.approx(result.models[0].val_loss, rel=1e-7)
    by_class = dict(zip(run.model.classes, run.model.coef[0], strict=True))
    found = by_class["up"] if form != "turned" else by_class["up"][::-1]
    np.testing.assert_allclose(
        found, dict(zip(result.model.classes, result.model.coef[0], strict=True))["up"], rtol=1e-6
    )
    probabilities = result.model.predict_proba(X[VAL])[np.arange(M), (Y[VAL] == "up").astype(int)]
    assert result.models[0].val_loss == pytest.approx(np.average(-np.log(probabilities), weights=W[VAL]))
    evaluated = invoke("evaluate", tmp_path / "run", own, "--json")
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(result.models[0].val_loss, rel=1e-6)


def test_a_validation_set_in_frames():
    train, val = frame(TRAIN), frame(VAL)
    plain = gpureg.make_dataset(train[NAMES], train.y, val[NAMES], val.y)
    for X_val in (
        val[NAMES[::-1]],
        val.assign(more="words"),
        pl.from_pandas(val),
        pa.table(val),
        val[NAMES].to_numpy(),
    ):
        data = gpureg.make_dataset(train[NAMES], train.y, X_val, val.y)
        np.testing.assert_array_equal(data.X_val, plain.X_val)
    with pytest.raises(UsageError, match=r"X_val lacks columns .*: b"):
        gpureg.make_dataset(train[NAMES], train.y, val[["a", "c", "d"]], val.y)


def test_classes_of_a_validation_set(tmp_path):
    table, val = frame(TRAIN), frame(VAL)
    table.to_csv(tmp_path / "t.csv", index=False)
    val[val.y == "up"].to_csv(tmp_path / "fewer.csv", index=False)
    run = trained(tmp_path, "--val", tmp_path / "fewer.csv", data=tmp_path / "t.csv")
    assert run.result["n_val"] == (val.y == "up").sum()
    val.assign(y=np.where(np.arange(M) < 4, "sideways", val.y)).to_csv(tmp_path / "more.csv", index=False)
    done = invoke("train", "--dataset", tmp_path / "t.csv", "--val", tmp_path / "more.csv", "--out", tmp_path / "r")
    assert done.exit_code == 2
    assert "4 of 50 rows have classes that this model does not know: 'sideways' (4)" in done.stderr
    assert not (tmp_path / "r").exists()
    run = trained(tmp_path, "--val", tmp_path / "more.csv", "--classes", "up,down", data=tmp_path / "t.csv")
    assert run.result["n_val"] == M - 4
    numbers = gpureg.make_dataset(X[TRAIN], (Y[TRAIN] == "up").astype(int))
    assert numbers.classes == (0, 1)


def test_scaling_and_means_come_from_the_training_rows(tmp_path):
    table, val = frame(TRAIN), frame(VAL)
    table.loc[::5, "b"] = np.nan
    val.loc[val.index[::3], "b"] = np.nan
    val["a"] += 100
    table.to_csv(tmp_path / "t.csv", index=False)
    val.to_csv(tmp_path / "v.csv", index=False)
    data = gpureg.load_dataset(tmp_path / "t.csv", val=tmp_path / "v.csv", missing="mean")
    np.testing.assert_allclose(data.X_val[::3, 1], table.b.mean())
    assert len(data.y_train) == N
    model = gpureg.fit(data).model
    np.testing.assert_allclose(model.offset, table[NAMES].fillna(table[NAMES].mean()).mean(), rtol=1e-9)
    dropped = gpureg.load_dataset(tmp_path / "t.csv", val=tmp_path / "v.csv", missing="drop")
    assert (len(dropped.y_train), len(dropped.y_val)) == (table.b.notna().sum(), val.b.notna().sum())
    assert sum("missing values" in notice for notice in dropped.notices) == 2
    table.dropna().to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"v.csv: 17 rows hold NaN .* row 0 .*'b'"):
        gpureg.load_dataset(tmp_path / "t.csv", val=tmp_path / "v.csv")


def test_embeddings_keep_their_type(tmp_path):
    vectors = X.astype(np.float32)
    for name, rows in (("t", TRAIN), ("v", VAL)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].reshape(-1)), 4)
        pq.write_table(pa.table({"n": X[rows, 0], "e": lists, "y": Y[rows]}), tmp_path / f"{name}.parquet")
    data = gpureg.load_dataset(tmp_path / "t.parquet", val=tmp_path / "v.parquet", features=["e"])
    assert (data.X_train.dtype, data.X_val.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(data.X_val, vectors[VAL])
    assert data.feature_names == ("e[0]", "e[1]", "e[2]", "e[3]")
    both = gpureg.load_dataset(tmp_path / "t.parquet", val=tmp_path / "v.parquet")
    assert both.feature_names == ("n", "e[0]", "e[1]", "e[2]", "e[3]")
    gpureg.fit(both, l2=0.01).save(tmp_path / "run")
    done = invoke("predict", tmp_path / "run", tmp_path / "v.parquet", "--out", tmp_path / "p.npy")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "p.npy"), gpureg.load_run(tmp_path / "run").model.predict_proba(both.X_val), rtol=1e-6
    )


LABEL_FILES = {
    "npy": lambda path, y: np.save(path, y),
    "column.npy": lambda path, y: np.save(path, y[:, None]),
    "npz": lambda path, y: np.savez(path, y=y, other=np.zeros(3)),
    "one.npz": lambda path, y: np.savez(path, labels=y),
    "txt": lambda path, y: path.write_text("\n".join(y) + "\n"),
    "csv": lambda path, y: path.write_text("\n".join(["answer", *y])),
    "bare.csv": lambda path, y: path.write_text("\n".join(y)),
    "quoted.csv": lambda path, y: path.write_text("\n".join(f'"{label}"' for label in y)),
    "parquet": lambda path, y: pq.write_table(pa.table({"answer": y.tolist()}), path),
}


@pytest.mark.parametrize("form", LABEL_FILES)
def test_labels_of_their_own(tmp_path, form):
    np.save(tmp_path / "X.npy", X[TRAIN])
    labels = tmp_path / f"y.{form}"
    LABEL_FILES[form](labels, Y[TRAIN])
    run = trained(tmp_path, "--labels", labels, "--val-size", 0, data=tmp_path / "X.npy")
    expected = gpureg.fit(
        gpureg.make_dataset(X[TRAIN], Y[TRAIN], val_size=0), solver="lbfgs", dtype="float64", l2=0.01
    ).model
    np.testing.assert_array_equal(run.model.coef, expected.coef)
    data = gpureg.load_dataset(tmp_path / "X.npy", labels=labels, val_size=0)
    np.testing.assert_array_equal(data.X_train, X[TRAIN])
    assert [data.classes[code] for code in data.y_train] == Y[TRAIN].tolist()
    done = invoke("evaluate", tmp_path / "run", tmp_path / "X.npy", "--labels", labels, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["loss"] == pytest.approx(run.result["models"][0]["train_loss"], rel=1e-6)
    done = invoke("predict", tmp_path / "run", tmp_path / "X.npy")
    assert len(done.stdout.splitlines()) == N + 1


def test_labels_in_a_table_with_weights(tmp_path):
    np.save(tmp_path / "X.npy", X[TRAIN])
    table = pd.DataFrame({"id": range(N), "y": Y[TRAIN], "w": W[TRAIN]})
    for form, write in (("csv", table.to_csv), ("parquet", table.to_parquet)):
        write(tmp_path / f"y.{form}", index=False)
        data = gpureg.load_dataset(
            tmp_path / "X.npy", labels=tmp_path / f"y.{form}", target="y", weights="w", val_size=0
        )
        np.testing.assert_array_equal(data.X_train, X[TRAIN][W[TRAIN] > 0])
        np.testing.assert_array_equal(data.sample_weight, W[TRAIN][W[TRAIN] > 0])


def test_images_with_labels_of_their_own(tmp_path):
    images = RNG.integers(0, 256, (30, 4, 5)).astype(np.uint8)
    np.save(tmp_path / "X.npy", images)
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    data = gpureg.load_dataset(tmp_path / "X.npy", labels=tmp_path / "y.npy")
    assert (data.image_shape, data.pixel_max, data.classes) == ((4, 5), 255.0, (0, 1, 2))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("up\n" * (N + 2), (), f"{N} rows but {N + 2} labels"),
        ("up\n" * (N - 1), (), f"{N} rows but {N - 1} labels"),
        ("", (), "is empty"),
        ("up\n" * 5 + "\n" + "up\n" * (N - 6), (), "row 5 (counted from 0) has no label"),
        ("a,b\n" + "1,2\n" * N, (), "which are the labels? Name one with --target"),
        ("a,b\n" + "1,2\n" * N, ("--target", "c"), "--target c: "),
        ("a,b\n" + "1,2\n" * 3 + "1\n" * (N - 3), ("--target", "a"), "row 3 (counted from 0) has 1 cells"),
        ("a,b\n" + "1,x\n" * N, ("--target", "a", "--weights", "b"), "weights are numbers"),
        ("y\n" + "1\n" * N, ("--target", "x"), "--target x: "),
        (b"\xff\xfe\x00", (), "not UTF-8"),
    ],
)
def test_labels_that_cant_be_used(tmp_path, content, options, message):
    np.save(tmp_path / "X.npy", X[TRAIN])
    labels = tmp_path / "y.csv"
    labels.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(tmp_path, message, "--dataset", tmp_path / "X.npy", "--labels", labels, *options)


def refused(tmp_path: Path, message: str, *arguments: object) -> None:
    """Exit code 2, one message, and nothing written."""
    done = invoke("train", *arguments, "--out", tmp_path / "refused")
    assert done.exit_code == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "refused").exists()


@pytest.fixture
def files(tmp_path):
    """A table and other files, by name."""
    table = frame(TRAIN, weights=True).assign(city=np.where(np.arange(N) % 2, "Oslo", "Rome"))
    table = table[["w", *NAMES, "city", "y"]]
    table.to_csv(tmp_path / "t.csv", index=False)
    table.drop(columns="b").to_csv(tmp_path / "lacks.csv", index=False)
    table.drop(columns="y").to_csv(tmp_path / "unlabelled.csv", index=False)
    np.savez(tmp_path / "t.npz", X=X[TRAIN], y=Y[TRAIN])
    np.savez(tmp_path / "parts.npz", X_train=X[TRAIN], y_train=Y[TRAIN], X_val=X[VAL], y_val=Y[VAL])
    np.savez(tmp_path / "images.npz", X=np.zeros((20, 3, 3), np.uint8), y=np.arange(20) % 2)
    np.save(tmp_path / "X.npy", X[TRAIN])
    np.save(tmp_path / "y.npy", Y[TRAIN])
    (tmp_path / "empty.csv").write_text("a,b,c,d,w,city,y\n")
    return tmp_path


NUMBERS = ("--drop", "city")
BAD = [
    (("t.csv",), "--categorical one-hot, leave out columns (dates, ids) with --drop"),
    (("t.csv", "--features", "a,B"), "--features: t.csv has no column 'B'; did you mean 'b'?"),
    (("t.csv", "--features", "a,zebra"), "has no column 'zebra'; it has w, a, b, c, d, city, y."),
    (("t.csv", "--drop", "cities"), "did you mean 'city'?"),
    (("t.csv", "--features", "a,y"), "--features names 'y', which is the label"),
    (("t.csv", "--drop", "y,city"), "--drop names 'y', which is the label of"),
    (("t.csv", "--features", "a", "--drop", "a"), "--features and --drop left no feature"),
    (("t.csv", "--drop", "w,a,b,c,d,city"), "--drop left no feature"),
    (("t.csv", "--features", ""), "--features is empty"),
    (("t.csv", "--drop", "a,,b"), "--drop is empty or has an empty name"),
    (("t.npz", "--features", "a"), "has no column 'a'; it has 0, 1, 2, 3."),
    (("t.npz", "--drop", "4"), "has no column '4'"),
    (("images.npz", "--features", "0"), "images, has no columns to name"),
    (("t.csv", "--val", "none.csv", *NUMBERS), "--val none.csv is neither"),
    (("t.csv", "--val", "", *NUMBERS), "--val is empty"),
    (("t.csv", "--val", "mnist", *NUMBERS), "--val mnist is a named data set; expected a file"),
    (("t.csv", "--val", "t.csv", "--val-size", "5", *NUMBERS), "--val t.csv and --val-size 5 were both given"),
    (("t.csv", "--val", "lacks.csv", *NUMBERS), "lacks columns that this model was trained on: b"),
    (("t.csv", "--val", "unlabelled.csv", *NUMBERS), "has no column 'y', the label of the training data"),
    (("t.csv", "--val", "empty.csv", *NUMBERS), "no rows"),
    (("t.csv", "--val", "t.npz", "--categorical", "one-hot"), "columns of words (city)"),
    (("parts.npz", "--val", "t.npz"), "has its own validation rows"),
    (("digits", "--features", "0,1"), "--features 0,1: the data set 'digits' has no columns to name"),
    (("digits", "--labels", "y.npy"), "has no columns to name"),
    (("t.csv", "--labels", "y.npy"), "--labels y.npy: it belongs to features in an npy file"),
    (("X.npy", "--labels", "none.npy"), "--labels none.npy is neither"),
    (("X.npy", "--labels", "y.npy", "--target", "a"), "y.npy has no columns to name"),
    (("X.npy", "--labels", "X.npy"), "shape (120, 4); expected one label for each row"),
    (("X.npy", "--labels", "y.npy", "--features", "7"), "has no column '7'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(options) for options, _ in BAD])
def test_bad_values(files, monkeypatch, options, message):
    monkeypatch.chdir(files)
    refused(files, message, "--dataset", *options)


@pytest.mark.parametrize("option", ["--categorical", "--missing"])
def test_a_choice_that_there_is_not(files, option):
    done = invoke("train", "--dataset", files / "t.csv", option, "median", "--out", files / "refused")
    assert done.exit_code == 2
    assert option in done.stderr
    assert "'refuse'" in done.stderr
    (files / "c.toml").write_text(f"{option[2:]} = 'median'")
    refused(files, f"{option[2:]} is 'median'; expected one of refuse", "--config", files / "c.toml")


def test_messages_in_python_name_parameters(files):
    with pytest.raises(DataError, match=r"categorical='one-hot'.*drop"):
        gpureg.load_dataset(files / "t.csv")
    with pytest.raises(UsageError, match=r"features: X has no column 'e'"):
        gpureg.make_dataset(frame(TRAIN)[NAMES], Y[TRAIN], features=["a", "e"])
    with pytest.raises(UsageError, match=r"missing is 'median'; expected one of refuse, mean, drop"):
        gpureg.make_dataset(X, Y, missing="median")
    with pytest.raises(UsageError, match=r"val='.*' and val_size=5 were both given"):
        gpureg.load_dataset(files / "t.npz", val=files / "t.npz", val_size=5)
    with pytest.raises(UsageError, match="did you mean features"):
        gpureg.make_dataset(X, Y, feature=[0])  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "chosen", [{"features": ["c", "a"]}, {"drop": ["d", "b"]}, {"features": "a, c , b", "drop": "b"}]
)
def test_chosen_columns(tmp_path, chosen):
    """In the order of the data, whatever the order of the names; by number where there are none."""
    frame(TRAIN).to_csv(tmp_path / "t.csv", index=False)
    frame(TRAIN).to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame(TRAIN).to_parquet(tmp_path / "t.parquet")
    for path in ("t.csv", "t.tsv", "t.parquet"):
        data = gpureg.load_dataset(tmp_path / path, val_size=0, **chosen)
        assert data.feature_names == ("a", "c")
        np.testing.assert_array_equal(data.X_train, X[TRAIN][:, [0, 2]])
    numbers = {option: [NAMES.index(n.strip()) for n in _listed(names)] for option, names in chosen.items()}
    np.savez(tmp_path / "t.npz", X=X[TRAIN], y=Y[TRAIN])
    np.save(tmp_path / "t.npy", np.column_stack([X[TRAIN], Y[TRAIN] == "up"]))
    for data in (
        gpureg.make_dataset(frame(TRAIN)[NAMES], Y[TRAIN], val_size=0, **chosen),
        gpureg.make_dataset(pl.from_pandas(frame(TRAIN)[NAMES]), Y[TRAIN], val_size=0, **chosen),
        gpureg.make_dataset(X[TRAIN], Y[TRAIN], val_size=0, **numbers),
        gpureg.load_dataset(tmp_path / "t.npz", val_size=0, **numbers),
        gpureg.load_dataset(tmp_path / "t.npy", val_size=0, **numbers),
    ):
        np.testing.assert_array_equal(data.X_train, X[TRAIN][:, [0, 2]])


def _listed(names):
    return names.split(",") if isinstance(names, str) else names


def test_columns_chosen_by_number_are_found_in_new_data(tmp_path):
    np.savez(tmp_path / "t.npz", X=X[TRAIN], y=Y[TRAIN])
    np.savez(tmp_path / "new.npz", X=X[VAL], y=Y[VAL])
    np.save(tmp_path / "new.npy", X[VAL])
    np.save(tmp_path / "labelled.npy", np.column_stack([X[VAL], Y[VAL] == "up"]))
    frame(VAL)[NAMES].to_csv(tmp_path / "new.csv", index=False)
    run = trained(tmp_path, "--features", "0,2", "--val", tmp_path / "new.npz", data=tmp_path / "t.npz")
    assert run.result["n_features"] == 2
    expected = run.model.predict_proba(X[VAL])
    for path in ("new.npz", "new.npy", "new.csv", "labelled.npy"):
        done = invoke("predict", tmp_path / "run", tmp_path / path, "--out", tmp_path / "p.npy")
        assert done.exit_code == 0, done.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)
    done = invoke("predict", tmp_path / "run", tmp_path / "t.npz", "--out", tmp_path / "p.npy")
    assert done.exit_code == 0, done.stderr
    with pytest.raises(UsageError, match=r"expected \(rows, 4\)"):
        run.model.predict(X[VAL][:, [0, 2]])


def test_a_name_with_a_comma(tmp_path):
    table = frame(TRAIN).rename(columns={"a": "a,1", "b": 'b"2'})
    table.to_csv(tmp_path / "t.csv", index=False)
    run = trained(tmp_path, "--features", '"a,1",c', data=tmp_path / "t.csv")
    assert run.model.feature_names == ("a,1", "c")
    assert run.config["features"] == ["a,1", "c"]
    again = invoke("train", "--config", tmp_path / "run" / "config.toml", "--out", tmp_path / "again", "--quiet")
    assert again.exit_code == 0, again.stderr
    np.testing.assert_array_equal(gpureg.load_run(tmp_path / "again").model.coef, run.model.coef)


def test_columns_of_the_same_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,a,y\n1,2,0\n3,4,1\n")
    with pytest.raises(DataError, match="same name: a"):
        gpureg.load_dataset(tmp_path / "t.csv", features=["a"])
    table = pd.DataFrame(X[TRAIN], columns=["a", "a", "c", "d"])
    with pytest.raises(DataError, match="same name: a"):
        gpureg.make_dataset(table, Y[TRAIN], features=["c"])


@pytest.mark.parametrize("letter", ["X", "x"])
def test_an_archive_with_three_parts(tmp_path, letter):
    """The part for testing is a test set, as a file of `--test` is."""
    parts = {"train": slice(0, 100), "val": slice(100, 130), "test": slice(130, N + M)}
    arrays = {f"{letter}_{part}": X[rows] for part, rows in parts.items()}
    arrays |= {f"y_{part}": Y[rows] for part, rows in parts.items()} | {f"w_{p}": W[rows] for p, rows in parts.items()}
    np.savez(tmp_path / "t.npz", **arrays)
    run = trained(tmp_path, "--weights", "w_train", data=tmp_path / "t.npz")
    assert run.result["n_val"] == (W[parts["val"]] > 0).sum()
    assert run.result["test"]["n"] == 40
    own = run.model.evaluate(X[parts["test"]], Y[parts["test"]])
    assert run.result["test"]["loss"] == pytest.approx(own.loss)
    for part, rows in parts.items():
        np.savez(tmp_path / f"{part}.npz", X=X[rows], y=Y[rows], w_train=W[rows])
    options = ("--val", tmp_path / "val.npz", "--test", tmp_path / "test.npz", "--weights", "w_train")
    apart = trained(tmp_path, *options, data=tmp_path / "train.npz", out="apart")
    np.testing.assert_array_equal(apart.model.coef, run.model.coef)
    assert apart.result["models"][0]["val_loss"] == run.result["models"][0]["val_loss"]
    assert apart.result["test"]["accuracy"] != run.result["test"]["accuracy"] or W[parts["test"]].std() == 0


def test_a_part_for_testing_without_a_choice_is_left_alone(tmp_path):
    np.savez(tmp_path / "t.npz", X=X[TRAIN], y=Y[TRAIN], X_test=X[VAL], y_test=Y[VAL])
    data = gpureg.load_dataset(tmp_path / "t.npz", val_size=0)
    with pytest.warns(GpuregWarning, match="No λ was chosen"):
        result = gpureg.fit(data, l2=[0.1, 0.01])
    assert result.test is None
    chosen = gpureg.fit(data, l2=0.1)
    assert chosen.test is not None
    assert chosen.test.n == M


# Parquet folders


def parts(folder: Path, *tables: pd.DataFrame | pa.Table) -> Path:
    folder.mkdir()
    for number, table in enumerate(tables):
        table = pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table
        pq.write_table(table, folder / f"part-{number}.parquet")
    return folder


def test_a_folder_equals_the_file(tmp_path):
    whole = frame(TRAIN)
    whole.to_parquet(tmp_path / "t.parquet")
    folder = parts(tmp_path / "folder", whole[:30], whole[30:31].iloc[:, ::-1], whole[31:])
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.parquet").write_bytes(b"no")
    one, many = (trained(tmp_path, data=path, out=f"run-{path.stem}") for path in (tmp_path / "t.parquet", folder))
    np.testing.assert_array_equal(one.model.coef, many.model.coef)
    assert many.result["dataset"] == "folder"
    files = (tmp_path / "t.parquet", folder)
    found = [invoke("predict", tmp_path / "run-t", path).stdout.splitlines() for path in files]
    labels, numbers = zip(*(([row.split(",")[0] for row in rows], rows[1:]) for rows in found), strict=True)
    assert labels[0] == labels[1]
    values = [np.array([row.split(",")[1:] for row in rows], float) for rows in numbers]
    np.testing.assert_allclose(*values, rtol=1e-14)  # a file of one row is a product of another shape
    assert (
        invoke("evaluate", tmp_path / "run-t", files[0]).stdout == invoke("evaluate", tmp_path / "run-t", folder).stdout
    )
    rows = invoke("predict", tmp_path / "run-t", folder, "--keep", "b,y")
    assert [float(line.split(",")[3]) for line in rows.stdout.splitlines()[1:]] == whole.b.tolist()


def test_folders_that_name_columns(tmp_path):
    table = frame(TRAIN).assign(year=2020 + np.arange(N) % 3, site=np.where(np.arange(N) % 2, "a b", "c=d"))
    table.to_parquet(tmp_path / "hive", partition_cols=["site", "year"], index=False)
    with pytest.raises(UsageError, match=r"its folders name columns \(site, year\).* which is the label\?"):
        gpureg.load_dataset(tmp_path / "hive", categorical="one-hot")
    data = gpureg.load_dataset(tmp_path / "hive", target="y", categorical="one-hot", val_size=0)
    assert data.feature_names == (*NAMES, "site=a b", "site=c=d", "year")
    ordered = table.sort_values(["site", "year"], kind="stable")  # as the folders are, a%20b and c%3Dd
    np.testing.assert_array_equal(data.X_train[:, :4], ordered[NAMES])
    np.testing.assert_array_equal(data.X_train[:, 6], ordered.year)
    result = gpureg.fit(data)
    result.save(tmp_path / "run")
    done = invoke(
        "predict", tmp_path / "run", tmp_path / "hive", "--keep", "year,site", "--out", tmp_path / "p.parquet"
    )
    assert done.exit_code == 0, done.stderr
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert found.year.tolist() == ordered.year.tolist()
    assert found.site.tolist() == ordered.site.tolist()
    np.testing.assert_allclose(found.p_up, result.model.predict_proba(ordered)[:, 1], rtol=1e-6)


def test_files_of_different_types(tmp_path):
    first = pa.table({"a": pa.array([1, 2, None], pa.int32()), "w": ["x", "y", "x"], "y": ["u", "v", "u"]})
    second = pa.table(
        {
            "y": pa.array(["v", "u", "v"]).dictionary_encode(),
            "a": pa.array([1.5, 2, 3], pa.float32()),
            "w": pa.array(["y", "z", None]).dictionary_encode(),
        }
    )
    folder = parts(tmp_path / "folder", first, second)
    data = gpureg.load_dataset(folder, categorical="one-hot", missing="mean", val_size=0)
    assert data.feature_names == ("a", "w=x", "w=y", "w=z", "w=")
    np.testing.assert_allclose(data.X_train[:, 0], [1, 2, 1.9, 1.5, 2, 3])
    assert data.X_train[:, 1:].argmax(axis=1).tolist() == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": [1.0], "y": ["up"]}, "part-1.parquet lacks the columns b of"),
        ({"a": [1.0], "b": [2.0], "more": [3.0], "y": ["up"]}, "has further columns, more, which"),
        ({"a": ["1"], "b": [2.0], "y": ["up"]}, "the column 'a' holds double in"),
        ({"a": [pd.Timestamp("2020-01-01")], "b": [2.0], "y": ["up"]}, "the column 'a' holds double in"),
    ],
)
def test_files_that_dont_belong_together(tmp_path, other, message):
    folder = parts(tmp_path / "folder", frame(TRAIN)[["a", "b", "y"]], pd.DataFrame(other))
    refused(tmp_path, message, "--dataset", folder)


def test_folders_that_dont_belong_together(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    parts(folder / "year=1", frame(TRAIN))
    parts(folder / "month=1", frame(TRAIN))
    refused(tmp_path, "name the columns", "--dataset", folder)
    parts(tmp_path / "twice", frame(TRAIN))
    parts(tmp_path / "twice" / "a=1", frame(TRAIN))
    refused(tmp_path, "name the columns", "--dataset", tmp_path / "twice")
    (tmp_path / "same").mkdir()
    parts(tmp_path / "same" / "a=1", frame(TRAIN))
    refused(tmp_path, "in folder names", "--dataset", tmp_path / "same")
    (tmp_path / "none").mkdir()
    refused(tmp_path, "without Parquet files", "--dataset", tmp_path / "none")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.parquet").write_bytes(b"PAR1 no")
    refused(tmp_path, "can't read", "--dataset", tmp_path / "broken")


@pytest.mark.parametrize("what", ["target", "weights"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_missing_labels_and_weights_are_refused_whatever_is_done_with_features(tmp_path, form, what):
    table = frame(TRAIN, weights=True)
    table.loc[7, "y" if what == "target" else "w"] = None
    path = tmp_path / f"t.{form}"
    table.to_csv(path, index=False) if form == "csv" else table.to_parquet(path)
    message = "row 7 (counted from 0)"
    for missing in ("mean", "drop"):
        refused(tmp_path, message, "--dataset", path, "--weights", "w", "--missing", missing)


@pytest.mark.parametrize("folds", [False, True])
def test_frames_are_split_lazily(folds):
    """A fit without folds gets 20% validation rows, one with folds none; the means are learnt from what trains."""
    table = frame(TRAIN)
    table.loc[::4, "a"] = np.nan
    data = gpureg.make_dataset(table[NAMES], table.y, missing="mean")
    result = gpureg.fit(data, l2=[0.1, 0.01], cv=3) if folds else gpureg.fit(data, l2=[0.1, 0.01])
    assert (result.n_train, result.n_val) == ((N, 0) if folds else (96, 24))
    assert result.model.encoding is not None
    assert result.model.encoding.fill is not None
    assert (result.model.encoding.fill[0] == pytest.approx(table.a.mean())) == folds
    tested = gpureg.fit(data, l2=[0.1, 0.01], cv=3 if folds else None, test=(frame(VAL), Y[VAL]))
    assert tested.test is not None
    assert tested.test.n == M


MARKED = {
    "csv": lambda path, table: table.to_csv(path, index=False),
    "tsv": lambda path, table: table.to_csv(path, index=False, sep="\t"),
    "parquet": lambda path, table: table.to_parquet(path, index=False),
    "npz": lambda path, table: np.savez(path, **{name: table[name].to_numpy().astype(str) for name in "ygf"}),
}


@pytest.mark.parametrize("form", MARKED)
def test_groups_and_folds_in_the_file_of_labels(tmp_path, form):
    """They are those of a table that holds all of it."""
    np.save(tmp_path / "X.npy", X[TRAIN])
    table = pd.DataFrame({"y": Y[TRAIN], "g": [f"g{i % 12}" for i in range(N)], "f": np.arange(N) % 4})
    MARKED[form](tmp_path / f"y.{form}", table)
    whole = pd.DataFrame(X[TRAIN]).assign(**table).rename(columns=str)
    whole.to_parquet(tmp_path / "whole.parquet")
    of_labels = {"labels": tmp_path / f"y.{form}", "target": "y"}
    for named in ({"groups": "g"}, {"folds": "f"}, {"groups": "g", "folds": "f"}):
        found = gpureg.load_dataset(tmp_path / "X.npy", **of_labels, **named)
        others = [name for name in "gf" if name not in named.values()]
        expected = gpureg.load_dataset(tmp_path / "whole.parquet", target="y", drop=others or None, **named)
        np.testing.assert_array_equal(found.X_train, expected.X_train)
        np.testing.assert_array_equal(found.X_val, expected.X_val)
        for name in ("groups", "folds"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    done = invoke("sweep-lambda", "--dataset", tmp_path / "X.npy", "--labels", tmp_path / f"y.{form}", "--target", "y",
                  "--folds", "f", "--out", tmp_path / "run", "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert {model["fold"] for model in json.loads(done.stdout)["models"]} == {0, 1, 2, 3, None}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("y.npy", ("--groups", "g"), "y.npy has no columns to name. Store labels and groups as columns of one csv"),
        ("y.txt", ("--folds", "f"), "it has only one, the labels. Store labels and folds as columns of one csv"),
        ("y.csv", ("--groups", "no", "--target", "y"), "--groups no: y.csv has no such column; it has y, g"),
        ("y.csv", ("--groups", "y", "--target", "y"), "--groups y: that column is the label or the weights"),
    ],
)
def test_groups_that_the_file_of_labels_does_not_have(tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X[TRAIN])
    np.save("y.npy", Y[TRAIN])
    Path("y.txt").write_text("\n".join(Y[TRAIN]))
    Path("y.csv").write_text("y,g\n" + "".join(f"{label},{i % 5}\n" for i, label in enumerate(Y[TRAIN])))
    refused(tmp_path, message, "--dataset", "X.npy", "--labels", name, *options)


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_a_group_in_training_and_in_the_validation_file_is_a_notice(tmp_path, form):
    def written(name: str, rows: slice, groups: list[object]) -> Path:
        table = pd.DataFrame(X[rows], columns=list("abcd")).assign(y=Y[rows], g=groups)
        path = tmp_path / f"{name}.{form}"
        if form == "npz":
            np.savez(path, X=X[rows], y=Y[rows], g=np.array(groups))
        elif form == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
        return path

    half = slice(0, N // 2)
    train = written("train", TRAIN, [i % 12 for i in range(N)])
    apart = written("apart", half, [20 + i % 3 for i in range(N // 2)])
    mixed = written("mixed", half, [11 if i < 7 else 20 for i in range(N // 2)])
    options = {"target": "y", "groups": "g"}
    assert gpureg.load_dataset(train, val=apart, **options).notices == ()
    (notice,) = gpureg.load_dataset(train, val=mixed, **options).notices
    assert f"7 of its {N // 2} rows are of a group (groups='g') that training rows have too: '11'." in notice
    if form != "npz":
        bare = written("bare", half, [0] * (N // 2))
        lacking = pd.read_csv(bare) if form == "csv" else pd.read_parquet(bare)
        write = lacking.drop(columns="g").to_csv if form == "csv" else lacking.drop(columns="g").to_parquet
        write(bare, index=False)
        assert gpureg.load_dataset(train, val=bare, **options).notices == ()
