"""Weights as images, confusion matrices, and which figure suits which runs."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import UsageError
from gpureg.figures import choice, images
from gpureg.figures.confusion import confusion, counts
from gpureg.figures.style import figure_bytes
from gpureg.model.linear import LinearModel
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
    panels = np.array(figure.axes[:6]).reshape(2, 3)
    for i, row in enumerate((1, 0)):
        limit = np.abs(model.coef[row]).max()
        for k in range(3):
            (image,) = panels[i, k].images
            np.testing.assert_array_equal(image.get_array(), model.coef[row, k].reshape(4, 4))
            assert image.get_clim() == (-limit, limit)  # 0 is grey, in every class of a row
            assert image.get_cmap().name == "gray"
    assert [axes.get_title() for axes in panels[0]] == ["0", "1", "2"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["λ = 0.5", "λ = 0"]
    for scale, row in zip(figure.axes[6:], (1, 0), strict=True):  # says what white and black are
        limit = np.abs(model.coef[row]).max()
        np.testing.assert_allclose(scale.get_yticks(), [-limit, 0, limit])
        low, zero, high = (text.get_text() for text in scale.get_yticklabels())
        assert (low, zero, high) == (f"−{high}", "0", f"{limit:.2g}")


@pytest.mark.parametrize(("shape", "classes"), [((6, 4), 3), ((1, 200), 4), ((200, 1), 4), ((8, 8), 26), ((2, 2), 60)])
def test_images_of_any_shape_and_number_of_classes(shape, classes):
    pixels = shape[0] * shape[1]
    coef = np.random.default_rng(0).normal(size=(2, classes, pixels))
    names = tuple(range(classes))
    zero, one = np.zeros(pixels), np.ones(pixels)
    model = LinearModel("softmax", names, coef, np.zeros((2, classes)), zero, one, np.array([0.1, 1.0]))
    figure = images.weights(model, [0, 1], shape)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    shown = min(classes, images.MOST_IMAGES)
    assert len(drawn) == 2 * shown
    np.testing.assert_array_equal(drawn[0], coef[0, 0].reshape(shape))
    np.testing.assert_array_equal(drawn[-1], coef[1, shown - 1].reshape(shape))
    assert max(figure.get_size_inches()) <= 14
    figure_bytes(figure, "png")


def test_the_logistic_task_has_one_image():
    figure = images.weights(synthetic_result(task="logistic").model, [0], (4, 4))
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["2 rather than 3"]


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


HOSTILE = [r"$\bad$", "$", r"\$", "a_b^c", "_private", "\x1b[31mred", "new\nline", "\u202ertl", "漢字", "x" * 400, ""]


@pytest.mark.filterwarnings("ignore:Glyph")  # the test measures the names anew, which save_figure does quietly
@pytest.mark.parametrize(
    "classes",
    [
        HOSTILE,
        [f"a class with a very long name, number {i}" for i in range(12)],
        [f"class-{i:03d}" for i in range(300)],
        list(range(1000)),
    ],
)
def test_names_of_classes_are_drawn_as_they_are_and_never_over_one_another(classes):
    """Warnings are errors here: no name may reach mathtext."""
    names = np.array(classes)
    figure = confusion(np.repeat(names, 2), np.repeat(names, 2), classes)
    figure_bytes(figure, "svg")
    axes = figure.axes[0]
    for labels, place in ((axes.get_xticklabels(), "x"), (axes.get_yticklabels(), "y")):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        starts, ends = ([getattr(box, f"{place}{end}") for box in boxes] for end in (0, 1))
        order = np.argsort(starts)
        assert all(ends[one] <= starts[other] + 1 for one, other in pairwise(order.tolist()))
        assert min(box.x0 for box in boxes) >= 0
        assert min(box.y0 for box in boxes) >= 0
        assert not any(character in label.get_text() for label in labels for character in "\x1b\n\u202e")


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


def test_the_images_of_a_run_keep_their_shape(save):
    run = save("images", synthetic_result())
    shaped = dataclasses.replace(run, result=run.result | {"image_shape": [2, 8]})
    assert choice.default_figures([run]) == ["loss", "accuracy"]  # 16 features alone are no reason to draw images
    assert choice.default_figures([shaped]) == ["loss", "accuracy", "weights"]
    images_of = [axes.images[0].get_array().shape for axes in choice.draw("weights", [shaped]).axes if axes.images]
    assert images_of == [(2, 8)] * 3


def test_the_unshuffled_run_is_first_whatever_the_order(save):
    shuffled, without = save("a", with_shuffle(True)), save("b", with_shuffle(False))
    assert choice.shuffle_pair([shuffled, without])[0].history is without.history
    assert choice.shuffle_pair([shuffled, save("c", with_shuffle(False, "digits"))]) is None
    assert choice.shuffle_pair([shuffled, shuffled]) is None


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
        with pytest.raises(UsageError, match=f"`{name}` shows one run, but 2 were given"):
            choice.draw(name, [one, one])
    with pytest.raises(UsageError, match="'scatter' is unknown"):
        choice.draw("scatter", [one])
