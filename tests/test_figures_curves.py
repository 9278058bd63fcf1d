"""Curves draw what the history holds."""

import dataclasses
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from synthetic_runs import synthetic_result

import gpureg
from gpureg.config import FIGURE_FORMATS
from gpureg.errors import UsageError
from gpureg.figures import curves, style
from gpureg.figures.curves import Curve, block_means


@pytest.fixture(scope="module")
def history():
    return synthetic_result(l2=(0.0, 0.5), stops=(60, 33)).history


def line(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found.get_xdata(), found.get_ydata()


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_blocks_are_means_and_deviations_of_ten_steps():
    losses = np.concatenate([np.random.default_rng(0).random(37), np.full(13, np.nan)])
    centres, mean, sd = block_means(losses)
    assert centres.tolist() == [4.5, 14.5, 24.5]  # the seven steps that fill no block, and the NaN, are left out
    np.testing.assert_allclose(mean, [losses[:10].mean(), losses[10:20].mean(), losses[20:30].mean()], rtol=1e-15)
    np.testing.assert_allclose(sd, [losses[:10].std(), losses[10:20].std(), losses[20:30].std()], rtol=1e-13)


@pytest.mark.parametrize(("steps", "blocks"), [(0, 0), (1, 1), (3, 1), (10, 1), (11, 1), (20, 2)])
def test_a_run_shorter_than_a_block_is_one_block(steps, blocks):
    centres, mean, sd = block_means(np.arange(float(steps)))
    assert centres.shape == mean.shape == sd.shape == (blocks,)


def test_the_loss_figure_draws_the_history(history):
    figure = curves.loss([Curve(history, 1, "run")], (0.0, 2.0))
    (axes,) = figure.axes
    centres, mean, sd = block_means(history.step_loss[:, 1])
    x, y = line(axes, "training (mean of 10 steps, ±1 sd)")
    np.testing.assert_array_equal((x, y), (centres, mean))
    vertices = axes.collections[0].get_paths()[0].vertices
    for at, value in [*zip(centres, mean - sd, strict=True), *zip(centres, mean + sd, strict=True)]:
        assert np.isclose(vertices, (at, value)).all(axis=1).any()
    x, y = line(axes, "validation")
    np.testing.assert_array_equal(x, np.arange(0, 33, 4))  # nothing after the stop
    np.testing.assert_array_equal(y, history.val_loss[:9, 1])
    assert axes.get_ylim() == (0.0, 2.0)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training step", "cross-entropy (nats)")


def test_the_accuracy_figure_draws_both_accuracies(history):
    (axes,) = curves.accuracy([Curve(history, 0, "run")]).axes
    for label, values in (("training", history.train_accuracy), ("validation", history.val_accuracy)):
        x, y = line(axes, label)
        np.testing.assert_array_equal(x, history.eval_step)
        np.testing.assert_array_equal(y, values[:, 0])


def test_several_curves_are_validation_curves_with_a_mark_where_each_stops(history):
    figure = curves.accuracy([Curve(history, 0, "a"), Curve(history, 1, "b")])
    (axes,) = figure.axes
    for model, label in ((0, "a"), (1, "b")):
        x, y = line(axes, label)
        there = np.isfinite(history.val_accuracy[:, model])
        np.testing.assert_array_equal(x, history.eval_step[there])
        np.testing.assert_array_equal(y, history.val_accuracy[there, model])
    marks = [each for each in axes.lines if each.get_marker() == "o"]
    assert [mark.get_xdata()[0] for mark in marks] == [56, 32]
    assert legend_texts(figure) == ["a", "b"]
    assert axes.get_ylabel() == "validation accuracy"


def test_many_curves_have_a_colour_bar_instead_of_a_legend():
    result = synthetic_result(l2=(0.0, *np.geomspace(1e-4, 1, 9)))
    figure = curves.loss([Curve(result.history, i, f"{i}") for i in range(10)])
    assert figure.legends == []
    axes, bar = figure.axes
    assert bar.get_ylabel() == "λ"
    assert len(axes.lines) == 10
    colours = [each.get_color() for each in axes.lines]
    assert colours[0] == colours[1]  # λ = 0 has the colour of the smallest
    assert len(set(colours)) == 9


def test_without_limits_the_start_does_not_flatten_the_rest():
    result = synthetic_result()
    result.history.val_loss[0, 0] = 1e6
    result.history.step_loss[0, 0] = 1e6  # within the first block, whose centre is step 4.5; steps end at 60
    long = np.concatenate([result.history.step_loss, result.history.step_loss[1:]])
    history = dataclasses.replace(result.history, step_loss=long)
    for axes in (curves.loss([Curve(history, 0, "run")]).axes[0], curves.shuffle(*[Curve(history, 0, "")] * 2).axes[1]):
        low, high = axes.get_ylim()
        assert high < 10
        assert low < block_means(long[:, 0])[1].min()


def test_the_shuffle_comparison_draws_both_runs(history):
    without, shuffled = Curve(history, 0, ""), Curve(history, 1, "")
    above, below = curves.shuffle(without, shuffled).axes
    for figure_axes in (above, *curves.shuffle_accuracy(without, shuffled).axes):
        for model, label in ((0, "without shuffle"), (1, "with shuffle")):
            _, y = line(figure_axes, label)
            np.testing.assert_array_equal(y, history.val_accuracy[: y.size, model])
    for figure_axes in (below, *curves.shuffle_loss(without, shuffled).axes):
        for model, label in ((0, "without shuffle (±1 sd)"), (1, "with shuffle (±1 sd)")):
            _, y = line(figure_axes, label)
            np.testing.assert_array_equal(y, block_means(history.step_loss[:, model])[1])


def test_a_model_without_evaluations_draws_nothing_and_fails_not():
    result = synthetic_result()
    for values in (result.history.val_loss, result.history.val_accuracy, result.history.step_loss):
        values[:] = np.nan
    for draw in (curves.loss, curves.accuracy):
        style.figure_bytes(draw([Curve(result.history, 0, "run")]), "png")


def test_the_legend_lies_outside_the_axes(history):
    figure = curves.loss([Curve(history, model, "a run with a long name " + "x" * model) for model in (0, 1)])
    figure.draw_without_rendering()
    (legend,), (axes,) = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert legend.get_window_extent().x0 >= 0
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_a_band_and_its_line_share_one_entry_of_the_legend(history):
    figure = curves.loss([Curve(history, 0, "run")])
    assert legend_texts(figure) == ["training (mean of 10 steps, ±1 sd)", "validation"]


@pytest.mark.parametrize("kind", FIGURE_FORMATS)
def test_the_same_figure_gives_the_same_bytes(history, kind):
    first, second = (style.figure_bytes(curves.loss([Curve(history, 0, "run")]), kind) for _ in range(2))
    assert first == second
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_an_unknown_format(history):
    with pytest.raises(UsageError, match="'gif' is unknown; expected one of png, svg, pdf"):
        style.figure_bytes(curves.loss([Curve(history, 0, "run")]), "gif")


def test_the_users_own_settings_are_untouched(history):
    before = dict(matplotlib.rcParams)
    style.figure_bytes(curves.loss([Curve(history, 0, "run")]), "svg")
    assert dict(matplotlib.rcParams) == before


def test_the_colours_differ_for_every_kind_of_colour_vision():
    """The smallest distance of two colours after Viénot, Brettel & Mollon's (1999) simulation, in linear RGB."""
    red_blind = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    green_blind = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    colours = np.array([matplotlib.colors.to_rgb(each) for each in style.COLOURS]) ** 2.2
    for simulate in (np.eye(3), red_blind, green_blind):
        seen = np.clip(colours @ simulate.T, 0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(len(seen), 1)]
        assert distances.min() > 0.12


def test_pyplot_is_never_imported_and_matplotlib_only_when_something_is_drawn():
    program = (
        "import sys, gpureg.figures, gpureg.storage.directory; assert 'matplotlib' not in sys.modules\n"
        "from gpureg.figures import choice\nfrom gpureg.report import numbers, page\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture(scope="module")
def full_batch():
    """Three models of a full-batch solver; without a penalty the last has no bound on its gap."""
    data = gpureg.make_dataset(*blobs(90), val_size=30)
    with pytest.warns(gpureg.GpuregWarning, match=r"without a penalty|no optimum|separate"):
        return gpureg.fit(data, solver="lbfgs", l2=[1.0, 1e-3, 0.0], device="cpu", dtype="float64").history


def blobs(n):
    random = np.random.default_rng(0)
    y = np.arange(n) % 3
    return random.normal(size=(n, 4)) + 4 * random.normal(size=(3, 4))[y], y


def test_a_full_batch_fit_shows_its_objective_and_its_gap(full_batch):
    figure = curves.loss([Curve(full_batch, model, f"{model}") for model in range(3)])
    above, below = figure.axes
    for axes, name in ((above, "objective"), (below, "gap_bound")):
        for model in range(2 if name == "gap_bound" else 3):
            x, y = line(axes, f"{model}")
            values = getattr(full_batch, name)[:, model]
            np.testing.assert_array_equal(x, np.flatnonzero(np.isfinite(values)))
            np.testing.assert_array_equal(y, values[np.isfinite(values)])
    assert (above.get_ylabel(), below.get_ylabel()) == ("objective (nats)", "bound on the gap (nats)")
    assert (below.get_xlabel(), below.get_yscale()) == ("iteration", "log")
    assert legend_texts(figure) == ["0", "1", "2"]
    (alone,) = curves.loss([Curve(full_batch, 2, "λ = 0")]).axes  # nothing of it is bounded
    assert alone.get_ylabel() == "objective (nats)"
    style.figure_bytes(figure, "png")


def test_a_full_batch_fit_has_no_accuracy_along_its_iterations(full_batch):
    with pytest.raises(UsageError, match=r"evaluated only at the end. Choose `path-accuracy`"):
        curves.accuracy([Curve(full_batch, 0, "lbfgs")])


@pytest.mark.parametrize(("draw", "name"), [(curves.loss, "val_loss"), (curves.accuracy, "val_accuracy")])
def test_next_to_minibatches_a_full_batch_fit_is_a_level(history, full_batch, draw, name):
    (axes,) = draw([Curve(history, 0, "sgd"), Curve(full_batch, 1, "lbfgs")]).axes
    x, y = line(axes, "lbfgs (its end)")
    end = getattr(full_batch, name)[:, 1]
    np.testing.assert_array_equal(y, [end[np.isfinite(end)][0]] * 2)
    assert list(x) == [0, history.eval_step[-1]]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 3), (5, 3), (6, 3), (7, 2)])
