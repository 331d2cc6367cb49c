"""The viewer's frames as a recording for Rerun, by rerun-sdk, from the extra ``rerun``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..extras import import_extra
from ..whole_files import whole_file
from .viewer import SOURCES, ViewedBoxes, ViewedFrame

APPLICATION = "pcdet_distill"
TIMELINE = "frame"
POINT_RADIUS_M = 0.03
LINE_RADIUS_M = 0.04
# Red, green and blue of the boxes of each source, and of low and high points.
COLOURS = {"truth": (255, 255, 255), "teacher": (255, 143, 77), "student": (76, 201, 240)}
LOW_POINT, HIGH_POINT = np.array([66, 82, 124]), np.array([243, 239, 176])


def import_rerun() -> Any:
    """Rerun's package, or one sentence on how to install it."""
    return import_extra("rerun", needed_by="--rerun")


def write_rerun(frames: Sequence[ViewedFrame], path: Path) -> Path:
    """Write points and boxes of each source over the timeline ``frame``; returns the path.

    Every source is one entity, so that Rerun switches it on and off.
    """
    rerun = import_rerun()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            _record(rerun, frames, partial)
    except OSError as error:
        raise ConfigError(
            f"--rerun {path}: cannot be written ({error.strerror or error})"
        ) from None
    except RuntimeError as error:  # what rerun raises where it cannot open the file
        reason = str(error).split(" (os error")[0]  # the partial file's name follows
        raise ConfigError(f"--rerun {path}: cannot be written ({reason})") from None
    return path


def _record(rerun: ModuleType, frames: Sequence[ViewedFrame], path: Path) -> None:
    recording = rerun.RecordingStream(APPLICATION)
    recording.save(str(path))
    recording.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    for number, frame in enumerate(frames):
        recording.set_time(TIMELINE, sequence=number)
        recording.log("world/name", rerun.TextDocument(frame.name))
        recording.log("world/points", _points(rerun, frame))
        for source in SOURCES:
            # A source without boxes in this frame must not keep those of the frame before.
            boxes = frame.boxes.get(source)
            recording.log(f"world/{source}", _boxes(rerun, boxes, COLOURS[source]))
    recording.flush()
    recording.disconnect()


def _points(rerun: ModuleType, frame: ViewedFrame) -> object:
    """The points, coloured by height."""
    z = frame.points[:, 2]
    low, high = np.percentile(z, (1, 99)) if len(z) else (0.0, 1.0)
    share = np.clip((z - low) / max(high - low, 1e-6), 0, 1)[:, None]
    colours = LOW_POINT + share * (HIGH_POINT - LOW_POINT)
    return rerun.Points3D(frame.points, colors=colours.astype(np.uint8), radii=POINT_RADIUS_M)


def _boxes(rerun: ModuleType, boxes: ViewedBoxes | None, colour: tuple[int, int, int]) -> object:
    """The boxes, labelled by class and score."""
    if boxes is None:
        return rerun.Boxes3D(centers=[], half_sizes=[])
    headings = boxes.boxes[:, 6] / 2
    zeros = np.zeros_like(headings)
    quaternions = np.stack([zeros, zeros, np.sin(headings), np.cos(headings)], axis=1)
    return rerun.Boxes3D(
        centers=boxes.boxes[:, 0:3],
        half_sizes=boxes.boxes[:, 3:6] / 2,
        quaternions=quaternions,
        labels=_labels(boxes),
        colors=[colour] * len(boxes.boxes),
        radii=LINE_RADIUS_M,
    )


def _labels(boxes: ViewedBoxes) -> list[str]:
    if boxes.scores is None:
        return list(boxes.names)
    return [f"{name} {score:.2f}" for name, score in zip(boxes.names, boxes.scores)]
