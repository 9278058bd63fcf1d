"""Prints the soft device's environment as shell commands: `eval "$(python -m softdevice)"`."""

from __future__ import annotations

import shlex

from softdevice.build import environment

for name, value in environment().items():
    print(f"export {name}={shlex.quote(value)}")
