"""`python -m gpureg`: the command line."""

from importlib import import_module

if __name__ == "__main__":
    import_module("gpureg_cli.__main__").main()
