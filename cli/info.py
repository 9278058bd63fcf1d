"""`gpureg info`: the lines to paste into a bug report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gpureg.errors import DataError


def info(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Print versions, devices, BLAS and threads, and the data cache, to paste into a bug report."""
    from gpureg.backend import choose_backend
    from gpureg.data import CATALOG, cache_dir, is_cached
    from gpureg.environment import describe_environment

    found: dict[str, Any] = describe_environment()
    backend = choose_backend("auto")
    found["cuda"] = "usable" if backend.name == "cupy" else backend.why
    found["device"] = f"{backend.device} ({backend.name})"
    if backend.card:
        found["card"] = backend.card
    try:
        found["data cache"] = str(cache_dir())
        found["data sets"] = {name: "built in" if name == "digits" else cached(is_cached(name)) for name in CATALOG}
    except DataError as error:  # the rest belongs in a bug report all the same
        found["data cache"] = f"none: {error}"
    if as_json:
        import json

        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for key, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        elif isinstance(value, list):
            value = "; ".join(" ".join(f"{item}" for item in library.values()) for library in value)
        typer.echo(f"{key:12s} {value}")


def cached(present: bool) -> str:
    """Whether a data set is cached, in words."""
    return "cached" if present else "not fetched"
