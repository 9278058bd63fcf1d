"""`gpureg data`: list the data sets, fetch them, and say where they are."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="List, fetch and find the named data sets. GPUREG_DATA_DIR names the cache.", no_args_is_help=True
)


@app.command("list")
def list_data() -> None:
    """List the named data sets: size, whether they are cached, and where they come from."""
    from gpureg.data import CATALOG, is_cached

    width = max(len(name) for name in CATALOG)
    lines = [f"{'NAME':{width}s}  SIZE   CACHED"]
    for spec in CATALOG.values():
        megabytes = sum(file.size for file in spec.files) / 1e6
        size = f"{megabytes:.0f} MB" if spec.files else "-"
        cached = ("yes" if is_cached(spec.name) else "no") if spec.files else "built in"
        lines.append(f"{spec.name:{width}s}  {size:5s}  {cached}")
        lines += [f"  {spec.description}", f"  from {_source(spec.name)}"]
    typer.echo("\n".join(lines))


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="mnist, fashion-mnist or digits")]) -> None:
    """Fetch a data set into the cache and check its SHA-256. Prints its folder; progress goes to stderr."""
    from gpureg.data import CATALOG, dataset_dir, is_cached
    from gpureg.data import fetch as fetch_data

    if name in CATALOG and not CATALOG[name].files:
        typer.echo(f"{name} is built in; there is nothing to fetch.", err=True)
        return
    if name in CATALOG and is_cached(name):
        typer.echo(f"{name} is already cached; its SHA-256 has been checked.", err=True)
        typer.echo(dataset_dir(name))
        return
    typer.echo(fetch_data(name, report=lambda line: typer.echo(line, err=True)))


@app.command()
def where(
    name: Annotated[str | None, typer.Argument(help="a data set; without a name, the whole cache")] = None,
) -> None:
    """Print the cache folder, or the folder of one data set, whether or not it has been fetched."""
    from gpureg.data import cache_dir, dataset_dir, find_spec

    if name is None:
        typer.echo(cache_dir())
    elif not find_spec(name).files:
        typer.echo(f"{name} is built in; it has no folder.", err=True)
    else:
        typer.echo(dataset_dir(name))


def _source(name: str) -> str:
    from gpureg.data import CATALOG

    spec = CATALOG[name]
    if not spec.files:
        return "scikit-learn, no network needed"
    others = [f"npm {spec.npm}"] if spec.npm else []
    if spec.installed_by:
        others.append(spec.installed_by)
    return ", ".join([f"HTTPS ({len(spec.mirrors)} mirrors)", *others])
