"""What a data set says of itself: notices where a user would go wrong, and its repr."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from small_problems import blobs

import gpureg
from gpureg.data import load_dataset
from gpureg.errors import GpuregWarning, UsageError

N = 100
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 2))
Y = np.arange(N) % 2


def notices(features: np.ndarray, y: np.ndarray = Y) -> tuple[str, ...]:
    return gpureg.make_dataset(features, y).notices


@pytest.mark.parametrize(
    "column",
    [
        np.arange(N),
        RANDOM.permutation(N) + 10**12,
        np.arange(N)[::-1].astype(float),
        np.arange(N, dtype=np.uint8),
        np.arange(N) * 2**40,
    ],
)
def test_an_id_is_noticed(column):
    (notice,) = notices(np.column_stack([X, column]))
    assert notice.startswith("feature 2: a feature of whole numbers that are all different (an id?).")
    assert "\n" not in notice
    table = pd.DataFrame({"a": X[:, 0], "patient": column, "row": np.arange(N)})
    (notice,) = gpureg.make_dataset(table, Y).notices
    assert notice.startswith("patient, row: features of whole numbers that are all different (ids?).")


@pytest.mark.parametrize(
    "column",
    [
        np.arange(N) // 2,
        np.arange(N) + 0.5,
        np.where(np.arange(N) == N - 1, 0, np.arange(N)),
        np.where(np.arange(N) == N - 1, 0.5, np.arange(N)),
        np.zeros(N),
    ],
)
def test_what_is_not_an_id_is_not_noticed(column):
    assert notices(np.column_stack([X, column])) == ()


def test_no_notice_of_images_nor_of_a_few_rows():
    images = np.arange(N * 4).reshape(N, 2, 2)
    assert gpureg.make_dataset(images, Y).notices == ()
    few = np.arange(10)
    assert gpureg.make_dataset(few[:, None], few % 2).notices == ()
    assert load_dataset("digits").notices == ()


def test_a_measurement_as_target_is_noticed(tmp_path):
    target = np.concatenate([np.arange(59)] * 2)[:N]
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "weight": target})
    table.to_csv(tmp_path / "t.csv", index=False)
    (notice,) = load_dataset(tmp_path / "t.csv", val_size=20, classes=list(range(41))).notices
    assert notice == (
        "the target 'weight' holds 59 different whole numbers in 100 rows (a measurement?). If another column is the "
        "label, name it with target."
    )


@pytest.mark.parametrize(
    ("classes", "rows", "noticed"), [(51, 1000, True), (51, 1100, False), (50, 500, False), (300, 5999, True)]
)
def test_how_many_whole_numbers_are_too_many(classes, rows, noticed):
    y = np.arange(rows) % classes
    found = notices(RANDOM.normal(size=(rows, 1)), y)
    assert bool(found) == noticed
    words = np.array([f"w{label}" for label in range(classes)])[y]
    assert notices(RANDOM.normal(size=(rows, 1)), words) == ()


def test_a_fit_warns_of_them_and_its_result_holds_them():
    data = gpureg.make_dataset(np.column_stack([X, np.arange(N)]), Y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = gpureg.fit(data, solver="lbfgs", l2=0.1, device="cpu")
    said = [str(warning.message) for warning in caught if issubclass(warning.category, GpuregWarning)]
    assert said == list(result.warnings) == list(data.notices)


# --- repr


def lines(data: gpureg.Dataset) -> list[str]:
    return repr(data).splitlines()


def test_the_repr_is_a_small_table():
    table = pd.DataFrame({"petal length": X[:, 0], "petal width": X[:, 1]})
    data = gpureg.make_dataset(
        table, np.array(["cat", "dog"])[Y], name="pets", sample_weight=np.where(Y, 2.0, 0.5), val_size=20
    )
    assert repr(data) == (
        "Dataset 'pets': 2 features, 2 classes\n"
        "              rows  cat  dog\n"
        "  training      80   40   40\n"
        "  validation    20   10   10\n"
        "  features: petal length, petal width\n"
        "  weights: 0.5 to 2, 100 in all"
    )
    assert "features (8 x 8 pixels)" in repr(load_dataset("digits"))


def test_a_repr_is_short_whatever_the_data_hold():
    many = np.repeat(np.arange(400), 5)
    names = [f"{'a long name ' * 50}{i}\x1b[31m\n" for i in range(300)]
    words = np.array([f"class {'x' * 300} {label}\n" for label in many])
    wide = gpureg.make_dataset(pd.DataFrame(RANDOM.normal(size=(len(many), 300)), columns=names), words, name="n" * 999)
    for data in (wide, blobs(), load_dataset("digits"), gpureg.make_dataset(np.zeros((4, 1)), [0, 0, 1, 1])):
        assert len(lines(data)) <= 14
        assert all(len(line) <= 200 and line.isprintable() for line in lines(data))
    assert "394 more" in repr(wide)
    assert "292 more" in repr(wide)


# --- what a data set made by hand must be


def test_a_data_set_by_hand_is_checked():
    good = {"name": "d", "X_train": X, "y_train": Y, "X_val": X[:5], "y_val": Y[:5], "classes": (0, 1)}
    gpureg.Dataset(**good)
    for wrong, says in (
        ({"X_train": X[:, 0]}, r"X_train has shape \(100,\)"),
        ({"y_val": Y[:4]}, "5 rows but 4 labels"),
        ({"y_train": Y[:, None]}, "expected"),
        ({"y_train": Y + 1}, "y_train holds numbers from 1 to 2; expected indices into the 2 classes"),
        ({"y_train": Y - 1}, "from -1 to 0"),
        ({"X_val": X[:5, :1]}, "X_train has 2 features, X_val 1"),
    ):
        with pytest.raises(UsageError, match=says):
            gpureg.Dataset(**(good | wrong))


def test_an_id_in_a_file_that_is_split(tmp_path):
    """Rows are moved for the split; the notice is of the rows as they were."""
    lines = [f"{i},{i % 7},{i % 2}\n" for i in range(300)]
    (tmp_path / "t.csv").write_text("id,x,y\n" + "".join(lines))
    data = gpureg.load_dataset(tmp_path / "t.csv")
    assert len(data.y_val) == 60
    assert any(notice.startswith("id: a feature of whole numbers that are all different") for notice in data.notices)
    found = sorted([*data.X_train[:, 0].tolist(), *data.X_val[:, 0].tolist()])
    assert found == list(range(300))
