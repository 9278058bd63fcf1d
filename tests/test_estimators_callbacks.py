"""scikit-learn's callbacks on our estimators: what they are told, and that its own ones work."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as TheirRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpureg import LogisticRegression, LogisticRegressionCV


class Recorder:
    """Keeps what it is told: the hook, the task's name and number, and the weights of the estimator fitted so far."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int, Any]] = []
        self.data: list[dict[str, Any]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        self.told.append(("setup", context.task_name, context.task_id, None))

    def teardown(self, estimator: Any, context: Any) -> None:
        self.told.append(("teardown", context.task_name, context.task_id, None))

    def on_fit_task_begin(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Any = None,
        fitted_estimator: Any = None,
    ) -> None:
        self._keep("begin", context, fitted_estimator)
        self.data.append({"X": X, "y": y, "metadata": metadata})

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        self._keep("end", context, fitted_estimator)

    def _keep(self, hook: str, context: Any, fitted: Any) -> None:
        self.told.append((hook, context.task_name, context.task_id, fitted))

    def tasks(self, hook: str, name: str) -> list[Any]:
        """The estimators of the tasks of a name."""
        return [fitted for told, task, _, fitted in self.told if (told, task) == (hook, name)]


@pytest.fixture(scope="module")
def wine() -> tuple[Any, Any]:
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def large() -> tuple[Any, Any]:
    """More than the few whose batch is in float64."""
    random = np.random.RandomState(0)
    X = random.randn(18000, 60).astype(np.float32)
    return X, (X[:, :3] + random.randn(18000, 3)).argmax(axis=1)


def wide() -> tuple[Any, Any]:
    """Fewer rows than features."""
    random = np.random.RandomState(1)
    return random.randn(40, 200), np.arange(40) % 2


@pytest.mark.parametrize("case", ["few", "two classes", "wide", "large"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of the fits that are cut short
def test_an_iteration_s_estimator_is_that_of_a_fit_that_stops_there(
    case: str, intercept: bool, wine: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpureg.estimators.optimum.MOST_WIDENED", 0)  # in float32 they go in a batch
    X, y = {"few": wine, "two classes": (wine[0], wine[1] > 0)}.get(case) or {"wide": wide, "large": large}[case]()
    options: dict[str, Any] = {"fit_intercept": intercept, "dtype": "float32" if case == "large" else None}
    recorder = Recorder()
    model = LogisticRegression(**options).set_callbacks(recorder)
    np.testing.assert_array_equal(model.fit(X, y).coef_, LogisticRegression(**options).fit(X, y).coef_)
    n = int(model.n_iter_[0])
    assert [hook for hook, *_ in recorder.told].count("setup") == 1
    assert recorder.told[0][0] == "setup"
    assert recorder.told[-1][0] == "teardown"
    begun, ended = recorder.tasks("begin", "iteration"), recorder.tasks("end", "iteration")
    assert len(begun) == len(ended) == n + 1
    assert ended[-1] is None  # the empty task at the end
    assert not begun[0].coef_.any()
    for i in sorted({1, 2, n // 2, n} - {0}):
        cut = LogisticRegression(**options, max_iter=i).fit(X, y)
        for fitted in (begun[i], ended[i - 1]):
            np.testing.assert_allclose(fitted.coef_, cut.coef_, rtol=1e-7)
            np.testing.assert_allclose(fitted.intercept_, cut.intercept_, rtol=1e-7)
            np.testing.assert_array_equal(fitted.predict(X), cut.predict(X))
    (whole,) = recorder.tasks("end", "fit")
    np.testing.assert_array_equal(whole.coef_, model.coef_)
    assert [task for hook, name, task, _ in recorder.told if (hook, name) == ("end", "iteration")] == list(range(n + 1))


@pytest.mark.parametrize("start", [0, 1])
def test_without_iterations_there_is_one_task(start: int, wine: tuple[Any, Any]) -> None:
    model = LogisticRegression(warm_start=True)
    if start:
        model.fit(*wine)
    recorder = Recorder()
    with pytest.warns(ConvergenceWarning):
        model.set_params(max_iter=0).set_callbacks(recorder).fit(*wine)
    assert len(recorder.tasks("begin", "iteration")) == len(recorder.tasks("end", "iteration")) == 2
    np.testing.assert_array_equal(recorder.tasks("begin", "iteration")[0].coef_, model.coef_)


def test_the_last_iteration_may_end_in_the_span_of_few_rows() -> None:
    """There are no more tasks than scikit-learn's protocol was told at the start."""
    random = np.random.default_rng(0)
    X, y, recorder = random.normal(size=(20, 200)), np.arange(20) % 3, Recorder()
    model = LogisticRegression(C=1e-4, max_iter=2, fit_intercept=False).set_callbacks(recorder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert len(recorder.tasks("end", "iteration")) <= 3


def test_a_callback_is_shown_what_the_caller_gave(wine: tuple[Any, Any]) -> None:
    X, y = wine
    weight = np.ones(len(y))
    recorder = Recorder()
    LogisticRegression().set_callbacks(recorder).fit(X, y, sample_weight=weight)
    assert all(data["X"] is X and data["y"] is y for data in recorder.data)
    assert all(data["metadata"]["sample_weight"] is weight for data in recorder.data)


def test_a_fit_that_fails_is_torn_down(wine: tuple[Any, Any]) -> None:
    class Stops(Recorder):
        def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
            raise RuntimeError("enough")

    for kind in (LogisticRegression, LogisticRegressionCV):
        recorder = Stops()
        model = kind().set_callbacks(recorder)
        with pytest.raises(RuntimeError, match="enough"):
            model.fit(*wine)
        assert recorder.told[-1][0] == "teardown"
        assert not [name for name in vars(model) if "callback" in name and name != "_skl_callbacks"]
        assert model.set_callbacks().fit(*wine).score(*wine) > -1.0


@pytest.mark.parametrize("Cs", [1, 4, [1.0, 0.1]])
def test_a_cross_validation_tells_every_c(Cs: Any, wine: tuple[Any, Any]) -> None:
    recorder = Recorder()
    model = LogisticRegressionCV(Cs=Cs, cv=3).set_callbacks(recorder).fit(*wine)
    begun, ended = recorder.tasks("begin", "C"), recorder.tasks("end", "C")
    assert len(begun) == len(ended) == len(model.Cs_)
    (whole,) = recorder.tasks("end", "fit")
    np.testing.assert_array_equal(whole.coef_, model.coef_)


def test_a_progress_bar(wine: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (LogisticRegression, LogisticRegressionCV):
        kind().set_callbacks(ProgressBar()).fit(*wine)
        shown = capsys.readouterr().out
        assert f"{kind.__name__} - fit" in shown
        assert "100%" in shown
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*wine)
    assert "LogisticRegression - fit" in capsys.readouterr().out


@pytest.mark.parametrize("names", [True, False])
def test_a_monitor_s_scores_rise_to_the_optimum(names: bool) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    rows = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])]) if names else X
    monitor = ScoringMonitor(scoring="neg_log_loss")
    model = LogisticRegression(C=1e4).set_callbacks(monitor).fit(rows, y)
    log = monitor.get_logs()
    scores = [row["neg_log_loss"] for row in log.data if row["task_name"] == "iteration"]
    assert len(scores) == int(model.n_iter_[0])
    assert scores[0] < scores[len(scores) // 2] < scores[-1]
    assert scores[-1] == pytest.approx(get_scorer("neg_log_loss")(model, rows, y), rel=1e-9)


def test_scikit_learn_s_own_class_tells_the_same(wine: tuple[Any, Any]) -> None:
    """The order of the hooks, the names of fit's task, and how many there are."""
    found = []
    for kind in (LogisticRegression, TheirRegression):
        recorder = Recorder()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            kind(max_iter=3, tol=1e-12).set_callbacks(recorder).fit(*wine)
        found.append([(hook, name.rpartition("-iter")[1] or name[:4]) for hook, name, *_ in recorder.told])
    assert [hook for hook, _ in found[0]] == [hook for hook, _ in found[1]]
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    recorder = Recorder()
    pipe[-1].set_callbacks(recorder)
    assert pipe.fit(*wine).score(*wine) > 0.9
    assert recorder.tasks("end", "fit")
