"""The rooms of the program as import rules, read from the sources: which imports which, and what stays where."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the top down. A room imports from rows above its own: never sideways, never up. A package is one room.
ROOMS = (
    ("atomic", "errors", "types", "version"),
    ("losses",),
    ("config", "events", "history"),
    ("backend", "environment"),
    ("data",),
    ("kernels",),
    ("rows",),
    ("distributed",),
    ("model",),
    ("solvers",),
    ("storage",),
    ("fitting",),
    ("figures", "estimators"),
    ("report", "tracking"),
)
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
MOST_LINES, MOST_IN_A_FUNCTION = 300, 40
# in pieces, so that this file passes its own test
REGISTRIES = tuple(
    f"{name}.{end}"
    for name, end in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("deb.debian", "org"),
        ("crates", "io"), ("proxy.golang", "org"), ("rubygems", "org"), ("anaconda", "org"), ("conda", "io"),
    )
)  # fmt: skip


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room(path: Path) -> str:
    """The room that a file of gpureg is in; its front door has none."""
    first = path.relative_to(ROOT / "gpureg").parts[0]
    return first.removesuffix(".py")


def imports(node: ast.AST) -> Iterator[str]:
    """The full names of all modules that are imported anywhere below `node`; `from a import b` gives `a.b`."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from (name.name for name in found.names)
        elif isinstance(found, ast.ImportFrom) and not found.level and found.module:
            yield from (f"{found.module}.{name.name}" for name in found.names)


def at_module_level(module: ast.Module) -> Iterator[str]:
    """What importing the module imports: not what its functions do, nor what only a type checker reads."""
    for statement in module.body:
        guarded = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test)
        if not guarded and not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield from imports(statement)


def starts(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_package_is_in_the_wheel() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "gpureg").rglob("__init__.py")}
    assert set(named) == there | {"gpureg_cli"}


def test_every_module_has_a_room() -> None:
    found = {room(path) for path in sources("gpureg")} - {"__init__", "__main__"}
    assert found <= set(RANK), "write the new module into ROOMS, in the row where it belongs"
    assert not [
        relative(path) for path in sources("gpureg") + sources("cli") if path.name in ("utils.py", "helpers.py")
    ]


@pytest.mark.parametrize("path", [p for p in sources("gpureg") if not room(p).startswith("__")], ids=relative)
def test_a_room_imports_only_from_rooms_above(path: Path) -> None:
    mine = room(path)
    for name in imports(tree(path)):
        parts = name.split(".")
        if parts[0] != "gpureg" or parts[1] == mine:
            continue
        assert RANK[parts[1]] < RANK[mine], f"{relative(path)} is in the room {mine} and imports {name}"


def test_the_rooms_of_contributing_are_these() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| room | what it holds |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    rows = [tuple(name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)) for cell in cells]
    assert [set(row) for row in rows] == [set(row) for row in (*ROOMS, ("cli", "bench"))]


@pytest.mark.parametrize("path", sources("gpureg"), ids=relative)
def test_no_file_repeats_its_folder_s_name(path: Path) -> None:
    assert not path.stem.startswith(f"{path.parent.name}_"), "the folder says it already"


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_what_stays_where(path: Path) -> None:
    module, where = tree(path), relative(path)
    every, at_once = list(imports(module)), list(at_module_level(module))
    in_cli = where.startswith("cli/")
    in_figures = where.startswith(("gpureg/figures/", "gpureg/report/"))
    cupy = ("cupy", "cupyx", "cupy_backends", "array_api_compat.cupy")
    if where == "gpureg/backend/cuda.py":
        assert not any(starts(name, *cupy) for name in at_once), "cupy is imported inside the functions of backend/cuda"
    elif not where.startswith("gpureg/kernels/cuda/"):
        assert not any(starts(name, *cupy) for name in every), "cupy is for backend/cuda and kernels/cuda"
    assert in_figures or not any(starts(name, "matplotlib") for name in every), "matplotlib is for figures and report"
    assert in_cli or not any(starts(name, "typer", "click", "rich") for name in every), "typer and rich are for cli"
    assert in_cli or not any(starts(name, "cli", "gpureg_cli") for name in every), "gpureg knows no command line"
    assert not in_cli or not any(starts(name, "cli", "gpureg_cli") for name in every), "relative imports inside cli"
    learns = where.startswith(("gpureg/estimators/", "gpureg/model/", "gpureg/solvers/")) or where in (
        "gpureg/data/named.py",
        "gpureg/data/sparse_files.py",
    )
    assert learns or not any(starts(name, "sklearn") for name in every), (
        "scikit-learn is for estimators, model, solvers"
    )
    tracks = where.startswith("gpureg/tracking/")
    assert tracks or not any(starts(name, "mlflow", "tensorboard") for name in every), "trackers are for tracking"
    assert not any(starts(name, "mlflow", "tensorboard") for name in at_once), "trackers load their packages when used"
    spreads = where.startswith("gpureg/distributed/")
    assert spreads or not any(starts(name, "dask", "distributed") for name in every), "dask is for distributed"
    if not where.startswith("gpureg/estimators/"):
        heavy = ("sklearn", "torch", "pandas", "pyarrow", "scipy", "dask", "distributed")
        assert not any(starts(name, *heavy) for name in at_once), "heavy imports happen where they are used"


