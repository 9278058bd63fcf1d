"""`Tracker`: an observer that gives what it sees of a fit to a service; which one is its `Sink`."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from gpureg.errors import GpuregError, GpuregWarning, UsageError
from gpureg.events import Event, FitBegun, FitEnded
from gpureg.storage.contents import encode_run
from gpureg.storage.encoding import plain
from gpureg.tracking.points import Course, Point, final_points

SECONDS = 1.0  # between two writes while a fit runs


class Sink(Protocol):
    """Where a tracker writes to."""

    name: str

    def begin(self, parameters: Mapping[str, str]) -> None:
        """Open the run of a fit: a new one, or the one that the fit began with."""
        ...

    def last(self, name: str) -> int:
        """The last step of a curve that the run holds, -1 if there is none."""
        ...

    def write(self, points: Sequence[Point]) -> None:
        """Log numbers."""
        ...

    def figure(self, name: str, png: bytes) -> None:
        """Log a picture."""
        ...

    def files(self, files: Mapping[str, bytes]) -> None:
        """Log the files of the run directory, by their names."""
        ...

    def end(self, status: str) -> None:
        """Close the run: FINISHED, KILLED if it was interrupted, FAILED."""
        ...


class Tracker:
    """Observes a fit, `gpureg.fit(..., observe=tracker)`, and logs it as one run: parameters, metrics as they come,
    and at the end the result, its figures and its model.

    As a context manager it also closes the run of a fit that fails. A service that can't be opened is a UsageError; one
    that fails later costs its log, with one GpuregWarning, and never the fit.
    """

    def __init__(self, sink: Sink, directory: str | Path | None = None) -> None:
        self._sink, self._directory = sink, directory
        self._course: Course | None = None
        self._last: dict[str, int] = {}
        self._waiting: list[Point] = []
        self._written = 0.0
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._open:  # no end was seen
            self._try(lambda: self._close("KILLED" if kind is KeyboardInterrupt else "FAILED"))

    def __call__(self, event: Event) -> None:
        """See one event. Raises UsageError if the service can't be opened."""
        if isinstance(event, FitBegun):
            self._begin(event)
        elif not self._open or self._course is None:
            return
        elif isinstance(event, FitEnded):
            self._try(lambda: self._finish(event.result))
        else:
            points = self._course.points(event)
            self._try(lambda: self._take(points))

    def _begin(self, event: FitBegun) -> None:
        self._course = Course(event)
        if self._open:  # on another device now
            return
        try:
            with _not_our_deprecations():
                self._sink.begin({name: as_text(value) for name, value in event.config.items() if value is not None})
        except GpuregError:
            raise
        except Exception as error:
            raise UsageError(
                f"{self._sink.name} can't be written to ({_first_line(error)}); name a place that can be, or fit "
                "without it."
            ) from error
        self._open, self._written = True, time.monotonic()

    def _take(self, points: list[Point]) -> None:
        self._waiting += [point for point in points if self._is_new(point)]
        if time.monotonic() - self._written >= SECONDS:
            self._flush()

    def _is_new(self, point: Point) -> bool:
        """Whether the curve does not have this step yet: a fit that goes on tells what it did before once more."""
        if point.name not in self._last:
            self._last[point.name] = self._sink.last(point.name)
        if point.step <= self._last[point.name]:
            return False
        self._last[point.name] = point.step
        return True

    def _flush(self) -> None:
        points, self._waiting = self._waiting, []
        if points:
            self._sink.write(points)
        self._written = time.monotonic()

    def _finish(self, result: Any) -> None:
        """Log a `FitResult`. That of an interrupted fit, which another will replace, without its final numbers."""
        from gpureg.figures.choice import default_figures, draw  # matplotlib is loaded when it is needed
        from gpureg.figures.style import figure_bytes

        reasons = {model.stop_reason for model in result.models}
        self._flush()
        if "interrupted" in reasons:
            self._close("KILLED")
            return
        run = result.to_run(self._directory or "")
        if self._directory is None:
            run.result["run_dir"] = None
        self._sink.write(final_points(run.result))
        for name in default_figures([run]):
            try:
                png = figure_bytes(draw(name, [run]), "png")
            except GpuregError:  # nothing to be seen, say of models that diverged
                continue
            self._sink.figure(name, png)
        self._sink.files(encode_run(run))
        self._close("FAILED" if reasons == {"diverged"} else "FINISHED")

    def _close(self, status: str) -> None:
        self._flush()
        self._open = False
        self._sink.end(status)

    def _try(self, work: Callable[[], None]) -> None:
        """Do it; a service that fails is warned of, and not asked again."""
        try:
            with _not_our_deprecations():
                work()
        except Exception as error:
            self._open = False
            text = f"{self._sink.name} failed ({_first_line(error)}): the fit goes on, and no more of it is logged."
            warnings.warn(text, GpuregWarning, stacklevel=4)


def as_text(value: object) -> str:
    """A parameter as text: words as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def missing(package: str, extra: str) -> UsageError:
    """The error for a tracker whose package is not installed."""
    return UsageError(
        f"{extra} needs the package {package}, which is not installed. Install it with: pip install 'gpureg[{extra}]'"
    )


@contextmanager
def _not_our_deprecations() -> Iterator[None]:
    """What a service's packages announce to one another is not the user's to read."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
