"""Figures against λ: the axis has a place for 0, the points are the run's, the chosen λ is marked."""

import dataclasses

import numpy as np
import pytest
from synthetic_runs import synthetic_result

from gpureg.errors import UsageError
from gpureg.figures import path
from gpureg.figures.style import figure_bytes, new_figure
from gpureg.fitting.results import to_json_dict

L2 = (0.0, 0.001, 0.1, 1.0)


@pytest.fixture(scope="module")
def result():
    return to_json_dict(synthetic_result(l2=L2))


@pytest.fixture(scope="module")
def validated():
    return to_json_dict(synthetic_result(l2=L2, cv=True))


def labelled(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found


def test_zero_has_a_place_and_a_tick_left_of_the_smallest():
    _, (axes,) = new_figure()
    places = path.lambda_axis(axes, np.array([1.0, 0.0, 0.01]))
    assert places.tolist() == [1.0, 0.01 / 10**1.5, 0.01]
    assert axes.get_xscale() == "log"
    ticks = axes.xaxis.get_major_locator().tick_values(0, 0)
    labels = [axes.xaxis.get_major_formatter()(tick, 0) for tick in ticks]
    assert labels == ["0", "$10^{-2}$", "$10^{-1}$", "$10^{0}$"]


@pytest.mark.parametrize(
    "l2", [[0.0], [0.5], [0.3, 0.4], [2.0, 5.0, 7.0], [0.0, 3e-9], list(np.geomspace(1e-12, 1e6, 50))]
)
def test_any_lambda_has_a_finite_place_inside_the_axis_and_some_tick(l2):
    figure, (axes,) = new_figure()
    places = path.lambda_axis(axes, np.array(l2))
    axes.plot(places, places)
    low, high = axes.get_xlim()
    assert np.isfinite(places).all()
    assert ((places >= low) & (places <= high)).all()
    assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) >= 1
    figure_bytes(figure, "png")


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_without_folds_training_and_validation_are_drawn(result, measure):
    (axes,) = path.path(result, measure).axes
    for label, part in (("training", "train"), ("validation", "val")):
        drawn = labelled(axes, label)
        assert drawn.get_ydata().tolist() == [model[f"{part}_{measure}"] for model in result["models"]]
        assert drawn.get_xdata()[1:].tolist() == list(L2[1:])
    assert axes.get_ylabel() == ("cross-entropy (nats)" if measure == "loss" else "accuracy")
    assert axes.get_xlabel() == "λ"


def test_with_folds_the_held_out_loss_has_error_bars_of_one_standard_error(validated):
    (axes,) = path.path(validated).axes
    (container,) = axes.containers
    assert container.get_label() == "held-out, 5 folds (±1 s.e.)"
    points, _, (bars,) = container
    rows = validated["cv"]
    assert points.get_ydata().tolist() == [row["mean"] for row in rows]
    for row, segment in zip(rows, bars.get_segments(), strict=True):
        np.testing.assert_allclose(segment[:, 1], [row["mean"] - row["se"], row["mean"] + row["se"]])


def test_the_chosen_lambda_is_marked(validated):
    value = validated["models"][validated["selected"]]["l2"]
    (axes,) = path.path(validated).axes
    mark = labelled(axes, f"chosen: λ = {value:.3g}")
    points, _, _ = axes.containers[0]
    assert mark.get_xdata()[0] == points.get_xdata()[L2.index(value)]


def test_fold_models_are_no_points_of_the_path(result):
    fold = {**result["models"][0], "fold": 2, "train_accuracy": None}
    (axes,) = path.path({**result, "models": [*result["models"], fold]}, "accuracy").axes
    assert len(labelled(axes, "training").get_ydata()) == 4


def test_each_learning_rate_is_a_curve_and_seeds_are_averaged(result):
    models = [{**model, "lr": lr} for lr in (0.1, 0.2) for model in result["models"]]
    (axes,) = path.path({**result, "models": models}, "accuracy").axes
    labels = {each.get_label() for each in axes.lines}
    assert {"training, learning rate 0.1", "validation, learning rate 0.2"} <= labels
    seeds = [
        {**model, "val_loss": model["val_loss"] + d, "seed": s}
        for s, d in ((0, -0.1), (1, 0.1))
        for model in models[:4]
    ]
    (axes,) = path.path({**result, "models": seeds}).axes
    (container,) = axes.containers
    np.testing.assert_allclose(container[0].get_ydata(), [model["val_loss"] for model in result["models"]])


def test_the_norm_is_drawn_dotted(result):
    (axes,) = path.norm(result).axes
    (points, _, _) = axes.containers[0]
    assert points.get_ydata().tolist() == [model["weight_norm_sq"] for model in result["models"]]
    assert points.get_linestyle() == ":"
    assert points.get_marker() == "o"
    assert axes.get_ylim()[0] == 0


def test_where_all_models_diverged_there_is_nothing_to_draw():
    synthetic = synthetic_result(l2=(0.0, 1.0))
    gone = tuple(dataclasses.replace(m, weight_norm_sq=None, val_loss=None, train_loss=None) for m in synthetic.models)
    value = to_json_dict(dataclasses.replace(synthetic, models=gone))
    for draw in (path.norm, path.path):
        with pytest.raises(UsageError, match=r"all diverged.*smaller --lr"):
            draw(value)


def test_a_model_that_diverged_is_left_out():
    synthetic = synthetic_result(l2=(0.0, 1.0, 2.0))
    gone = dataclasses.replace(synthetic.models[2], weight_norm_sq=None)
    value = to_json_dict(dataclasses.replace(synthetic, models=(*synthetic.models[:2], gone)))
    (axes,) = path.norm(value).axes
    assert len(axes.containers[0][0].get_ydata()) == 2
