"""Curves for TensorBoard, each point written at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from .folders import writing


class Curves:
    """An event file of TensorBoard.

    tensorboardX's own SummaryWriter has a thread that writes, fed by a queue. On a full disk the
    thread ends with a traceback, and the training waits for ever once the queue is full.

    Args:
        folder: receives the file.
        from_step: TensorBoard hides the points of earlier files from this step on.
    """

    def __init__(self, folder: Path, *, from_step: int | None = None) -> None:
        # 0.3 s that `import pcdet_distill` need not pay
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The name has the second; two trainings of one second must not share a file.
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if from_step is not None:
            restart = SessionLog(status=SessionLog.START)
            self._write([Event(step=from_step, session_log=restart)])

    def add(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each of several curves."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now = time.time()
        events = []
        for tag, value in points.items():
            events.append(Event(step=step, wall_time=now, summary=scalar(tag, value)))
        self._write(events)

    def close(self) -> None:
        """Close the file."""
        with writing(self.folder):
            self._writer.close()

    def _write(self, events: list) -> None:
        """Write events through to the file."""
        with writing(self.folder):
            for event in events:
                self._writer.write_event(event)
            self._writer.flush()
