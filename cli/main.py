"""`gpureg`: the commands, and the message and exit code of an error."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gpureg.errors import GpuregError, naming_flags
from gpureg.version import __version__

from . import data, evaluate, export, info, plot, predict, reproduce, sweep, train
from .interrupts import at_once, heeded
from .notes import complain
from .streams import loss, take_streams

INTERRUPTED = 130  # exit code


class QuickHelp(TyperGroup):
    """The program's own help in plain text: loading rich to draw it takes twice as long as all else together. The help
    of the commands, with its many options, has rich's panels.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As click writes it."""
        super(TyperGroup, self).format_help(ctx, formatter)


app = typer.Typer(
    name="gpureg",
    cls=QuickHelp,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Logistic and softmax regression: a whole grid of λ, with its cross-validation, trained as one batch, "
    "on the CPU or an NVIDIA GPU.",
    epilog="Start with: gpureg train --dataset digits",
)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with its errors turned into an exit code and one message, which is the only thing shown."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with naming_flags():
                return command(*args, **kwargs)
        except GpuregError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            complain(str(error) or "interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except OSError as error:
            complain(refusal(error))
            raise typer.Exit(2) from None
        except MemoryError as error:
            complain(f"out of memory ({error}). Use --dtype float32, a smaller --memory, or less data (--train-size).")
            raise typer.Exit(2) from None
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise  # usage errors, which typer shows itself
            traceback.print_exc()
            complain(f"unexpected: {error}. This is a bug in gpureg; please report it with what `gpureg info` prints.")
            raise typer.Exit(1) from None

    return run


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"gpureg {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def gpureg(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """The options of the program itself."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)  # as if an argument were missing


def guard_group(group: typer.Typer) -> typer.Typer:
    """Every command of a group, guarded."""
    for registered in group.registered_commands:
        if registered.callback is not None:
            registered.callback = guarded(registered.callback)
    return group


app.command("train", short_help="Fit one model.")(guarded(train.train))
app.command("sweep-lambda", short_help="Fit a whole grid of λ as one batch.")(guarded(sweep.sweep_lambda))
app.command("predict", short_help="Labels and probabilities for new rows.")(guarded(predict.predict))
app.command("evaluate", short_help="Metrics of a run on labelled data.")(guarded(evaluate.evaluate))
app.command("export", short_help="ONNX, CSV tables, a model card.")(guarded(export.export))
app.command("plot", short_help="Draw figures from run directories.")(guarded(plot.plot))
app.command("reproduce", short_help="Reproduce the whole report as one page.")(guarded(reproduce.reproduce))
app.add_typer(guard_group(data.app), name="data")
app.command("info", short_help="Versions, devices, BLAS, data cache.")(guarded(info.info))


def refusal(error: OSError) -> str:
    """The message for what the system refuses, wherever that happens."""
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    what = " and ".join(named) if named else "A file, a disk or a network"
    return (
        f"{what} can't be used ({error.strerror or error}). Give a path that exists, that you may read and write, and "
        "that lies on a disk with room."
    )


def main() -> None:
    """The command line of this process."""
    for number in heeded():
        signal.signal(number, at_once)
    take_streams()
    try:
        app()
    except SystemExit as end:
        lost = loss(sys.stdout)
        if lost is not None:
            complain(f"stdout can't be written ({lost.strerror}). Redirect it to a place with room.")
            sys.exit(end.code or 2)
        if end.code == INTERRUPTED:
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # pyarrow's threads may still read: an ordinary exit would abort around them
        raise
