"""`TensorBoardTracker`: a fit as a run of TensorBoard."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpureg.errors import UsageError
from gpureg.storage.files import write_bytes
from gpureg.tracking.points import Point
from gpureg.tracking.tracker import Tracker, missing

EVENTS = "events.out.tfevents.*"
STRING, DOUBLE = 7, 2  # of TensorFlow's types
RGBA = 4


class TensorBoardTracker(Tracker):
    """Logs a fit as one run of TensorBoard, in `folder`: numbers as scalars (float64), parameters as texts, figures as
    images, and the files of a run directory, the model among them, in `folder`/run unless the fit is saved in
    `directory` anyway.

    Raises UsageError if tensorboard is not installed (`pip install 'gpureg[tensorboard]'`), and when the fit begins if
    the folder holds another run; `replace` removes that one's events, `go_on` adds to them.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        directory: str | Path | None = None,
        replace: bool = False,
        go_on: bool = False,
    ) -> None:
        super().__init__(_TensorBoard(Path(folder), directory is None, replace, go_on), directory)


class _TensorBoard:
    name = "TensorBoard"

    def __init__(self, folder: Path, with_files: bool, replace: bool, go_on: bool) -> None:
        try:
            from tensorboard.summary.writer import event_file_writer
        except ImportError as error:
            raise missing("tensorboard", "tensorboard") from error
        self._module, self._folder = event_file_writer, folder
        self._with_files, self._replace, self._go_on = with_files, replace, go_on
        self._known: dict[str, int] = {}
        self._writer: Any = None

    def begin(self, parameters: Mapping[str, str]) -> None:
        """See `Sink`."""
        there = sorted(self._folder.glob(EVENTS))
        if there and self._go_on:
            self._known = _last_steps(self._folder)
        elif there and not self._replace:
            raise UsageError(f"{self._folder} holds the events of another fit; give another folder.")
        elif there:
            for path in there:
                path.unlink()
        self._writer = self._module.EventFileWriter(str(self._folder))
        if not self._known:
            for name, text in parameters.items():
                self._add(f"parameters/{name}", 0, *_text(text))
            self._writer.flush()

    def last(self, name: str) -> int:
        """See `Sink`."""
        return self._known.get(name, -1)

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink`."""
        for point in points:
            self._add(point.name, point.step, *_number(point.value))
        self._writer.flush()

    def figure(self, name: str, png: bytes) -> None:
        """See `Sink`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(height=height, width=width, colorspace=RGBA, encoded_image_string=png)
        summary = Summary(value=[Summary.Value(tag=f"figures/{name}", image=image)])
        self._writer.add_event(Event(wall_time=time.time(), step=0, summary=summary))

    def files(self, files: Mapping[str, bytes]) -> None:
        """See `Sink`."""
        if self._with_files:
            (self._folder / "run").mkdir(exist_ok=True)
            for name, content in files.items():
                write_bytes(self._folder / "run" / name, content)

    def end(self, status: str) -> None:
        """See `Sink`."""
        self._writer.close()

    def _add(self, tag: str, step: int, tensor: Any, metadata: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _number(value: float) -> tuple[Any, Any]:
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.scalar import metadata

    tensor = TensorProto(dtype=DOUBLE, tensor_shape=TensorShapeProto(), double_val=[value])
    return tensor, metadata.create_summary_metadata("", "")


def _text(value: str) -> tuple[Any, Any]:
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text import metadata

    content = value.encode("utf-8", "backslashreplace")
    tensor = TensorProto(dtype=STRING, tensor_shape=TensorShapeProto(), string_val=[content])
    return tensor, metadata.create_summary_metadata("", "")


def _last_steps(folder: Path) -> dict[str, int]:
    """The last step of every curve in a folder of events."""
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    return {tag: max(event.step for event in events.Tensors(tag)) for tag in events.Tags()["tensors"]}
