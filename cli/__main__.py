"""`gpureg` and `python -m gpureg_cli`: Ctrl-C is quiet from the first moment, also while modules are still loading."""

import sys


def main() -> None:
    """The entry point of the script `gpureg`."""
    try:
        from .main import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
