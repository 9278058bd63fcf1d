"""The command line, installed as the package `gpureg_cli`. Nothing heavy is imported before a command needs it."""