def test_a_legend_reads_by_row(count, columns):
    names = [str(number) for number in range(count)]
    placed = np.array_split(np.array(style.by_row(names, columns)), columns)  # as matplotlib fills its columns
    read = [column[row] for row in range(len(placed[0])) for column in placed if row < len(column)]
    assert read == names


def test_the_legend_of_a_figure_reads_by_row(history):
    figure = curves.loss([Curve(history, 0, f"λ = {2 / 10**number:g}") for number in range(4)])
    style.figure_bytes(figure, "png")
    boxes = [text.get_window_extent() for legend in figure.legends for text in legend.get_texts()]
    places = sorted(range(4), key=lambda i: (-round(boxes[i].y0), boxes[i].x0))
    assert [legend_texts(figure)[place] for place in places] == ["λ = 2", "λ = 0.2", "λ = 0.02", "λ = 0.002"]


def test_what_an_edge_cuts_off_is_marked():
    _, (axes,) = style.new_figure()
    y = np.array([9.0, 1.0, 5.0, 1.0, np.nan, 1.0, 7.0, 8.0, 1.0, -3.0, 0.5])
    axes.plot(np.arange(11), y, color="red")
    axes.fill_between(np.arange(11), np.full(11, 1.0), np.where(np.arange(11) == 4, 9.0, 1.5), color="blue")
    axes.set_ylim(0, 2)
    style.mark_clipped(axes)
    found = {
        (marks.get_marker(), marks.get_markerfacecolor() == "white"): (list(marks.get_xdata()), set(marks.get_ydata()))
        for marks in axes.lines[1:]
    }
    assert found == {("^", False): ([2, 6], {2.0}), ("v", False): ([9], {0.0}), ("^", True): ([4], {2.0})}


def test_many_marks_are_thinned():
    _, (axes,) = style.new_figure()
    axes.plot(np.arange(10000), np.arange(10000) % 2 * 9.0)
    axes.set_ylim(0, 2)
    style.mark_clipped(axes)
    assert len(axes.lines[1].get_xdata()) <= style.MOST_MARKS + 1
