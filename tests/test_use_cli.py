"""`gpureg predict`, `evaluate` and `export`: a trained model on new data, the same in Python, on the command line and
in onnxruntime."""

from __future__ import annotations

import csv
import io
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import SCRIPT, environment, invoke, left_in, script, started, strict_json, write_flowers
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_wine

import gpureg

SCHEMA_1 = Path(__file__).parent / "data" / "schema-1"
FLOWERS = Path(__file__).parent / "data" / "schema-1-flowers.csv"
SETS = ("wine", "breast_cancer", "digits", "schema-1")


@pytest.fixture(scope="module", params=SETS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run, a file of its rows with shuffled and further columns, and the name of its label."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "schema-1":
        return SCHEMA_1, FLOWERS, "species"
    data, target = folder / "data.csv", "kind"
    if request.param == "digits":
        result = invoke("train", "--dataset", "digits", "--epochs", "3", "--dtype", "float64", "--out", folder / "run")
        assert result.exit_code == 0, result.stderr
        digits = gpureg.load_dataset("digits")
        frame = pd.DataFrame(digits.X_val).assign(kind=digits.y_val)  # no names: columns by number
        frame.to_csv(data, index=False)
        return folder / "run", data, target
    bunch = {"wine": load_wine, "breast_cancer": load_breast_cancer}[request.param](as_frame=True)
    words = np.array(["no", "perhaps", "yes"] if request.param == "wine" else ["no", "yes"])
    frame = bunch.data.assign(kind=words[bunch.target])
    frame.to_csv(folder / "train.csv", index=False)
    task = "softmax" if request.param == "wine" else "logistic"
    options = ("--task", task, "--dtype", "float64", "--lambda-grid", "1e-3:1:4", "--solver", "lbfgs")
    result = invoke("sweep-lambda", "--dataset", folder / "train.csv", *options, "--out", folder / "run")
    assert result.exit_code == 0, result.stderr
    other = frame[list(frame.columns[::-1])].assign(vineyard=[f"w{i}, x" for i in range(len(frame))])
    other.to_csv(data, index=False)
    return folder / "run", data, target


def features(run: Any, data: Path, target: str) -> np.ndarray:
    frame = pd.read_csv(data)
    if run.model.feature_names is not None:
        return frame[list(run.model.feature_names)].to_numpy()
    return frame.drop(columns=[target, "weight"], errors="ignore").to_numpy()


def read_csv(text: str, classes: tuple[Any, ...]) -> tuple[list[str], np.ndarray]:
    rows = list(csv.DictReader(io.StringIO(text)))
    return [row["label"] for row in rows], np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])


def test_probabilities_are_the_same_everywhere(trained: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, data, target = trained
    run = gpureg.load_run(folder)
    X = features(run, data, target)
    p, words = run.model.predict_proba(X), [str(label) for label in run.model.predict(X)]
    done = invoke("predict", folder, data)
    assert done.exit_code == 0, done.stderr
    labels, theirs = read_csv(done.stdout, run.model.classes)
    assert labels == words
    np.testing.assert_allclose(theirs, p, rtol=1e-13)
    with data.open("rb") as stream:
        piped = subprocess.run(
            [SCRIPT, "predict", folder, "-"], stdin=stream, capture_output=True, text=True, env=environment()
        )
    assert piped.stdout == done.stdout
    for suffix in ("csv", "parquet", "npz", "npy"):
        assert invoke("predict", folder, data, "--out", tmp_path / f"p.{suffix}").exit_code == 0
    assert (tmp_path / "p.csv").read_text() == done.stdout
    table = pq.read_table(tmp_path / "p.parquet")
    assert [str(label) for label in table["label"].to_pylist()] == words
    np.testing.assert_array_equal(np.stack([table[f"p_{c}"].to_numpy() for c in run.model.classes], axis=1), theirs)
    arrays = np.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(np.stack([arrays[f"p_{c}"] for c in run.model.classes], axis=1), theirs)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), theirs)
    assert invoke("export", folder, "--onnx", tmp_path / "m.onnx").exit_code == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    wide = session.get_inputs()[0].type == "tensor(double)"
    label, q = session.run(None, {"X": X.astype(np.float64 if wide else np.float32)})
    np.testing.assert_allclose(q, p, atol=1e-6, rtol=0)
    assert np.mean([str(one) == other for one, other in zip(label.tolist(), words, strict=True)]) > 0.99
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "p.csv", "p.npy", "p.npz", "p.parquet"]


