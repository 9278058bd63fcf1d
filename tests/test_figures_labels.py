"""What runs and their models are called in a figure."""

import dataclasses

import numpy as np
import pytest
from synthetic_runs import save_run, synthetic_result

from gpureg.errors import UsageError, printable
from gpureg.figures import labels
from gpureg.figures.text import plain, shortened
from gpureg.storage.directory import load_run


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """Save a synthetic result under a name and read it back."""

    def saved(name, result):
        return load_run(save_run(result, tmp_path_factory.mktemp("runs") / name))

    return saved


def test_curves_are_labelled_by_what_sets_them_apart(save):
    sweep = save("sweep", synthetic_result(l2=(0.0, 0.5)))
    one = save("one", synthetic_result())
    assert [curve.label for curve in labels.run_curves([one])] == ["one"]
    assert [curve.label for curve in labels.run_curves([sweep])] == ["λ = 0", "λ = 0.5"]
    assert [curve.label for curve in labels.run_curves([one, sweep])] == ["one", "sweep, λ = 0", "sweep, λ = 0.5"]
    assert labels.run_names([one, one]) == ["one (1)", "one (2)"]
    again = save("one", synthetic_result())
    first, second = labels.run_names([one, again])
    assert first != second
    assert first.endswith("/one")


def test_the_folds_of_a_cross_validation_are_no_curves(save):
    result = synthetic_result(l2=(0.0, 0.0, 0.5))
    folded = dataclasses.replace(result, history=dataclasses.replace(result.history, fold=np.array([0, 1, -1])))
    assert labels.refits(save("cv", folded)) == [2]
    only = dataclasses.replace(result, history=dataclasses.replace(result.history, fold=np.array([0, 1, 2])))
    assert labels.refits(save("folds", only)) == [0, 1, 2]


def timed(save, number, **config):
    config = {"dataset": "mnist", "lr": [0.1], "shuffle": True} | config
    return save(f"softmax-mnist-20260101-12000{number}", synthetic_result(config=config))


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"lr": [0.1]}, {"lr": [0.5]}, ["lr = 0.1", "lr = 0.5"]),
        ({}, {"shuffle": False}, ["shuffle", "no shuffle"]),
        ({"l2": [0.1]}, {"l2": [0.1, 1.0], "seed": 3}, ["λ = 0.1, seed = default", "λ = 2 values, seed = 3"]),
        ({"threads": 1}, {"threads": 2, "seed": 3}, ["seed = default", "seed = 3"]),
        (
            {"solver": "sgd", "lr": [1.0], "epochs": 3},
            {"solver": "lbfgs", "tol": 0.1},
            ["solver = sgd", "solver = lbfgs"],
        ),
        ({"dataset": "/a/b/x.csv"}, {"dataset": "/a/b/y.csv"}, ["dataset = x.csv", "dataset = y.csv"]),
    ],
)
def test_runs_with_default_names_are_told_apart_by_their_options(save, one, other, names):
    assert labels.run_names([timed(save, 1, **one), timed(save, 2, **other)]) == names


def test_a_default_name_is_shown_without_its_time(save):
    first, second = save("logistic-mnist-20260101-120000", synthetic_result()), timed(save, 1)
    assert labels.run_names([first, second]) == ["logistic-mnist", "softmax-mnist"]
    assert labels.run_names([timed(save, 1), save("softmax-mnist", synthetic_result())]) != ["softmax-mnist"] * 2


def test_runs_that_nothing_tells_apart_have_distinct_names(save):
    names = labels.run_names([timed(save, 1), timed(save, 2), timed(save, 3)])
    assert len(set(names)) == 3


def test_the_users_own_names_win(save):
    runs = [timed(save, 1), timed(save, 2)]
    assert labels.run_names(runs, ["a", "$b$"]) == ["a", r"\$b\$"]
    assert [curve.label for curve in labels.run_curves(runs, ["a", "b"])] == ["a", "b"]
    with pytest.raises(UsageError, match="1 labels were given for 2 runs; give one for each run"):
        labels.run_names(runs, ["a"])


@pytest.mark.parametrize("most", [3, 4, 9, 24])
def test_a_long_name_keeps_its_beginning_and_its_end(most):
    for text in ("", "x", "x" * most, "abcdefghijklmnopqrstuvwxyz"):
        short = shortened(text, most)
        assert len(short) <= most
        assert (short == text) == (len(text) <= most)
        assert short[:1] == text[:1]
        assert short[-1:] == text[-1:]


def test_text_is_drawn_as_it_is():
    assert plain("_x") == " _x"  # a label that begins with _ would be left out of the legend
    assert plain("$a$") == r"\$a\$"
    assert plain(3) == "3"
    assert printable("a\x1b[31mb\n\x07\u202e\udce9é漢") == r"a\x1b[31mb\n\x07\u202e\udce9é漢"
