"""`python -m gpureg_cli`."""

from .main import main

main()
