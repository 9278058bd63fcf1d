"""Groups that stay together and folds that the data name, from the command line and from Python."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import invoke, same_run, strict_json
from resuming import Memory, assert_same
from sklearn.model_selection import StratifiedGroupKFold

import gpureg
from gpureg.config import DataConfig, FitConfig
from gpureg.data import load
from gpureg.data.split import group_folds
from gpureg.errors import DataError, GpuregWarning, UsageError
from gpureg.fitting.entry import Hooks, run_fit
from gpureg.fitting.prepare import assignments_of

pytestmark = pytest.mark.filterwarnings("ignore:.* models predict worse than a constant:gpureg.errors.GpuregWarning")
N = 240
GRID = [0.1, 0.01, 1e-3]
FIT: dict[str, Any] = {"solver": "lbfgs", "l2": GRID, "dtype": "float64", "device": "cpu"}
OPTIONS = ("--lambdas", "0.1,0.01,0.001", "--dtype", "float64", "--quiet")
KINDS: dict[str, Callable[[int], Any]] = {
    "words": lambda g: f"subject {g:02d}",
    "ints": lambda g: 3 * g - 40,
    "dates": lambda g: datetime.date(2024, 1, 1) + datetime.timedelta(days=g),
    "fractions": lambda g: g / 4,
}


def problem(kind: str = "words", rows: int = N) -> pd.DataFrame:
    """Three classes; 24 groups of unequal sizes, and four folds of whole groups; `row` tells each row."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, rows)
    X = np.eye(3)[y] + 0.7 * random.normal(size=(rows, 3))
    g = random.choice(24, rows, p=np.arange(1, 25) / 300)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "row": np.arange(rows) / 7})
    frame["g"], frame["f"] = [KINDS[kind](value) for value in g.tolist()], g % 4
    frame["w"], frame["y"] = random.uniform(0.5, 2.0, rows), y
    return frame


def written(frame: pd.DataFrame, kind: str, folder: Path) -> Path:
    """The frame in a file of a format; an npz and an npy have no names of features."""
    path = folder / f"data.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path, index=False)
    elif kind == "npz":
        columns = {name: frame[name].to_numpy() for name in ("f", "w", "y")}
        groups = frame["g"].to_numpy()
        groups = groups.astype(str if isinstance(groups[0], str) else "M8[D]") if groups.dtype == object else groups
        np.savez(path, X=frame[["a", "b", "c", "row"]].to_numpy(), g=groups, **columns)
    else:
        np.save(path, frame.to_numpy(np.float64))
    return path


def columns_of(path: Path, *names: str) -> dict[str, str]:
    """The columns by their names, or in an npy by their numbers."""
    there = ["a", "b", "c", "row", "g", "f", "w", "y"]
    return {name: str(there.index(name)) if path.suffix == ".npy" else name for name in names}