def test_metrics_are_scikit_learn_s(trained: tuple[Path, Path, str]) -> None:
    folder, data, target = trained
    run = gpureg.load_run(folder)
    frame, X = pd.read_csv(data), features(run, data, target)
    done = invoke("evaluate", folder, data, "--target", target, "--json")
    assert done.exit_code == 0, done.stderr
    found = strict_json(done.stdout)
    y = np.array([list(map(str, run.model.classes)).index(str(label)) for label in frame[target]])
    p, K = run.model.predict_proba(X), len(run.model.classes)
    w = frame["weight"].to_numpy() if "weight" in frame else None
    predicted = p.argmax(axis=1)
    expected = {
        "n": len(y),
        "loss": sk.log_loss(y, p, sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "accuracy": sk.accuracy_score(y, predicted, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted, sample_weight=w),
        "top5_accuracy": sk.top_k_accuracy_score(y, p, k=5, sample_weight=w) if K > 5 else None,
        "roc_auc": sk.roc_auc_score(y == 0, p[:, 0])
        if K == 2
        else sk.roc_auc_score(y, p, multi_class="ovr", sample_weight=w),
    }
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name
    np.testing.assert_allclose(found["confusion"], sk.confusion_matrix(y, predicted, sample_weight=w))


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_the_loss_is_the_validation_loss(task: str, tmp_path: Path) -> None:
    """On the same rows: a validation part of its own, and that of a named set."""
    data = gpureg.load_dataset("digits", task=task, classes=[3, 8] if task == "logistic" else None)
    labels = np.asarray(data.classes)
    parts = {"X": data.X_train, "y": labels[data.y_train], "X_val": data.X_val, "y_val": labels[data.y_val]}
    np.savez(tmp_path / "d.npz", **parts)
    options = ("--task", task, "--epochs", "3", "--dtype", "float64")
    classes = ("--classes", "3,8") if task == "logistic" else ()
    for name, chosen in (("digits", classes), (tmp_path / "d.npz", ())):
        out = tmp_path / "run"
        done = invoke("train", "--dataset", name, *chosen, *options, "--out", out, "--force")
        assert done.exit_code == 0, done.stderr
        done = invoke("evaluate", out, name, "--json")
        (model,) = gpureg.load_run(out).result["models"]
        found = strict_json(done.stdout)
        assert found["loss"] == pytest.approx(model["val_loss"], rel=1e-12)
        assert found["accuracy"] == model["val_accuracy"]
        assert found["n"] == len(data.y_val)
        assert len(invoke("predict", out, name).stdout.splitlines()) == 1 + len(data.y_val)


def test_a_schema_1_run_is_matched_by_number_with_a_notice(tmp_path: Path) -> None:
    done = invoke("predict", SCHEMA_1, FLOWERS, "--out", tmp_path / "p.npy")
    assert done.stderr.startswith("note: The run has no feature names: the columns of ")
    best = [max(range(4), key=lambda i: (i in pair, -losses(i))) for pair in ((0, 2), (1, 3))]
    model = gpureg.load_run(SCHEMA_1).model
    assert [model.index_of(0.1), model.index_of(0.01)] == best


def losses(index: int) -> float:
    return float(gpureg.load_run(SCHEMA_1).result["models"][index]["val_loss"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run on flowers, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_flowers(tmp_path / "flowers.csv")
    options = ("--target", "species", "--weights", "weight", "--solver", "lbfgs", "--lambdas", "0.1,0.01")
    done = invoke("sweep-lambda", "--dataset", "flowers.csv", *options, "--out", "run")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "run"


def test_kept_columns_come_along(run: Path) -> None:
    done = invoke("predict", run, "flowers.csv", "--keep", "species, a")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    own = list(csv.DictReader(io.StringIO(Path("flowers.csv").read_text())))
    assert list(rows[0])[-2:] == ["species", "a"]
    assert [(row["species"], row["a"]) for row in rows] == [(row["species"], row["a"]) for row in own]


def test_l2_names_a_model(run: Path) -> None:
    loaded = gpureg.load_run(run)
    X = pd.read_csv("flowers.csv")
    for l2, index in ((0.1, 0), (0.01, 1), (0.099999, 0)):
        done = invoke("predict", run, "flowers.csv", "--l2", l2)
        np.testing.assert_allclose(
            read_csv(done.stdout, loaded.model.classes)[1], loaded.model.predict_proba(X, model=index), rtol=1e-13
        )
    chosen = strict_json(invoke("evaluate", run, "flowers.csv", "--json").stdout)
    assert chosen == strict_json(invoke("evaluate", run, "flowers.csv", "--json", "--l2", "0.01").stdout)


def test_evaluate_knows_the_label_and_the_weights_of_the_training_data(run: Path) -> None:
    frame = pd.read_csv("flowers.csv")
    frame[["d", "species", "b", "weight", "a", "c"]].to_csv("other.csv", index=False)
    one, other = (strict_json(invoke("evaluate", run, name, "--json").stdout) for name in ("flowers.csv", "other.csv"))
    assert one == other
    model = gpureg.load_run(run).model
    assert one == model.evaluate(frame, frame["species"], frame["weight"]).to_dict()
    renamed = frame.rename(columns={"species": "kind", "weight": "w"})
    renamed.to_csv("renamed.csv", index=False)
    again = invoke("evaluate", run, "renamed.csv", "--target", "kind", "--weights", "w", "--json")
    assert strict_json(again.stdout) == one
    frame.drop(columns="weight").to_csv("plain.csv", index=False)
    assert strict_json(invoke("evaluate", run, "plain.csv", "--json").stdout) == (
        model.evaluate(frame, frame["species"]).to_dict()
    )


def test_rows_of_weight_0_count_nowhere(run: Path) -> None:
    frame = pd.read_csv("flowers.csv")
    extra = frame.head(7).assign(weight=0, species="unheard of", a=np.nan)
    pd.concat([extra, frame]).to_csv("more.csv", index=False)
    one, other = (strict_json(invoke("evaluate", run, name, "--json").stdout) for name in ("flowers.csv", "more.csv"))
    assert one == other


def test_labels_are_read_as_in_training(run: Path) -> None:
    """1 and 1.0 are one class, as are words with and without space around them; 01 is another."""
    frame = pd.read_csv("flowers.csv")
    kinds = frame["species"].map({"setosa": "0", "versicolor": "1", "virginica": "2"})
    frame.assign(species=kinds).to_csv("numbers.csv", index=False)
    done = invoke("train", "--dataset", "numbers.csv", "--target", "species", "--out", "numbered")
    assert done.exit_code == 0, done.stderr
    spelled = kinds.where(frame.index % 2 == 0, kinds + ".0").where(frame.index % 3 > 0, " " + kinds)
    frame.assign(species=spelled).to_csv("spelled.csv", index=False)
    one, other = (
        strict_json(invoke("evaluate", "numbered", name, "--json").stdout) for name in ("numbers.csv", "spelled.csv")
    )
    assert one == other
    frame.assign(species="0" + kinds).to_csv("padded.csv", index=False)
    assert "120 of 120 rows have classes" in invoke("evaluate", "numbered", "padded.csv").stderr


def test_names_that_a_terminal_would_obey_are_shown(run: Path) -> None:
    frame = pd.read_csv("flowers.csv")
    frame.assign(species=frame["species"] + "\x1b[31m").to_csv("red.csv", index=False)
    options = ("--target", "species", "--solver", "lbfgs", "--out", "red")
    assert invoke("train", "--dataset", "red.csv", *options).exit_code == 0
    assert "\x1b" not in invoke("evaluate", "red", "red.csv").stdout
    assert invoke("export", "red", "--card", "red.md").exit_code == 0
    assert "\x1b" not in Path("red.md").read_text()


def test_intervals_and_figures(run: Path, tmp_path: Path) -> None:
    done = invoke("evaluate", run, "flowers.csv", "--bootstrap", "50", "--out", "figures", "--json")
    found = strict_json(done.stdout)
    frame = pd.read_csv("flowers.csv")
    model = gpureg.load_run(run).model
    assert found == model.evaluate(frame, frame["species"], frame["weight"], bootstrap=50).to_dict()
    assert set(found["intervals"]) == {"loss", "log_loss", "accuracy", "balanced_accuracy", "roc_auc", "ece"}
    names = ["confusion.png", "reliability.png", "roc.png"]
    assert left_in(tmp_path / "figures") == names
    assert done.stderr.splitlines() == [f"figures/{name}" for name in names]
    shown = invoke("evaluate", run, "flowers.csv", "--bootstrap", "50").stdout
    assert "95% interval" in shown
    assert "versicolor" in shown


def test_export_writes_tables_and_a_card(run: Path, tmp_path: Path) -> None:
    done = invoke("export", run, "--csv", "sheets", "--card", "card.md", "--l2", "0.1")
    assert done.stdout.splitlines() == [
        "sheets/weights.csv", "sheets/path.csv", "sheets/history.csv", "card.md",
    ]  # fmt: skip
    loaded = gpureg.load_run(run)
    weights = pd.read_csv("sheets/weights.csv")
    mine = weights[weights["chosen"] == 1]
    assert mine["feature"].tolist() == ["a", "b", "c", "d", "(intercept)"]
    np.testing.assert_array_equal(
        mine[[f"w_{c}" for c in loaded.model.classes]].to_numpy()[:-1].T, loaded.model.coef[0]
    )
    path = pd.read_csv("sheets/path.csv")
    assert path["val_loss"].tolist() == [model["val_loss"] for model in loaded.result["models"]]
    assert path["gap_bound"].notna().all()
    history = pd.read_csv("sheets/history.csv")
    np.testing.assert_array_equal(
        history[history["model"] == 1]["objective"],
        loaded.history.objective[:, 1][~np.isnan(loaded.history.objective[:, 1])],
    )
    card = Path("card.md").read_text()
    for words in (
        "λ = 0.1, ",
        "It was named when this card was written; 2 λ were trained.",
        "| validation loss |",
        "gpureg.load_run",
        "label column: species",
        "model=0",
        "numpy ",
    ):
        assert words in card, words
    chosen = invoke("export", run, "--card", "chosen.md")
    assert chosen.exit_code == 0
    assert "It was chosen among 2 λ by the validation rows: the best loss." in Path("chosen.md").read_text()


def test_a_cross_validated_minibatch_run_is_exported_too(run: Path) -> None:
    options = (
        "--target",
        "species",
        "--weights",
        "weight",
        "--solver",
        "sgd",
        "--lambdas",
        "0.1,0.01",
        "--epochs",
        "2",
    )
    done = invoke(
        "sweep-lambda", "--dataset", "flowers.csv", *options, "--cv", "3", "--batch-size", "16", "--out", "cv",
        "--val-size", "20",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    done = invoke("export", "cv", "--csv", "sheets", "--card", "card.md")
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "weights.csv", "path.csv", "cv.csv", "history.csv", "steps.csv", "card.md",
    ]  # fmt: skip
    loaded = gpureg.load_run("cv")
    assert pd.read_csv("sheets/cv.csv")["mean"].tolist() == [row["mean"] for row in loaded.result["cv"]]
    steps = pd.read_csv("sheets/steps.csv")
    np.testing.assert_array_equal(steps[steps["model"] == 0]["loss"], loaded.history.step_loss[:, 0])
    assert "3-fold cross-validation: the best loss" in Path("card.md").read_text()


def test_a_card_names_the_run_as_its_reader_finds_it(run: Path) -> None:
    """By the path that was given from here, and by the folder's own name if that was a path from the root."""
    shutil.copytree(run, "runs/flowers")
    for given, name in (("runs/flowers", "runs/flowers"), (Path("runs/flowers").absolute(), "flowers")):
        assert invoke("export", given, "--card", "card.md").exit_code == 0
        card = Path("card.md").read_text()
        assert f"model = gpureg.load_run({name!r}).model" in card
        assert f"gpureg predict {name} new-rows.csv" in card


BAD = {
    "no run": (("predict", "nowhere", "flowers.csv"), "nowhere does not exist"),
    "no data": (("predict", "run", "nope.csv"), "DATA nope.csv is neither a named data set"),
    "a folder": (("predict", "run", "."), "folder without"),
    "another width": (("predict", "run", "digits"), "digits has 64 features; this model was trained on 4"),
    "missing columns": (("predict", "run", "short.csv"), "lacks columns that this model was trained on: c, d"),
    "NaN": (("predict", "run", "holes.csv"), "holes.csv: 1 row holds NaN or infinite values; the first is row 5"),
    "a word": (("predict", "run", "words.csv"), "column 'b' holds 'x' in row 2"),
    "no such λ": (("predict", "run", "flowers.csv", "--l2", "1"), "--l2 1.0: this run has no model within 0.1%"),
    "λ in words": (("predict", "run", "flowers.csv", "--l2", "x"), "'--l2'"),
    "nothing to keep": (("predict", "run", "flowers.csv", "--keep", "z"), "--keep z: flowers.csv has no such"),
    "keep of nothing": (("predict", "run", "flowers.csv", "--keep", ","), "--keep is ','"),
    "another suffix": (("predict", "run", "flowers.csv", "--out", "p.txt"), "--out p.txt: expected a name that ends"),
    "no such folder": (("predict", "run", "flowers.csv", "--out", "no/p.csv"), "--out no/p.csv can't be written"),
    "over its data": (
        ("predict", "run", "flowers.csv", "--out", "flowers.csv"),
        "--out flowers.csv is the file DATA itself",
    ),
    "keep in an npy": (("predict", "run", "flowers.csv", "--out", "p.npy", "--keep", "a"), "only the probabilities"),
    "no label": (("evaluate", "run", "unlabelled.csv"), "has no column 'species', the label of the training data"),
    "other classes": (("evaluate", "run", "others.csv"), "3 of 120 rows have classes that this model does not know"),
    "no such target": (("evaluate", "run", "flowers.csv", "--target", "z"), "--target z: flowers.csv has no such"),
    "no such weights": (("evaluate", "run", "flowers.csv", "--weights", "z"), "--weights z: flowers.csv has no such"),
    "the label as weights": (("evaluate", "run", "flowers.csv", "--weights", "species"), "is the label column"),
    "no rows": (("evaluate", "run", "empty.csv"), "has no rows to evaluate on"),
    "resamples": (("evaluate", "run", "flowers.csv", "--bootstrap", "-1"), "--bootstrap is -1"),
    "figures into a file": (("evaluate", "run", "flowers.csv", "--out", "short.csv"), "--out short.csv can't be"),
    "nothing to export": (("export", "run"), "name --onnx FILE, --csv DIR or --card FILE"),
    "onnx": (("export", "run", "--onnx", "no/m.onnx"), "--onnx no/m.onnx can't be written"),
    "sheets": (("export", "run", "--csv", "short.csv"), "--csv short.csv can't be written"),
    "card": (("export", "run", "--card", "no/c.md"), "--card no/c.md can't be written"),
    "export of no λ": (("export", "run", "--card", "c.md", "--l2", "7"), "this run has no model within 0.1%"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_2_one_message_and_nothing_left(case: str, run: Path, tmp_path: Path) -> None:
    frame = pd.read_csv("flowers.csv")
    frame.drop(columns=["c", "d"]).to_csv("short.csv", index=False)
    frame.assign(a=frame["a"].where(frame.index != 5)).to_csv("holes.csv", index=False)
    frame.astype({"b": object}).assign(b=frame["b"].astype(object).where(frame.index != 2, "x")).to_csv(
        "words.csv", index=False
    )
    frame.drop(columns="species").to_csv("unlabelled.csv", index=False)
    frame.assign(species=frame["species"].where(frame.index > 2, "rose")).to_csv("others.csv", index=False)
    frame.head(0).to_csv("empty.csv", index=False)
    arguments, words = BAD[case]
    before = left_in(tmp_path)
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    assert "Traceback" not in done.stderr
    assert left_in(tmp_path) == before


def test_without_a_chosen_model_one_must_be_named(run: Path) -> None:
    options = ("--target", "species", "--lambdas", "0.1,0.01", "--solver", "lbfgs", "--val-size", "0")
    done = invoke("sweep-lambda", "--dataset", "flowers.csv", *options, "--out", "none")
    assert done.exit_code == 0, done.stderr
    for command in (
        ("predict", "none", "flowers.csv"),
        ("evaluate", "none", "flowers.csv"),
        ("export", "none", "--card", "c"),
    ):
        refused = invoke(*command)
        assert refused.exit_code == 2
        assert "Name one by its λ, for example --l2 0.1; it has 0.1, 0.01" in " ".join(refused.stderr.split())
        assert invoke(*command, "--l2", "0.1").exit_code == 0


def test_a_reader_that_goes_away_is_no_error(run: Path, tmp_path: Path) -> None:
    wide = pd.concat([pd.read_csv("flowers.csv")] * 500)
    wide.to_csv("many.csv", index=False)
    with started("predict", "run", "many.csv", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_interrupt_leaves_nothing_half_written(run: Path, tmp_path: Path) -> None:
    """Rows without end come in; once several blocks of them are read the output is under way, and then gone."""
    before = left_in(tmp_path)
    command = [SCRIPT, "predict", "run", "-", "--out", "p.csv"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"a,b,c,d\n" + b"1,2,3,4\n" * 2_000_000)
        assert len(left_in(tmp_path)) == len(before) + 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    assert left_in(tmp_path) == before


def test_a_closed_stdin_is_refused(run: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        f"{SCRIPT} predict run - <&-", shell=True, cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert "reads CSV from stdin" in done.stderr


def test_help_names_the_options(tmp_path: Path) -> None:
    for command, options in (
        ("predict", ("--out", "--keep", "--l2")),
        ("evaluate", ("--bootstrap", "--json", "--out", "--l2", "--target", "--weights")),
        ("export", ("--onnx", "--csv", "--card", "--l2")),
    ):
        shown = script(command, "--help", cwd=tmp_path, COLUMNS="120").stdout
        assert all(option in shown for option in options), command