def test_the_command_line_imports_nothing_heavy_at_once() -> None:
    light = {"gpureg.config", "gpureg.errors", "gpureg.losses", "gpureg.version"}
    for path in sources("cli"):
        for name in at_module_level(tree(path)):
            parts = name.split(".")
            module = ".".join(parts[:2])
            assert parts[0] not in ("numpy", "threadpoolctl", "tomli_w"), f"{relative(path)} imports {name}"
            assert parts[0] != "gpureg" or module in light | {"gpureg.__version__"}, f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", sources("gpureg"), ids=relative)
def test_the_library_never_prints(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "breakpoint"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in ("stdout", "stderr", "exit"), f"line {node.lineno}"


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno + 1 <= MOST_IN_A_FUNCTION, node.name


# those that mirror scikit-learn's signature, and a command, whose parameters are its options
MANY_PARAMETERS = {
    ("gpureg/estimators/logistic.py", "__init__"),
    ("gpureg/estimators/logistic_cv.py", "__init__"),
    ("cli/evaluate.py", "evaluate"),
}
MOST_PARAMETERS = 8


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_functions_take_few_parameters(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            assert count <= MOST_PARAMETERS or (relative(path), node.name) in MANY_PARAMETERS, (
                f"{node.name} takes {count} parameters; make a value of those that belong together"
            )


def compared(node: ast.Compare) -> set[str]:
    """The last names of what `==` and `!=` compare: `solver` of `solver`, `config.solver`, `d["solver"]` and
    `d.get("solver")`."""
    if not all(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops):
        return set()
    found = set()
    for side in (node.left, *node.comparators):
        key = side.slice if isinstance(side, ast.Subscript) else None
        if isinstance(side, ast.Call) and isinstance(side.func, ast.Attribute) and side.func.attr == "get":
            key = side.args[0]
        name = getattr(side, "id", getattr(side, "attr", getattr(key, "value", None)))
        found.add(name if isinstance(name, str) else "")
    return found


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_a_loss_and_a_solver_are_asked_and_not_compared_by_name(path: Path) -> None:
    where = relative(path)
    configures = where.startswith("gpureg/config")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            names = compared(node)
            assert "task" not in names or configures or where == "gpureg/losses.py", f"line {node.lineno}: ask the loss"
            assert "solver" not in names or configures or path.name == "choice.py", (
                f"line {node.lineno}: ask the solver"
            )


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_kernels_have_no_optional_members(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            assert "kernels" not in ast.unparse(node.args[0]), (
                f"line {node.lineno}: a member of Kernels is always there"
            )


@pytest.mark.parametrize("source", ["solver == 'x'", "a.solver != b", "d['solver'] == 1", "d.get('solver', 'x') == 1"])
def test_what_a_comparison_compares(source: str) -> None:
    (node,) = (found for found in ast.walk(ast.parse(source)) if isinstance(found, ast.Compare))
    assert "solver" in compared(node)
    (other,) = (found for found in ast.walk(ast.parse(f"{source[0]} is None")) if isinstance(found, ast.Compare))
    assert compared(other) == set()


@pytest.mark.parametrize("path", sources("gpureg") + sources("cli"), ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "a module begins with a docstring"


def tracked() -> list[Path]:
    """The files of the project: those that git tracks, or without git all that are not build products."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    hidden = (".venv", ".git", "build", "dist", "__pycache__")
    return [p for p in ROOT.rglob("*") if p.is_file() and not set(p.relative_to(ROOT).parts) & set(hidden)]


def test_no_file_names_a_package_registry_s_host() -> None:
    for path in tracked():
        content = path.read_bytes()
        for host in REGISTRIES:
            assert host.encode() not in content, f"{relative(path)} names {host}"
