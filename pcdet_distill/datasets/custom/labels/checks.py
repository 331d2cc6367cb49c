"""What labels of every format are checked for, before anything is written.

Numbers must be finite, sizes above 0, headings radians, and the ids of a frame unique.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ....errors import DataError
from .base import HEADING_COLUMN, SIZE_COLUMNS, FrameLabels, LabelSet
from .files import LabelOptions

TURN_RAD = 2 * math.pi
# A heading may be counted on over a turn, so a few beyond one turn are radians all the same.
DEGREES_SHARE = 0.1
SURELY_DEGREES = 4 * math.pi
HUGE_M = 100.0
NO_IDS = ("", "-1")


def check_labels(labels: LabelSet, options: LabelOptions) -> LabelSet:
    """The labels with headings in -pi..pi, or a DataError that names the file."""
    for frame, entry in labels.frames.items():
        _check_numbers(entry)
        if not options.ignore_ids:
            _check_ids(frame, entry)
    if options.angles == "degrees":
        labels = _with_headings(labels, math.radians)
    elif options.angles != "radians":
        _check_degrees(labels)
    frames, repeated = _without_repetitions(labels)
    notes = list(labels.notes)
    if repeated:
        notes.append(
            f"{len(repeated)} boxes are labelled twice in their frame ({repeated[0]} is one); "
            "each is kept once"
        )
    return _with_headings(LabelSet(frames, tuple(notes)), _wrapped)


def _wrapped(angle_rad: float) -> float:
    return math.remainder(angle_rad, TURN_RAD)


def _with_headings(labels: LabelSet, change: Callable[[float], float]) -> LabelSet:
    frames = {}
    for frame, entry in labels.frames.items():
        boxes = entry.boxes.copy()
        boxes[:, HEADING_COLUMN] = [change(angle) for angle in boxes[:, HEADING_COLUMN]]
        frames[frame] = replace(entry, boxes=boxes)
    return replace(labels, frames=frames)


def _check_numbers(entry: FrameLabels) -> None:
    """Refuse NaN, infinity, and sizes that are no lengths in metres."""
    for name, box, where in zip(entry.names, entry.boxes, entry.where):
        if not np.isfinite(box).all():
            raise DataError(
                f"{where}: the box of '{name}' holds NaN or infinity; expected finite numbers"
            )
        sizes = box[SIZE_COLUMNS]
        shown = " x ".join(f"{size:g}" for size in sizes)
        if sizes.min() <= 0:
            raise DataError(
                f"{where}: the sizes of '{name}' are {shown}; expected length, width and height "
                "above 0"
            )
        if sizes.max() > HUGE_M:
            raise DataError(
                f"{where}: the sizes of '{name}' are {shown}; expected metres, below {HUGE_M:g}"
            )


def _check_ids(frame: str, entry: FrameLabels) -> None:
    """Refuse an object that a frame holds twice."""
    if entry.ids is None:
        return
    place_of: dict[str, str] = {}
    for object_id, where in zip(entry.ids, entry.where):
        if object_id in NO_IDS:
            continue
        if object_id in place_of:
            raise DataError(
                f"{where}: the id '{object_id}' is used twice in frame {frame} (first at "
                f"{place_of[object_id]}); give --ignore_ids if ids are no names of objects here"
            )
        place_of[object_id] = where


def _check_degrees(labels: LabelSet) -> None:
    """Refuse headings that cannot be radians."""
    headings = [(abs(angle), where) for angle, where in _headings(labels)]
    beyond = [(angle, where) for angle, where in headings if angle > TURN_RAD + 1e-3]
    if not beyond:
        return
    largest, where = max(beyond)
    if len(beyond) >= DEGREES_SHARE * len(headings) or largest > SURELY_DEGREES:
        raise DataError(
            f"{where}: {len(beyond)} of {len(headings)} headings are beyond a turn of 2 pi (this "
            f"one is {largest:g}), so they are no radians; give --angles degrees, or --angles "
            "radians if they are"
        )


def _headings(labels: LabelSet) -> Iterator[tuple[float, str]]:
    for entry in labels.frames.values():
        yield from zip(entry.boxes[:, HEADING_COLUMN].tolist(), entry.where)


def _without_repetitions(labels: LabelSet) -> tuple[dict[str, FrameLabels], list[str]]:
    """The labels without boxes that stand twice in a frame, and the places of those."""
    frames = {}
    repeated: list[str] = []
    for frame, entry in labels.frames.items():
        seen = set()
        keep = np.ones(len(entry), dtype=bool)
        for index, (name, box) in enumerate(zip(entry.names, entry.boxes)):
            key = (str(name), *box.tolist())
            if key in seen:
                keep[index] = False
                repeated.append(entry.where[index])
            seen.add(key)
        frames[frame] = entry.chosen(keep)
    return frames, repeated
