"""`reproduce` trains what is missing and writes the report; the two binary runs give its printed digits."""

import dataclasses

import pytest
from gpureg_cli.reproduce import reproduce as command
from synthetic_runs import save_run, synthetic_result
from typer.testing import CliRunner

import gpureg
from gpureg.config import DataConfig, FitConfig, joined, parted
from gpureg.errors import RunError, UsageError
from gpureg.report import numbers as report
from gpureg.report import page
from gpureg.report import reproduce as module
from gpureg.storage.directory import claim, load_run


def synthetic(config):
    options = joined(module.data_of(config), config)
    result = synthetic_result(l2=config.l2, task=config.task, config=options)
    return dataclasses.replace(result, environment={"gpureg": gpureg.__version__})


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: synthetic runs; the list names those that were asked for."""
    asked = []

    def train_run(place, config):
        asked.append(place.path.name)
        return load_run(place.commit(synthetic(config).to_run(place.path)))

    monkeypatch.setattr(module, "train_run", train_run)
    return asked


def test_everything_is_written(trained, tmp_path):
    heard = []
    done = module.reproduce(tmp_path / "out", tell=heard.append)
    assert trained == list(module.RUNS)
    names = {f"figure-{number}.{kind}" for number in range(1, 10) for kind in ("svg", "png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"index.html", "report.md", "runs"}
    assert {path.name for path in done.figures} == names
    assert done.page.read_text(encoding="utf-8").count("<img ") == 9
    assert "numbers that the report prints" in done.summary
    assert any("softmax: training 5 models in float64" in line for line in heard)


@pytest.mark.parametrize("place", [".", "runs", "runs/softmax"])
def test_a_folder_that_can_not_be_used_is_refused_before_anything_is_trained(trained, tmp_path, place):
    """That of the last run too: it costs nothing."""
    taken = tmp_path / "out" / place
    if place == "runs/softmax":
        taken.mkdir(parents=True)
        (taken / "thesis.tex").write_text("mine")
    else:
        taken.parent.mkdir(parents=True, exist_ok=True)
        taken.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=r"holds other files|can't be written"):
        module.reproduce(tmp_path / "out")
    assert trained == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_another_process_writes_is_refused_before_anything_is_trained(trained, tmp_path):
    with (
        claim(tmp_path / "runs" / "softmax"),
        pytest.raises(RunError, match="Another process is writing"),
    ):
        module.reproduce(tmp_path)
    assert trained == []


@pytest.fixture
def unwritten(monkeypatch):
    """Instead of drawing and writing: the names of the runs that were reused."""
    monkeypatch.setattr(module, "_write", lambda folder, runs, reused, begun: reused)


@pytest.mark.usefixtures("unwritten")
def test_what_is_there_is_not_trained_again(trained, tmp_path):
    assert module.reproduce(tmp_path) == set()
    trained.clear()
    heard = []
    # the number of threads changes no result worth a new training
    assert module.reproduce(tmp_path, threads=2, tell=heard.append) == set(module.RUNS)
    assert trained == []
    assert "softmax: exists already" in heard
    assert module.reproduce(tmp_path, dtype="float32") == set()
    assert trained == list(module.RUNS)


@pytest.mark.usefixtures("unwritten")
def test_a_damaged_or_unfinished_run_is_trained_again(trained, tmp_path):
    module.reproduce(tmp_path)
    trained.clear()
    (tmp_path / "runs" / "softmax" / "history.npz").write_bytes(b"PK")
    (tmp_path / "runs" / "binary-shuffle" / "result.json").unlink()
    assert module.reproduce(tmp_path) == {"binary-no-shuffle"}
    assert trained == ["binary-shuffle", "softmax"]


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"dataset": "fashion-mnist"}},
        {"config": {"dataset": "mnist", "patience": 3}},
        {"config": {"train_size": 60_000}},
        {"environment": {"gpureg": "0.0.1"}},
        {"models": "interrupted"},
    ],
)
def test_a_run_of_another_kind_is_not_taken(tmp_path, change):
    config = module.configurations("float64", "auto", False, None)["softmax"]
    result = synthetic(config)
    assert module.finished(save_run(result, tmp_path / "same"), config) is not None
    if "config" in change:
        result = dataclasses.replace(result, config=result.config | change["config"])
    if "environment" in change:
        result = dataclasses.replace(result, environment=change["environment"])
    if "models" in change:
        stopped = [dataclasses.replace(model, stop_reason="interrupted") for model in result.models]
        result = dataclasses.replace(result, models=tuple(stopped))
    assert module.finished(save_run(result, tmp_path / "other"), config) is None
    assert module.finished(tmp_path / "none", config) is None


def test_the_protocol_is_the_reports():
    configs = module.configurations("float64", "cpu", True, 2)
    binary, shuffled, softmax = (configs[name] for name in module.RUNS)
    assert (binary.shuffle, shuffled.shuffle, softmax.shuffle) == (False, True, True)
    assert (binary.lr, shuffled.lr, softmax.lr) == ((0.05,), (0.05,), (0.01,))
    assert softmax.l2 == (0.0, 2.0, 0.2, 0.02, 0.002)
    assert module.data_of(binary) == DataConfig("mnist", classes=(2, 3), train_size=20_000, val_size=10_000)
    assert module.data_of(softmax) == DataConfig("mnist", train_size=20_000, val_size=10_000)
    for config in configs.values():
        assert (config.epochs, config.batch_size, config.evals_per_epoch, config.patience) == (50, 128, 5, 10)
        assert (config.seed, config.keep, config.penalize_bias, config.min_delta) == (0, "last", True, 0.0)
        assert (config.dtype, config.device, config.strict_device, config.threads) == ("float64", "cpu", True, 2)
        assert FitConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="dtype is 'float16'"):
        module.configurations("float16", "cpu", False, None)


def test_an_output_folder_that_can_not_be(trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"):
        module.reproduce(tmp_path / "file")


def test_the_command_prints_the_page_and_tells_the_rest_on_stderr(trained, tmp_path):
    import typer

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "out" / "index.html")
    assert "numbers that the report prints" in result.stderr
    quiet = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--quiet"], catch_exceptions=False)
    assert quiet.stderr == ""


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("name", "printed"), [("binary-no-shuffle", report.PRINTED_NO_SHUFFLE), ("binary-shuffle", report.PRINTED_SHUFFLE)]
)
def test_the_binary_runs_give_the_printed_digits(tmp_path, name, printed):
    config = module.configurations("float64", "cpu", False, None)[name]
    with claim(tmp_path / name) as place:
        run = module.train_run(place, config)
    model = run.result["models"][0]
    for key, value in zip(report.KEYS, printed, strict=True):
        if value is not None:
            assert page.agrees(report.Comparison(name, key, value, model[key])), (key, value, model[key])
    again = module.finished(tmp_path / name, config)
    assert again is not None
    assert parted(again.config) == (module.data_of(config), config)
