"""Weights as images, confusion matrices, and which figure suits which runs."""

import dataclasses

import numpy as np
import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import UsageError
from gpureg.figures import choice, images
from gpureg.figures.confusion import confusion, counts
from gpureg.figures.style import figure_bytes
from gpureg.storage.directory import load_run


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """Save a synthetic result under a name and read it back."""

    def saved(name, result):
        return load_run(save_run(result, tmp_path_factory.mktemp("runs") / name))

    return saved


def with_shuffle(value, dataset="mnist"):
    return synthetic_result(dataset=dataset, config={"shuffle": value, "dataset": dataset})


def test_each_image_is_a_class_of_a_model():
    model = synthetic_result(l2=(0.0, 0.5)).model
    figure = images.weights(model, [1, 0], (4, 4))
    panels = np.array(figure.axes).reshape(2, 3)
    for i, row in enumerate((1, 0)):
        limit = np.abs(model.coef[row]).max()
        for k in range(3):
            (image,) = panels[i, k].images
            np.testing.assert_array_equal(image.get_array(), model.coef[row, k].reshape(4, 4))
            assert image.get_clim() == (-limit, limit)  # 0 is grey, in every class of a row
            assert image.get_cmap().name == "gray"
    assert [axes.get_title() for axes in panels[0]] == ["0", "1", "2"]
    assert panels[0, 0].get_ylabel().startswith("λ = 0.5")
    assert panels[1, 0].get_ylabel().startswith("λ = 0\n")


def test_the_logistic_task_has_one_image():
    figure = images.weights(synthetic_result(task="logistic").model, [0], (4, 4))
    assert [axes.get_title() for axes in figure.axes] == ["2 rather than 3"]


def test_the_shape_of_an_image():
    assert images.image_shape(784) == (28, 28)
    assert images.image_shape(12, [3, 4]) == (3, 4)
    assert images.image_shape(16, [3, 4]) == (4, 4)  # a shape that does not fit is none
    with pytest.raises(UsageError, match="12 features do not form an image"):
        images.image_shape(12)


def test_confusion_counts():
    true, predicted = np.array(["a", "b", "b", "c", "b"]), np.array(["a", "c", "b", "c", "b"])
    table = counts(true, predicted, ["c", "b", "a"])
    assert table.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 1]]
    (axes, bar) = confusion(true, predicted, ["c", "b", "a"]).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 1]])
    assert sorted(text.get_text() for text in axes.texts) == sorted("100120001")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "b", "a"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert bar.get_ylabel() == "share of the true class"


def test_confusion_of_a_class_that_never_occurs_and_of_many_classes():
    assert counts([1], [2], [1, 2, 3]).sum() == 1
    figure = confusion(np.arange(50), np.arange(50), range(50))
    assert len(figure.axes[0].texts) == 0
    assert len(figure.axes[0].get_xticks()) <= 20
    figure_bytes(figure, "svg")


def test_confusion_refuses_strange_labels():
    with pytest.raises(UsageError, match=r"label 7 is not one of the model's classes \[1, 2\]"):
        counts([1, 7], [1, 2], [1, 2])
    with pytest.raises(UsageError, match="one for each row"):
        counts([1, 2], [1], [1, 2])


def test_what_is_drawn_by_default(save):
    sweep = save("sweep", synthetic_result(l2=(0.0, 0.5), dataset="mnist"))
    one = save("one", synthetic_result())
    pair = [save("a", with_shuffle(False)), save("b", with_shuffle(True))]
    assert choice.default_figures([sweep]) == ["loss", "accuracy", "path", "path-accuracy", "norm", "weights"]
    assert choice.default_figures([one]) == ["loss", "accuracy"]
    assert choice.default_figures(pair) == ["loss", "accuracy", "shuffle"]
    assert choice.default_figures([one, sweep]) == ["loss", "accuracy"]
    for runs in ([sweep], [one], pair, [one, sweep]):
        for name in choice.default_figures(runs):
            assert figure_bytes(choice.draw(name, runs), "png")


def test_the_unshuffled_run_is_first_whatever_the_order(save):
    shuffled, without = save("a", with_shuffle(True)), save("b", with_shuffle(False))
    assert choice.shuffle_pair([shuffled, without])[0].history is without.history
    assert choice.shuffle_pair([shuffled, save("c", with_shuffle(False, "digits"))]) is None
    assert choice.shuffle_pair([shuffled, shuffled]) is None


def test_curves_are_labelled_by_what_sets_them_apart(save):
    sweep = save("sweep", synthetic_result(l2=(0.0, 0.5)))
    one = save("one", synthetic_result())
    assert [curve.label for curve in choice.run_curves([one])] == ["one"]
    assert [curve.label for curve in choice.run_curves([sweep])] == ["λ = 0", "λ = 0.5"]
    assert [curve.label for curve in choice.run_curves([one, sweep])] == ["one", "sweep, λ = 0", "sweep, λ = 0.5"]
    assert choice.run_names([one, one]) == ["one (1)", "one (2)"]
    again = save("one", synthetic_result())
    first, second = choice.run_names([one, again])
    assert first != second
    assert first.endswith("/one")


def test_the_folds_of_a_cross_validation_are_no_curves(save):
    result = synthetic_result(l2=(0.0, 0.0, 0.5))
    folded = dataclasses.replace(result, history=dataclasses.replace(result.history, fold=np.array([0, 1, -1])))
    assert choice.refits(save("cv", folded)) == [2]
    only = dataclasses.replace(result, history=dataclasses.replace(result.history, fold=np.array([0, 1, 2])))
    assert choice.refits(save("folds", only)) == [0, 1, 2]


def test_of_many_models_the_ends_and_the_chosen_are_shown(save):
    result = synthetic_result(l2=(1.0, 0.0, 0.1, 0.2, 0.3))
    chosen = dataclasses.replace(result, model=dataclasses.replace(result.model, selected=3))
    assert choice.weight_rows(save("many", chosen)) == [1, 3, 0]
    coef = result.model.coef.copy()
    coef[0] = np.nan
    diverged = dataclasses.replace(result, model=dataclasses.replace(result.model, coef=coef))
    assert choice.weight_rows(save("diverged", diverged)) == [1, 2, 3, 4]
    coef[:] = np.nan
    with pytest.raises(UsageError, match="all diverged"):
        choice.weight_rows(save("gone", diverged))


def test_what_the_runs_can_not_show_is_refused(save):
    one = save("one", synthetic_result())
    with pytest.raises(UsageError, match=r"compares two runs of one model each.*given 1"):
        choice.draw("shuffle", [one])
    for name in ("path", "norm", "weights", "confusion"):
        with pytest.raises(UsageError, match=f"`{name}` shows one run; given 2"):
            choice.draw(name, [one, one])
    with pytest.raises(UsageError, match="'scatter' is unknown"):
        choice.draw("scatter", [one])
