"""`gpureg`: the commands, and what an error looks like and ends with."""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

import typer

from gpureg import __version__
from gpureg.errors import GpuregError

from . import data, info, plot, reproduce, sweep, train
from .notes import complain
from .streams import forgive

app = typer.Typer(
    name="gpureg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Logistic and softmax regression: a whole grid of λ, with its cross-validation, trained as one batch, "
    "on the CPU or an NVIDIA GPU.",
    epilog="Start with: gpureg train --dataset digits",
)


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with its errors turned into one message and an exit code; the message is the only thing shown."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except GpuregError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of a pipe has gone, as `| head` does
            sys.stderr.close()
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
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


@app.callback()
def gpureg(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """The options of the program itself."""


def guard_group(group: typer.Typer) -> typer.Typer:
    """Every command of a group, guarded."""
    for registered in group.registered_commands:
        if registered.callback is not None:
            registered.callback = guarded(registered.callback)
    return group


app.command("train")(guarded(train.train))
app.command("sweep-lambda")(guarded(sweep.sweep_lambda))
app.command("plot")(guarded(plot.plot))
app.command("reproduce")(guarded(reproduce.reproduce))
app.add_typer(guard_group(data.app), name="data")
app.command("info")(guarded(info.info))


def terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM is what Ctrl-C is, where nothing is to be finished first: what was begun is cleared away."""
    raise KeyboardInterrupt


def main() -> None:
    """The command line of this process."""
    signal.signal(signal.SIGTERM, terminated)
    forgive()
    app()
