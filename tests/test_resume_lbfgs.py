"""L-BFGS killed after any pass goes on, in a solver that knows nothing of the first, to the same bits."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from conftest import torch_backend
from full_batch import WAYS, config, place
from resuming_lbfgs import Case, check, through_files

from gpureg.solvers.lbfgs.directions import Hessians
from gpureg.solvers.lbfgs.search import LineSearch
from gpureg.solvers.lbfgs.solver import Lbfgs
from gpureg.solvers.lbfgs.state import NUMBERS, VECTORS, Batch, LbfgsState


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("task", ["softmax", "logistic"])
@pytest.mark.parametrize("way", WAYS)
def test_killed_after_any_pass(way: str, task: str, free: bool) -> None:
    seen = check(Case(way, task, free))
    ways = {meta["batch"]["way"] for _, meta in seen if meta["batch"]}
    assert ways == {"newton": {"newton"}, "alone": {"quasi"}, "whitened": {"quasi", "whitened"}}[way]
    if way == "whitened":  # a kill between two batches is among them
        assert any(meta["batch"] is None and meta["way"] == "whitened" for _, meta in seen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("more", ["warm", "folds", "wide", "reference"])
def test_with_a_warm_start_with_folds_and_with_more_features(
    way: str, more: str, request: pytest.FixtureRequest
) -> None:
    if more == "reference":  # these kernels leave the BLAS its threads
        request.getfixturevalue("one_blas_thread")
    for task in ("softmax", "logistic"):
        check(Case(way, task, more=more), every=3)


@pytest.mark.parametrize("name", ["torch", "strict"])
def test_on_other_backends(name: str, request: pytest.FixtureRequest, one_blas_thread: None) -> None:
    backend = torch_backend("float64") if name == "torch" else request.getfixturevalue("strict")("float64")
    check(Case("whitened", "softmax", backend=backend), every=20)


def test_many_features_are_scaled_and_not_rotated() -> None:
    """Above the limit a diagonal takes the rotation's place, and a shift the centring's."""

    class Wide(Case):
        def descent(self) -> Any:
            random = np.random.default_rng(1)
            X, y = random.normal(size=(40, 2100)), np.arange(40) % 2
            problem, kernels = place(X, y, [1e-1, 1e-3], "logistic")
            return Lbfgs(config(problem, kernels, max_iter=12), hessians=Hessians(middling_weights=0)).on(
                problem, kernels
            )

    check(Wide("alone", "logistic"), every=4)


def test_every_field_of_the_state_is_known_here() -> None:
    """A new one belongs into `gpureg.solvers.lbfgs.packing`."""
    packed = {"waiting", "way", "iterations", "reasons", "batch", "passes", "finals", "course"}
    packed |= {"evaluated", "losses", "hits", "spectrum", "anew", "gradients", "pairs", "logits"}
    assert {field.name for field in fields(LbfgsState)} == packed
    made = {"active", "objective_of", "conditioning", "directions", "way", "search"}
    made |= {"W", "lines"}  # of the last pass, whose models have left: a boundary needs none
    assert {field.name for field in fields(Batch)} == made | set(VECTORS) | set(NUMBERS)
    assert set(vars(LineSearch(1, 0.0))) == {"noise", "alpha", "low", "high", "slope_low", "slope_high", "tries"}


def test_what_is_not_a_state_of_the_problem_is_refused() -> None:
    descent = Case("alone", "softmax").descent()
    state = descent.start()
    for _ in range(4):
        list(descent.advance(state))
    arrays, meta = through_files(descent.pack(state))
    for name, array in arrays.items():
        missing = {key: value for key, value in arrays.items() if key != name}
        others = [arrays | {name: bad} for bad in (array[:-1], array[..., None]) if len(array)]
        for changed in (missing, arrays | {name: array.astype("U")}, *others):
            with pytest.raises((ValueError, KeyError)):
                descent.unpack(changed, meta)
    for name, value in (("way", "uphill"), ("reasons", ["converged"])):
        with pytest.raises(ValueError, match="expected"):
            descent.unpack(arrays, meta | {name: value})
