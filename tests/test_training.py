"""The trainer: the rule of evaluation and stopping, on every backend; divergence; weights; interruption."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import BackendFactory
from small_problems import blobs

import gpureg
from gpureg.backend import numpy_backend
from gpureg.config import FitConfig
from gpureg.errors import GpuregWarning, UsageError
from gpureg.fitting.entry import Hooks, fit_on
from gpureg.solvers.sgd.batches import Shuffler
from gpureg.solvers.sgd.early_stopping import Stopping

SILENT = Hooks(lambda event: None, lambda: False)


def plain_run(data: gpureg.Dataset, config: FitConfig, l2: float) -> dict:
    """The report's protocol written the report's way, for one softmax model: loops, no stacking, float64."""
    scale = data.X_train.std(axis=0)
    mean = data.X_train.mean(axis=0)
    X = np.c_[(data.X_train - mean) / scale, np.ones(len(data.y_train))]
    V = np.c_[(data.X_val - mean) / scale, np.ones(len(data.y_val))]
    K, B, lr = len(data.classes), min(config.batch_size, len(X)), config.rates[0]
    W = np.zeros((X.shape[1], K))
    random, b = np.random.RandomState(config.seed), len(X) // B

    def forward(rows: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
        z = rows @ W
        z = z - z.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return p, -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(axis=1) == y).mean()

    steps, evaluations, lowest, waited, s = [], [], np.inf, 0, 0
    for _ in range(config.epochs):
        indices = list(range(len(X)))
        if config.shuffle:
            random.shuffle(indices)
        for i in range(b):
            batch = indices[i * B : (i + 1) * B]
            p, loss, _ = forward(X[batch], data.y_train[batch])
            steps.append(loss)
            p[np.arange(B), data.y_train[batch]] -= 1
            W = W - lr * (X[batch].T @ p / B + 2 * l2 * W)
            if s % max(1, b // config.evals_per_epoch) == 0:
                _, val_loss, val_accuracy = forward(V, data.y_val)
                evaluations.append((s, val_loss, val_accuracy, forward(X, data.y_train)[2]))
                waited = 0 if val_loss < lowest else waited + 1
                lowest = min(lowest, val_loss)
                if waited >= config.patience > 0:
                    return {"W": W, "steps": steps, "evaluations": np.array(evaluations)}
            s += 1
    return {"W": W, "steps": steps, "evaluations": np.array(evaluations)}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("l2", "patience"), [(0.0, 10), (0.2, 3), (0.0, 0)])
def test_history_is_that_of_the_plain_loop(shuffle: bool, l2: float, patience: int) -> None:
    data = blobs(230, 90)
    config = FitConfig(
        l2=(l2,), lr=(0.5,), epochs=12, batch_size=16, dtype="float64", patience=patience, shuffle=shuffle, seed=5
    )
    expected = plain_run(data, config, l2)
    result = fit_on(numpy_backend("float64"), data, config, SILENT)
    history = result.history
    np.testing.assert_allclose(history.step_loss[:, 0], expected["steps"], rtol=1e-11)
    np.testing.assert_array_equal(history.eval_step, expected["evaluations"][:, 0])
    np.testing.assert_allclose(history.val_loss[:, 0], expected["evaluations"][:, 1], rtol=1e-11)
    np.testing.assert_array_equal(history.val_accuracy[:, 0], expected["evaluations"][:, 2])
    np.testing.assert_array_equal(history.train_accuracy[:, 0], expected["evaluations"][:, 3])
    assert result.models[0].steps == len(expected["steps"])
    np.testing.assert_allclose(result.model.coef[0].T, expected["W"][:-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.model.intercept[0], expected["W"][-1], rtol=1e-9, atol=1e-12)


def test_stops_are_cut_back_to_the_evaluation() -> None:
    """At least one case above must stop early in the middle of a stack, or it would show nothing of the cutting
    back."""
    data = blobs(230, 90)
    result = gpureg.fit(data, l2=0.2, lr=0.5, epochs=12, batch_size=16, dtype="float64", patience=3, seed=5)
    model = result.models[0]
    assert model.stop_reason == "patience"
    assert (model.steps - 1) % 2 == 0
    assert model.steps < 12 * 14
    assert result.history.eval_step[-1] == model.steps - 1
    assert len(result.history.step_loss) == model.steps
    assert model.val_loss == pytest.approx(result.history.val_loss[-1, 0], rel=1e-12)


@pytest.mark.parametrize("task", ["softmax", "logistic"])
def test_training_agrees_across_backends(any_backend: BackendFactory, task: str) -> None:
    data = blobs(150, 60, classes=2 if task == "logistic" else 3)
    config = FitConfig(
        task=task,
        l2=(0.0, 0.1, 0.5),
        lr=(0.3,),
        epochs=6,
        batch_size=20,
        dtype="float64",
        patience=4,
        class_weight="balanced",
    )
    ours = fit_on(numpy_backend("float64"), data, config, SILENT)
    theirs = fit_on(any_backend("float64"), data, config, SILENT)
    assert [m.stop_reason for m in ours.models] == [m.stop_reason for m in theirs.models]
    for name in ("step_loss", "val_loss", "val_accuracy", "train_accuracy"):
        np.testing.assert_allclose(getattr(theirs.history, name), getattr(ours.history, name), rtol=1e-10)
    np.testing.assert_allclose(theirs.model.coef, ours.model.coef, rtol=1e-9, atol=1e-12)


def test_cross_validation_agrees_across_backends(any_backend: BackendFactory) -> None:
    data = blobs(150, 60)
    config = FitConfig(l2=(0.0, 0.1), lr=(0.3,), epochs=3, batch_size=20, dtype="float64", cv=3)
    ours = fit_on(numpy_backend("float64"), data, config, SILENT)
    theirs = fit_on(any_backend("float64"), data, config, SILENT)
    np.testing.assert_allclose(theirs.history.val_loss, ours.history.val_loss, rtol=1e-10)
    assert theirs.selected == ours.selected


def test_float32_is_close_to_float64() -> None:
    data = blobs(300, 90)
    one, other = (gpureg.fit(data, lr=0.1, epochs=5, dtype=dtype) for dtype in ("float64", "float32"))
    np.testing.assert_allclose(other.history.val_loss, one.history.val_loss, rtol=1e-5)
    assert other.model.coef.dtype == np.float32


def test_same_command_same_bits() -> None:
    data = blobs(300, 90)
    one, other = (gpureg.fit(data, l2=[0, 0.01], lr=0.1, epochs=5) for _ in range(2))
    np.testing.assert_array_equal(one.history.step_loss, other.history.step_loss)
    np.testing.assert_array_equal(one.model.coef, other.model.coef)


def test_shuffle_is_the_frozen_stream() -> None:
    """The order of `RandomState(seed).shuffle(list(range(n)))`, one generator for the whole run."""
    random, shuffler = np.random.RandomState(3), Shuffler(50, 8, shuffle=True, seed=3)
    for _ in range(3):
        indices = list(range(50))
        random.shuffle(indices)
        np.testing.assert_array_equal(shuffler.epoch().ravel(), indices[:48])
    state = shuffler.state()
    following = shuffler.epoch()
    other = Shuffler(50, 8, shuffle=True, seed=9)
    other.restore(*state)
    np.testing.assert_array_equal(other.epoch(), following)


def test_early_stopping_counts_as_the_report_does() -> None:
    state, model = Stopping.start(1), np.array([0])
    stopped = []
    for loss in (1.0, 0.9, 0.9, 0.95, 0.89, 0.9, 0.9, 0.89):
        state, _, stops = state.observe(model, np.array([loss]), 3, 0.0)
        stopped.append(bool(stops[0]))
    assert stopped == [False] * 7 + [True]  # an equal loss is no new lowest
    state = Stopping.start(1)
    for loss in (1.0, 0.95, 0.91):
        state, _, stops = state.observe(model, np.array([loss]), 2, 0.1)
    assert bool(stops[0])
    assert state.lowest[0] == 1.0


def test_a_diverging_model_stops_alone_and_at_once() -> None:
    data = blobs(200, 80)
    with pytest.warns(GpuregWarning, match="1 of 2 models diverged"):
        result = gpureg.fit(data, lr=[0.1, 1e308], epochs=4, batch_size=20, dtype="float64")
    good, bad = result.models
    assert bad.stop_reason == "diverged"
    assert bad.steps <= 3
    assert (bad.train_loss, bad.val_loss, bad.train_accuracy, bad.weight_norm_sq) == (None,) * 4
    assert np.isnan(result.history.step_loss[bad.steps :, 1]).all()
    assert np.isfinite(result.history.step_loss[: bad.steps, 1]).all()
    alone = gpureg.fit(data, lr=0.1, epochs=4, batch_size=20, dtype="float64")
    assert good.train_loss == pytest.approx(alone.models[0].train_loss, rel=1e-12)
    assert result.selected == 0
    with pytest.raises(UsageError, match="diverged"):
        result.model.predict(data.X_val, model=1)


def test_a_model_worse_than_a_constant_is_named() -> None:
    data = blobs(200, 80)
    with pytest.warns(GpuregWarning, match=r"worse than a constant .*learning rate smaller than 90"):
        gpureg.fit(data, lr=90.0, epochs=2, batch_size=20, patience=0)


def test_keep_best_gives_the_best_evaluation() -> None:
    data = blobs(120, 60, spread=3.0)
    options = {"lr": 1.0, "epochs": 8, "batch_size": 10, "dtype": "float64", "patience": 0}
    last, best = gpureg.fit(data, keep="last", **options), gpureg.fit(data, keep="best", **options)
    assert best.models[0].val_loss == pytest.approx(np.nanmin(best.history.val_loss), rel=1e-12)
    assert best.models[0].val_loss < last.models[0].val_loss
    assert best.models[0].steps == last.models[0].steps


def test_sample_weights_are_repetition_in_the_cost() -> None:
    """A full-batch step with a sample weighing 2 is the step with that sample twice."""
    from dataclasses import replace

    data = blobs(60, 30)
    twice = np.r_[np.arange(60), np.arange(30)]
    weight = np.where(np.arange(60) < 30, 2.0, 1.0)
    heavy = replace(data, sample_weight=weight)
    repeated = replace(data, X_train=data.X_train[twice], y_train=data.y_train[twice])
    options = {"lr": 0.3, "epochs": 5, "scale": "none", "dtype": "float64", "shuffle": False, "patience": 0}
    one = gpureg.fit(heavy, batch_size=60, **options)
    other = gpureg.fit(repeated, batch_size=90, **options)
    np.testing.assert_allclose(one.model.coef, other.model.coef, rtol=1e-10, atol=1e-13)


def test_interruption_leaves_a_result() -> None:
    data = blobs(200, 80)
    seen = []
    result = gpureg.fit(data, epochs=50, batch_size=20, observe=seen.append, should_stop=lambda: len(seen) > 20)
    model = result.models[0]
    assert model.stop_reason == "interrupted"
    assert 0 < model.steps < 500
    assert model.steps % 10 == 0  # whole epochs
    assert model.train_loss is not None


def test_batch_larger_than_the_data_is_cut() -> None:
    data = blobs(120, 40)
    with pytest.warns(GpuregWarning, match="reduced to 120, the number of training rows"):
        result = gpureg.fit(data, batch_size=500, epochs=3)
    assert result.models[0].steps == 3


def test_free_bias_does_not_shrink() -> None:
    data = blobs(200, 80)
    options = {"l2": 5.0, "lr": 0.05, "epochs": 30, "batch_size": 20, "dtype": "float64", "patience": 0}
    carried = gpureg.fit(data, **options)
    free = gpureg.fit(data, penalize_bias=False, **options)
    assert np.abs(free.model.intercept).sum() > 2 * np.abs(carried.model.intercept).sum()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "logistic"}, "takes two classes"),
        ({"l2": -1}, "at least 0"),
        ({"l2": float("nan")}, "finite"),
        ({"l2": []}, "empty"),
        ({"lr": 0}, "above 0"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 2.5}, "whole number"),
        ({"dtype": "float16"}, "float32, float64"),
        ({"solver": "adam"}, "sgd, lbfgs"),
        ({"device": "tpu"}, "auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "cuda:N"),
        ({"select": "1se"}, "cv"),
        ({"cv": 1}, "at least 2"),
        ({"cv": 500}, "at least 500 training rows"),
        ({"l2": 200.0, "solver": "sgd"}, "stable only below 1"),
        ({"memory": 10}, "is too small for"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"scale": "pixels"}, "pixels"),
        ({"folds": np.zeros(3), "cv": 2}, "folds has the shape"),
    ],
)
def test_bad_options_say_what_was_expected(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gpureg.fit(blobs(90, 30), **options)


def test_almost_unstable_is_warned_about() -> None:
    with pytest.warns(GpuregWarning, match=r"lr x λ = 0\.6"):
        gpureg.fit(blobs(90, 30), l2=60.0, lr=0.01, epochs=1, batch_size=30)