def reference(frame: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    fold = np.empty(len(frame), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(frame, frame["y"], frame["g"])
        for number, (_, test) in enumerate(splits):
            fold[test] = number
    return fold


@pytest.mark.parametrize("seed", range(40))
def test_folds_are_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, K, G = int(random.integers(40, 400)), int(random.integers(2, 12)), int(random.integers(6, 60))
    y, groups = random.integers(0, K, n), random.integers(0, G, n)
    groups = np.sort(groups) if seed % 2 else groups
    frame = pd.DataFrame({"y": y, "g": groups})
    for folds in (2, 3, 5):
        np.testing.assert_array_equal(group_folds(y, groups, folds, seed), reference(frame, folds, seed))


@pytest.mark.parametrize("format_", ["csv", "parquet", "npz", "npy"])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_every_kind_in_every_format(kind: str, format_: str, tmp_path: Path) -> None:
    if format_ == "npy" and kind in ("words", "dates"):
        return
    frame = problem(kind)
    path = written(frame, format_, tmp_path)
    named = columns_of(path, "g", "f", "w", "y")
    options = {"groups": named["g"], "weights": named["w"], "target": named["y"]}
    drop = {} if format_ == "npz" else {"drop": [named["f"]]}
    data = load(DataConfig(str(path), **options, **drop), folds=True)  # type: ignore[arg-type]
    assert data.X_train.shape == (N, 4)  # the groups are no feature
    for seed in (0, 3):
        (fold,) = assignments_of(data, FitConfig(cv=4, seed=seed), None)
        np.testing.assert_array_equal(fold, reference(frame, 4, seed))
    by_column = load(DataConfig(str(path), **(options | {"folds": named["f"]})))  # type: ignore[arg-type]
    assert by_column.X_train.shape == (N, 4)
    assert len(by_column.y_val) == 0
    (fold,) = assignments_of(by_column, FitConfig(cv=4), None)
    np.testing.assert_array_equal(fold, frame["f"])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_large_csv_file_has_the_groups_of_a_small_one(weighted: bool, tmp_path: Path) -> None:
    """Large ones are read in another way."""
    frame = problem(rows=60_000).drop(columns="f")[["a", "b", "c", "row", "g", "w", "y"]]
    frame.loc[::7, "w"] = 0.0
    options: dict[str, Any] = {"groups": "g", "val_size": 0} | ({"weights": "w"} if weighted else {"drop": ["w"]})
    found = [gpureg.load_dataset(written(frame, kind, tmp_path), **options) for kind in ("csv", "parquet")]
    assert (tmp_path / "data.csv").stat().st_size > 1 << 22
    assert found[0].groups is not None
    np.testing.assert_array_equal(found[0].groups, found[1].groups)
    np.testing.assert_array_equal(found[0].X_train, found[1].X_train)


@pytest.mark.parametrize("val_size", [None, 20, 60, 150])
@pytest.mark.parametrize("format_", ["csv", "parquet", "npz"])
def test_no_group_is_on_both_sides(format_: str, val_size: int | None, tmp_path: Path) -> None:
    frame = problem()
    path = written(frame, format_, tmp_path)
    drop = {} if format_ == "npz" else {"drop": ["f", "w"]}
    group_of = dict(zip(frame["row"].round(9), frame["g"], strict=True))
    for seed in range(5):
        data = gpureg.load_dataset(path, groups="g", val_size=val_size, seed=seed, **drop)
        sides = [{group_of[round(float(row[3]), 9)] for row in X} for X in (data.X_train, data.X_val)]
        assert not sides[0] & sides[1]
        assert len(data.y_train) + len(data.y_val) == N
        assert (val_size or 48) / 1.5 <= len(data.y_val) <= (val_size or 48) * 1.5
        assert set(data.y_train.tolist()) == {0, 1, 2}
        if val_size is not None and len(data.y_val) != val_size:
            assert any("Groups stay whole" in notice for notice in data.notices)


def test_the_split_is_a_fold_of_the_groups() -> None:
    frame = problem()
    data = gpureg.make_dataset(frame[["a", "b", "c", "row"]], frame["y"], groups=frame["g"], seed=7)
    held = reference(frame, 5, 7) == 0
    np.testing.assert_array_equal(data.X_val, frame.loc[held, ["a", "b", "c", "row"]])
    np.testing.assert_array_equal(data.X_train, frame.loc[~held, ["a", "b", "c", "row"]])


def test_a_class_of_one_group_stays_in_training() -> None:
    frame = problem()
    frame.loc[frame["g"] == "subject 05", "y"] = 3
    for seed in range(8):
        data = gpureg.make_dataset(frame[["a", "b"]], frame["y"], groups=frame["g"], seed=seed)
        assert 3 in data.y_train
    two = frame["g"].map(lambda g: int(g[-1]) % 2)  # each group is a class
    with pytest.raises(UsageError, match="some class would have no training row"):
        gpureg.make_dataset(frame[["a", "b"]], two, groups=two)


def test_one_large_group_does_not_become_the_validation_set() -> None:
    frame = problem()
    large = frame["g"].where(frame.index % 2 == 0, "a large one")
    for seed in range(5):
        data = gpureg.make_dataset(frame[["a", "b"]], frame["y"], groups=large, seed=seed)
        assert len(data.y_val) < 72


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "folds": ({"groups": "g"}, {"cv": 3}, ("--groups", "g", "--cv", "3")),
    "two assignments": (
        {"groups": "g"},
        {"cv": 3, "seeds": 2, "select": "1se"},
        ("--groups", "g", "--cv", "3", "--seeds", "2", "--select", "1se"),
    ),
    "split": ({"groups": "g"}, {"score": "accuracy"}, ("--groups", "g", "--score", "accuracy")),
    "column": ({"folds": "f"}, {"select": "1se"}, ("--folds", "f", "--select", "1se")),
    "both": ({"folds": "f", "groups": "g"}, {}, ("--folds", "f", "--groups", "g")),
    "column and refit": (
        {"folds": "f"},
        {"refit": "all", "score": "roc-auc"},
        ("--folds", "f", "--refit", "all", "--score", "roc-auc"),
    ),
    "split and refit": ({"groups": "g"}, {"refit": "all"}, ("--groups", "g", "--refit", "all")),
    "sgd": (
        {"folds": "f"},
        {"solver": "sgd", "epochs": 3, "batch_size": 16},
        ("--folds", "f", "--solver", "sgd", "--epochs", "3", "--batch-size", "16"),
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("format_", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("case", CASES)
def test_every_form_gives_the_same_weights(
    case: str, format_: str, weighted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on the command line, the run's own config.toml, the file in Python, arrays in Python."""
    monkeypatch.chdir(tmp_path)
    frame = problem()
    path = written(frame, format_, tmp_path)
    of_data, of_fit, flags = CASES[case]
    left = [name for name in ("g", "f", "w") if name not in of_data.values() and not (name == "w" and weighted)]
    drop = {} if format_ == "npz" else {"drop": left}
    more = ("--drop", ",".join(left)) if drop and left else ()
    more += ("--weights", "w") if weighted else ()
    done = invoke(
        "sweep-lambda",
        "--dataset",
        path,
        *flags[: len(flags)],
        *more,
        *OPTIONS[:4],
        *(() if "sgd" in case else OPTIONS[4:6]),
        "--out",
        "run",
    )
    assert done.exit_code == 0, done.stderr
    run = gpureg.load_run("run")
    again = invoke("sweep-lambda", "--config", "run/config.toml", "--quiet", "--out", "again")
    assert again.exit_code == 0, again.stderr
    same_run(Path("run"), Path("again"))
    options = FIT | of_fit
    data = gpureg.load_dataset(path, **of_data, **(drop if left else {}), **({"weights": "w"} if weighted else {}))
    result = gpureg.fit(data, **options)
    np.testing.assert_array_equal(result.model.coef, run.model.coef)
    weight = frame["w"].to_numpy() if weighted else None
    X = frame[["a", "b", "c", "row"]].to_numpy()
    if "folds" in of_data:
        whole = gpureg.make_dataset(X, frame["y"], sample_weight=weight)
        arrays = gpureg.fit(
            whole, folds=frame["f"].to_numpy(), groups=frame["g"] if "groups" in of_data else None, **options
        )
    else:
        arrays = gpureg.fit(gpureg.make_dataset(X, frame["y"], sample_weight=weight, groups=frame["g"]), **options)
        later = gpureg.fit(gpureg.make_dataset(X, frame["y"], sample_weight=weight), groups=frame["g"], **options)
        np.testing.assert_array_equal(later.model.coef, arrays.model.coef)
    np.testing.assert_array_equal(arrays.model.coef, run.model.coef)
    assert repr(arrays.cv) == repr(result.cv)


@pytest.mark.parametrize("format_", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("column", ["g", "f"])
def test_rows_of_weight_0_leave_with_their_groups_and_folds(column: str, format_: str, tmp_path: Path) -> None:
    frame = problem()
    frame.loc[::5, "w"] = 0.0
    without = frame[frame["w"] > 0].reset_index(drop=True)
    frame.loc[::5, "g"] = "of its own"  # a group, and a fold, that no row that counts is in
    frame.loc[::5, "f"] = 9
    (tmp_path / "a").mkdir()
    option = {"groups": "g"} if column == "g" else {"folds": "f"}
    found = []
    for part, folder in ((frame, tmp_path), (without, tmp_path / "a")):
        path = written(part, format_, folder)
        drop = {} if format_ == "npz" else {"drop": ["f" if column == "g" else "g"]}
        data = gpureg.load_dataset(path, weights="w", target="y", **option, **drop)
        found.append(gpureg.fit(data, **(FIT | ({"cv": 3} if column == "g" else {}))))
    assert found[0].n_train == len(without)
    assert repr(found[0].models) == repr(found[1].models)
    np.testing.assert_array_equal(found[0].model.coef, found[1].model.coef)


def test_rows_that_are_left_out_take_their_groups_with_them(tmp_path: Path) -> None:
    """For missing values, for another class, beyond the size of the training set."""
    frame = problem()
    frame.loc[::6, "a"] = np.nan
    path = written(frame, "csv", tmp_path)
    options: dict[str, Any] = {"groups": "g", "drop": ["f", "w"], "missing": "drop", "classes": [0, 2], "val_size": 0}
    data = gpureg.load_dataset(path, train_size=150, **options)
    kept = frame.dropna().iloc[:150]
    kept = kept[kept["y"] != 1]
    codes = np.unique(kept["g"], return_inverse=True)[1]
    assert data.groups is not None
    np.testing.assert_array_equal(np.unique(data.groups, return_inverse=True)[1], codes)
    np.testing.assert_array_equal(data.X_train[:, 3], kept["row"])
    (fold,) = assignments_of(data, FitConfig(cv=3), None)
    np.testing.assert_array_equal(fold, reference(kept.reset_index(drop=True), 3, 0))


@pytest.mark.parametrize("options", [{"cv": 3, "seeds": 2}, {}])
def test_interrupted_and_resumed_to_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    path = written(problem(), "csv", tmp_path)
    column = {"groups": "g", "drop": ["f", "w"]} if options else {"folds": "f", "drop": ["g", "w"]}
    data = gpureg.load_dataset(path, **column)
    config = FitConfig(score="balanced-accuracy", **(FIT | options))
    expected = run_fit(data, config, Hooks())
    for boundary in (0, 2, 5):
        keeper, left = Memory(), iter([False] * boundary)
        run_fit(data, config, Hooks(should_stop=lambda: next(left, True), keeper=keeper))  # noqa: B023
        assert_same(run_fit(data, config, Hooks(), saved=keeper.saved), expected)
    other = gpureg.load_dataset(
        path, **({"groups": "f", "drop": ["g", "w"]} if options else {"folds": "g", "drop": ["f", "w"]})
    )
    with pytest.raises(gpureg.RunError, match="not the data that the run began with"):
        run_fit(other, config, Hooks(), saved=keeper.saved)


def test_a_run_of_named_folds_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(problem(), "csv", tmp_path)
    options = ("--dataset", path, "--folds", "f", "--drop", "g,w", *OPTIONS)
    found = strict_json(invoke("sweep-lambda", *options, "--json", "--out", "run").stdout)
    assert {row["folds"] for row in found["cv"]} == {4}
    assert sorted({model["fold"] for model in found["models"] if model["fold"] is not None}) == [0, 1, 2, 3]
    config = gpureg.load_run("run").config
    assert (config["folds"], config.get("cv"), config.get("seeds")) == ("f", None, None)
    assert invoke("export", "run", "--card", "card.md").exit_code == 0
    assert "cross-validation on the folds that the column f names" in Path("card.md").read_text(encoding="utf-8")
    assert invoke("plot", "run").exit_code == 0


def holes(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[3, "g"], frame["f"] = None, frame["f"].astype(float).where(frame.index != 5)
    return frame


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], tuple[str, ...], str]] = {
    "no such groups": (lambda f: f, ("--groups", "subject"), "--groups subject: {path} has no such column; it has"),
    "no such folds": (lambda f: f, ("--folds", "G"), "--folds G: {path} has no such column; did you mean 'g'?"),
    "groups are the label": (lambda f: f, ("--groups", "y", "--target", "y"), "is the label or the weights"),
    "folds are the weights": (lambda f: f, ("--folds", "w", "--weights", "w"), "is the label or the weights"),
    "missing groups": (holes, ("--groups", "g", "--cv", "2"), "--groups: {path}, row 3 (counted from 0) has no value"),
    "missing folds": (holes, ("--folds", "f"), "--folds: {path}, row 5 (counted from 0) has no value"),
    "a single group": (
        lambda f: f.assign(g="x"),
        ("--groups", "g"),
        "the value 'x' in every row; expected at least two",
    ),
    "one fold": (lambda f: f.assign(f=1), ("--folds", "f"), "the value '1' in every row; expected at least two folds"),
    "thousands of folds": (
        lambda f: pd.concat([f] * 6).assign(f=range(6 * N)),
        ("--folds", "f"),
        "--folds: {path} has 1,440 different values there; expected a column that names the fold of each row, of at "
        "most 1,000",
    ),
    "fewer groups than folds": (
        lambda f: f,
        ("--groups", "f", "--cv", "5"),
        "5 folds need at least 5 groups (--groups)",
    ),
    "folds and cv": (lambda f: f, ("--folds", "f", "--cv", "4"), "--folds f and --cv 4 were both given"),
    "folds and seeds": (lambda f: f, ("--folds", "f", "--seeds", "2"), "--folds f and --seeds 2 were both given"),
    "groups across folds": (
        lambda f: f.assign(f=np.arange(N) % 3),
        ("--folds", "f", "--groups", "g"),
        "rows of one group (--groups) are in different folds (--folds)",
    ),
    "a named set": (lambda f: f, ("--dataset", "digits", "--groups", "g"), "'digits' has no columns to name"),
}


@pytest.mark.parametrize("format_", ["csv", "parquet"])
@pytest.mark.parametrize("case", BAD)
def test_bad_values_end_with_2_and_one_message(
    case: str, format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, options, words = BAD[case]
    path = written(change(problem()), format_, tmp_path)
    named = {name for name in ("g", "f", "w") if name not in options}
    flags = ("--drop", ",".join(sorted(named)), "--dataset", path, *OPTIONS, *options)
    if "digits" in options:
        flags = (*OPTIONS, *options)
    done = invoke("sweep-lambda", *flags, "--out", "run")
    assert done.exit_code == 2
    assert words.format(path=path) in " ".join(done.stderr.split())
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["a"] * N, "the value 'a' in every row"),
        (["a", None] * (N // 2), r"row 1 \(counted from 0\) has no value"),
        ([1.0, float("nan")] * (N // 2), r"row 1 \(counted from 0\) has no value"),
        (pd.Series([pd.NaT, *pd.date_range("2024-01-01", periods=N - 1)]), r"row 0 \(counted from 0\) has no value"),
        (np.zeros((N, 2)), "expected one value for each of the 240 rows"),
        (np.arange(N - 1), "expected one value for each of the 240 rows"),
        (["a", 1] * (N // 2), "mixes values of different kinds"),
        ([[1], [1, 2]] * (N // 2), "holds a list; expected numbers, words or dates"),
        (np.ones(N, complex), "has type complex128"),
    ],
)
def test_bad_groups_in_python(groups: Any, words: str) -> None:
    frame = problem()
    X, y = frame[["a", "b"]], frame["y"]
    with pytest.raises(DataError, match=words):
        gpureg.make_dataset(X, y, groups=groups)
    with pytest.raises(DataError, match=words):
        gpureg.fit(gpureg.make_dataset(X, y), groups=groups, cv=2, **FIT)


@pytest.mark.parametrize("kind", KINDS)
def test_folds_in_python_may_be_words_and_dates(kind: str) -> None:
    frame = problem()
    data = gpureg.make_dataset(frame[["a", "b"]], frame["y"])
    expected = gpureg.fit(data, folds=frame["f"], **FIT)
    found = gpureg.fit(data, folds=[KINDS[kind](value) for value in frame["f"].tolist()], **FIT)
    assert repr(found.models) == repr(expected.models)
    with pytest.raises(DataError, match=r"row 1 \(counted from 0\) has no value"):
        gpureg.fit(data, folds=["a", None] * (N // 2), **FIT)
    with pytest.raises(DataError, match="expected one value for each of the 2 rows"):
        gpureg.fit(data, folds=[["a", "b"], ["b", "a"]], **FIT)


def test_groups_in_python_that_nothing_could_heed() -> None:
    frame = problem()
    X, y, g = frame[["a", "b"]], frame["y"], frame["g"]
    with pytest.raises(UsageError, match="nothing is split here"):
        gpureg.fit(gpureg.make_dataset(X, y, val_size=40), groups=g[:200], **FIT)
    with pytest.raises(UsageError, match="folds puts rows of one group in different folds"):
        gpureg.fit(gpureg.make_dataset(X, y), groups=g, folds=np.arange(N) % 3, **FIT)
    data = gpureg.make_dataset(X, y, groups=g)
    with pytest.raises(UsageError, match="30 folds need at least 30 groups"):
        gpureg.fit(data, cv=30, **FIT)
    with pytest.warns(GpuregWarning, match="Groups stay whole"):
        gpureg.fit(gpureg.make_dataset(X, y, groups=g, val_size=50), **FIT)
