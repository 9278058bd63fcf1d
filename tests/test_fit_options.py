"""`gpureg.fit(data, config, **options)`: the options as one value, one by one, or both."""

from __future__ import annotations

import pytest
from small_problems import blobs

import gpureg
from gpureg.config import FitConfig
from gpureg.errors import UsageError

CONFIG = FitConfig(l2=(0.1, 0.2), epochs=2, lr=(0.3,), dtype="float64", seed=5)


def test_a_config_and_its_fields_are_the_same_fit() -> None:
    data = blobs()
    whole, single = gpureg.fit(data, CONFIG), gpureg.fit(data, l2=[0.1, 0.2], epochs=2, lr=0.3, dtype="float64", seed=5)
    assert whole.config == single.config == CONFIG.to_dict()
    assert (whole.model.coef == single.model.coef).all()


def test_options_replace_what_a_config_says() -> None:
    result = gpureg.fit(blobs(), CONFIG, l2=0.5, epochs=1)
    assert (result.config["l2"], result.config["epochs"], result.config["seed"]) == ([0.5], 1, 5)
    assert [model.l2 for model in result.models] == [0.5]
    assert CONFIG.epochs == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epoch": 3}, r"fit was given 'epoch', which is not an option; did you mean epochs\?"),
        ({"penalise_bias": True}, r"'penalise_bias', .* did you mean penalize_bias\?"),
        ({"x": 3}, r"'x', which is not an option; expected one of Cs, batch_size, .*tol"),
        ({"epochs": "many"}, "epochs is 'many'; expected a whole number of at least 1"),
    ],
)
def test_a_misspelt_option_is_refused_before_anything_is_done(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gpureg.fit(gpureg.load_dataset("digits"), **options)  # type: ignore[arg-type]


def test_what_is_no_data_set_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data is a list; expected what gpureg\.load_dataset or gpureg\.make_dataset"):
        gpureg.fit([[1.0], [2.0]])  # type: ignore[arg-type]
