"""Figures against λ: the axis has a place for 0, the points are the run's, the chosen λ is marked."""

import dataclasses

import numpy as np
import pytest
from synthetic_runs import synthetic_result

from gpureg.errors import UsageError
from gpureg.figures import path
from gpureg.figures.style import figure_bytes, new_figure
from gpureg.fitting.results import CvRow, to_json_dict

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
    assert {"training, lr 0.1", "validation, lr 0.2"} <= labels
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
    none = {"weight_norm_sq": None, "val_loss": None, "train_loss": None, "stop_reason": "diverged"}
    gone = tuple(dataclasses.replace(m, **none) for m in synthetic.models)
    value = to_json_dict(dataclasses.replace(synthetic, models=gone))
    for draw in (path.norm, path.path):
        with pytest.raises(UsageError, match=r"all diverged.*smaller lr"):
            draw(value)


def test_a_model_that_diverged_is_left_out():
    synthetic = synthetic_result(l2=(0.0, 1.0, 2.0))
    gone = dataclasses.replace(synthetic.models[2], weight_norm_sq=None)
    value = to_json_dict(dataclasses.replace(synthetic, models=(*synthetic.models[:2], gone)))
    (axes,) = path.norm(value).axes
    assert len(axes.containers[0][0].get_ydata()) == 2


@pytest.fixture(scope="module")
def folded():
    """A sweep with three folds at each of four λ, and the refit of one of them."""
    random = np.random.default_rng(0)
    synthetic = synthetic_result(l2=tuple(np.repeat(L2, 3)), cv=False)
    models = [
        dataclasses.replace(
            model,
            fold=index % 3,
            val_accuracy=float(random.uniform(0.8, 0.9)),
            val_loss=float(random.uniform(0.2, 0.3)),
        )
        for index, model in enumerate(synthetic.models)
    ]
    refit = dataclasses.replace(models[7], fold=None)
    rows = []
    for value in L2:
        losses = np.array([model.val_loss for model in models if model.l2 == value])
        rows.append(CvRow(value, losses.mean(), losses.std(ddof=1) / np.sqrt(3), 3, 0.1))
    result = dataclasses.replace(synthetic, models=(*models, refit), cv=tuple(rows), selected=12)
    return to_json_dict(result)


def fold_values(result, key):
    return np.array([[m[key] for m in result["models"] if m["l2"] == l2 and m["fold"] is not None] for l2 in L2])


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_after_folds_every_λ_has_its_point_and_error_bar(folded, measure):
    (axes,) = path.path(folded, measure).axes
    (container,) = axes.containers
    points, _, (bars,) = container
    values = fold_values(folded, f"val_{measure}")
    mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(points.get_ydata(), mean, rtol=1e-12)
    for segment, center, half in zip(bars.get_segments(), mean, error, strict=True):
        np.testing.assert_allclose(segment[:, 1], [center - half, center + half], rtol=1e-12)
    assert container.get_label() == "held-out, 3 folds (±1 s.e.)"


def test_the_norm_after_folds_is_their_mean_and_the_refits_point(folded):
    (axes,) = path.norm(folded).axes
    (points, _, _) = axes.containers[0]
    np.testing.assert_allclose(points.get_ydata(), fold_values(folded, "weight_norm_sq").mean(axis=1))
    refit = labelled(axes, "fitted to all training rows")
    assert refit.get_ydata().tolist() == [folded["models"][12]["weight_norm_sq"]]


def test_the_norms_of_all_refits_are_drawn_if_there_are_several(folded):
    refits = [{**model, "fold": None} for model in folded["models"][:12:3]]
    (axes,) = path.norm({**folded, "models": [*folded["models"][:12], *refits], "selected": 13}).axes
    assert axes.containers[0][0].get_ydata().tolist() == [model["weight_norm_sq"] for model in refits]


def test_the_limit_of_the_1se_rule_is_drawn(folded):
    (axes,) = path.path(folded, select="1se").axes
    best = min(folded["cv"], key=lambda row: row["mean"])
    level = labelled(axes, "lowest + 1 s.e.")
    assert set(level.get_ydata()) == {best["mean"] + best["se"]}
    labels = {each.get_label() for each in path.path(folded).axes[0].lines}
    assert "lowest + 1 s.e." not in labels  # `min` has no limit
    assert "lowest + 1 s.e." not in {
        each.get_label() for each in path.path(folded, "accuracy", select="1se").axes[0].lines
    }


def test_the_limit_of_a_score_that_is_to_be_high_lies_below_the_best(folded):
    values = fold_values(folded, "val_accuracy")
    rows = [
        {**row, "mean": float(v.mean()), "se": float(v.std(ddof=1) / np.sqrt(3)), "score": "accuracy"}
        for row, v in zip(folded["cv"], values, strict=True)
    ]
    (axes,) = path.path({**folded, "cv": rows}, "accuracy", select="1se").axes
    best = max(rows, key=lambda row: row["mean"])
    assert set(labelled(axes, "highest − 1 s.e.").get_ydata()) == {best["mean"] - best["se"]}
    (losses,) = path.path({**folded, "cv": rows}, "loss").axes[0].containers  # the losses are the fold models' own
    np.testing.assert_allclose(losses[0].get_ydata(), fold_values(folded, "val_loss").mean(axis=1))


def test_norms_of_many_orders_of_magnitude_have_a_logarithmic_axis(result):
    assert path.norm(result).axes[0].get_yscale() == "linear"
    models = [{**model, "weight_norm_sq": 10.0 ** -(2 * i)} for i, model in enumerate(result["models"])]
    assert path.norm({**result, "models": models}).axes[0].get_yscale() == "log"


def test_an_axis_of_accuracies_ends_at_1(result):
    models = [{**model, "train_accuracy": 1.0, "val_accuracy": 1.0} for model in result["models"]]
    for drawn in (models, [{**models[0], "val_accuracy": 0.5}, *models[1:]]):
        assert 1.0 < path.path({**result, "models": drawn}, "accuracy").axes[0].get_ylim()[1] <= 1.01


def test_without_validation_rows_the_training_curve_is_drawn(result):
    models = [{**model, "val_loss": None, "val_accuracy": None} for model in result["models"]]
    (axes,) = path.path({**result, "models": models}).axes
    assert "training" in {each.get_label() for each in axes.lines}
    assert "validation" not in {each.get_label() for each in axes.lines}
