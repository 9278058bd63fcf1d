"""Warnings of the estimators, which name the caller's line: that of `fit`, however deep the warning arises."""

from __future__ import annotations

import sys
import warnings

OURS = ("gpureg.", "sklearn.callback.")  # the modules that a call of `fit` goes through


def warn(text: str, category: type[Warning]) -> None:
    """Warn, with the line of the code that called an estimator's method."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
