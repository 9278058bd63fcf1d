"""What help, version, completion and `info` say, and that asking for it costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, invoke, script, strict_json
from gpureg_cli.main import app

HEAVY = ("numpy", "matplotlib", "sklearn", "cupy", "scipy", "pandas", "pyarrow", "threadpoolctl", "torch")


def pages() -> list[tuple[str, ...]]:
    """Every command's, and the groups'."""
    names = [command.name for command in app.registered_commands if command.name]
    group = [("data", name) for name in ("list", "fetch", "where")]
    return [(), *((name,) for name in names), ("data",), *group]


def test_help_and_version_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom gpureg_cli.main import app\n"
        "for arguments in (['--help'], ['--version'], ['train', '--help'], ['sweep-lambda', '-h']):\n"
        "    try:\n        app(arguments)\n    except SystemExit as end:\n        assert not end.code\n"
        f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [("train",), ("sweep-lambda", "--Cs", "0.1:1:3", "--cv", "2")], ids=" ".join)
def test_the_progress_is_shown_before_anything_heavy_is_imported(command: tuple[str, ...], tmp_path: Path) -> None:
    """In a terminal: when its first line is written, neither NumPy nor what reads data is loaded."""
    code = (
        "import rich.live, sys\nfrom gpureg_cli.main import app\nshow, first = rich.live.Live.refresh, []\n"
        "def refresh(self):\n    show(self)\n    first.append(set(sys.modules)) if not first else None\n"
        f"rich.live.Live.refresh = refresh\narguments = [*{command!r}, '--dataset', 'digits', '--max-iter', '1']\n"
        "try:\n    app([*arguments, '--out', 'run'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print(sorted({{name.partition('.')[0] for name in first[0]}} & set({HEAVY!r})))\n"
        "print(sorted(name for name in first[0] if name.startswith(('gpureg.data', 'gpureg.fitting'))))"
    )
    terminal = environment() | {"FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=terminal)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]
    assert "preparing the data" in done.stderr


def test_version() -> None:
    assert invoke("--version").stdout == "gpureg 0.1.0\n"


def test_the_module_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "gpureg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "gpureg 0.1.0\n"


def test_no_arguments_show_the_help_with_a_first_command() -> None:
    shown = invoke().output
    assert "Start with: gpureg train --dataset digits" in shown


@pytest.mark.parametrize("page", pages(), ids=" ".join)
def test_every_page_fits_80_columns(page: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    done = invoke(*page, "--help")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout  # nothing is cut off


def test_choices_and_defaults_are_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "120")
    page = invoke("sweep-lambda", "--help").stdout
    for words in (
        "softmax|logistic",
        "min|1se",
        "float32|float64",
        "last|best",
        "none|standard|pixels",
        "LOW:HIGH:COUNT",
    ):
        assert words in page
    words = " ".join(page.replace("│", " ").split())
    assert "sgd: 2,0.2,0.02,0.002; lbfgs: 1e-6:10:32" in words
    assert "sgd: Samples of a minibatch." in words
    assert "[default: 128]" in page
    assert "over all training rows, also with --cv" in " ".join(
        page.replace("│", " ").split()
    )  # what scaling sees is said
    assert "--lambdas" not in invoke("train", "--help").stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gpureg sw", {"sweep-lambda"}),
        ("gpureg train --task ", {"softmax", "logistic"}),
        ("gpureg train --dtype float6", {"float64"}),
        ("gpureg train --dataset d", {"digits", "data.csv"}),
        ("gpureg train --device cu", {"cuda", "cuda:0", "cuda:1"}),
        ("gpureg sweep-lambda --select ", {"min", "1se"}),
    ],
)
def test_the_shell_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    asked = {"_GPUREG_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    assert set(script(cwd=tmp_path, **asked).stdout.split()) == offered


def test_info_can_be_pasted() -> None:
    done = invoke("info")
    assert done.exit_code == 0
    for word in ("gpureg", "python", "numpy", "blas", "cuda", "device", "data cache", "mnist"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    found = strict_json(invoke("info", "--json").stdout)
    assert {"gpureg", "blas", "cuda", "device", "data cache"} <= set(found)
