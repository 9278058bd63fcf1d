"""Results of earlier schemas, read as the present one."""

from __future__ import annotations

from typing import Any

SCHEMA = 2
READ = (1, 2)
ADDED: dict[str, Any] = {
    "feature_names": None,
    "image_shape": None,
    "run_dir": None,
    "warnings": [],
    "selected": None,
    "cv": [],
    "left_out": [],
    "test": None,
}
ADDED_TO_MODELS: dict[str, Any] = {"lr": None, "fold": None, "seed": None, "certificate": None}


def completed(result: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A result with all keys that schema 2 has; `config` is its run's, which schema 1 alone has the solver in."""
    if result["schema"] == SCHEMA:
        return result
    models = [ADDED_TO_MODELS | model for model in result["models"]]
    cv = [{"lr": None, "score": "loss"} | row for row in result.get("cv") or []]
    return ADDED | {"solver": config.get("solver", "sgd")} | result | {"models": models, "cv": cv}


def told_apart(known: dict[str, Any], models: list[dict[str, Any]]) -> dict[str, Any]:
    """What is known of a model file, with what distinguishes models of one λ: schema 1 has that only in the result.

    After a cross-validation its file holds one model, which nothing need tell apart.
    """
    if "scores" in known or len(models) != len(known["l2"]):
        return known
    columns = {"lr": "lr", "scores": "val_loss"}
    seeds = [model.get("seed") for model in models]
    told = {name: [model.get(key) for model in models] for name, key in columns.items()}
    return known | told | {"seed": [-1 if seed is None else seed for seed in seeds]}
