"""Boxes with impossible numbers: NaN, sizes of zero or below, degrees, other units."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, numbers, percent
from ..frames import Frame
from ..geometry import Diagnosis

CHECK = "box_values"
FULL_TURN_RAD = 2 * np.pi
SLACK_RAD = 0.2
TURNS = 2.0  # full turns that an angle in radians may have gathered
LARGEST_M = 60.0
MANY = 0.5
SMALLEST_M = 0.03


def check_box_values(case: Case) -> Iterator[Finding]:
    """Whether every box is a possible one."""
    for split in case.splits.values():
        yield from _bad_rows(
            split.frames,
            split.name,
            _is_not_finite,
            "hold NaN or infinity: the loss becomes NaN",
            "remove these boxes from the labels, or mend them",
        )
        yield from _bad_rows(
            split.frames,
            split.name,
            _is_without_volume,
            "have a size of zero or below: their logarithm, which the model learns, is NaN",
            "sizes are full lengths in metres, above 0; remove or mend these boxes",
        )
    yield from _units(case)
    yield from _degrees(case)


def _is_not_finite(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isfinite(boxes[:, :7]).all(axis=1))


def _is_without_volume(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 3:6] <= 0).any(axis=1))


def _bad_rows(
    frames: list[Frame],
    split: str,
    is_bad: Callable[[np.ndarray], np.ndarray],
    what: str,
    fix: str,
) -> Iterator[Finding]:
    bad_frames = []
    num_bad = total = 0
    example = None
    for frame in frames:
        if frame.objects is None or len(frame.objects.boxes) == 0:
            continue
        bad = is_bad(frame.objects.boxes)
        total += len(bad)
        if bad.any():
            num_bad += int(bad.sum())
            bad_frames.append(frame.name)
            row = int(np.flatnonzero(bad)[0])
            example = example or (frame.objects.names[row], frame.objects.boxes[row])
    if example is None:
        return
    name, box = example
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"split {split}, frame {listed(bad_frames)}",
        f"{num_bad} of {total} boxes {what}; such as {name} {numbers(box[:7])}",
        fix=fix,
        frames=tuple(bad_frames[:4]),
    )


def _units(case: Case) -> Iterator[Finding]:
    for name in case.names_in():
        boxes = [(f, o) for f, o in case.labelled() if o.name == name]
        sizes = np.array([labelled.box[3:6] for _, labelled in boxes]).reshape(-1, 3)
        largest = sizes.max(axis=1)
        odd = (largest > LARGEST_M) | ((largest > 0) & (largest < 10 * SMALLEST_M))
        if not odd.any():
            continue
        frames = dict.fromkeys(frame.name for (frame, _), is_odd in zip(boxes, odd) if is_odd)
        if odd.mean() > MANY:
            case.diagnosis = Diagnosis()  # the boxes cannot be compared with points
        middle = np.median(sizes[odd], axis=0)
        unit = "centimetres or millimetres" if middle.max() > LARGEST_M else "another unit"
        yield Finding(
            CHECK,
            Severity.ERROR if odd.mean() > 0.02 else Severity.WARNING,
            f"class {name}, frame {listed(frames)}",
            f"{int(odd.sum())} of {len(odd)} boxes have sizes like {numbers(middle)}: not metres, "
            f"perhaps {unit}",
            fix="write the sizes of boxes in metres",
            frames=tuple(frames)[:4],
        )


def _degrees(case: Case) -> Iterator[Finding]:
    objects = list(case.labelled())
    headings = np.abs([labelled.box[6] for _, labelled in objects])
    too_large = headings > FULL_TURN_RAD + SLACK_RAD
    if not too_large.any():
        return
    share = float(too_large.mean())
    case.diagnosis = Diagnosis()  # the directions of the boxes are unknown
    frames = dict.fromkeys(
        frame.name for (frame, _), is_large in zip(objects, too_large) if is_large
    )
    is_degrees = share > 0.2 or headings.max() > TURNS * FULL_TURN_RAD
    yield Finding(
        CHECK,
        Severity.ERROR if is_degrees else Severity.WARNING,
        f"headings, frame {listed(frames)}",
        f"{percent(share)} of the headings are beyond a full turn of 6.28 rad, up to "
        f"{headings.max():.1f}: "
        + ("they are in degrees" if is_degrees else "they may be in degrees"),
        fix="write headings in radians: degrees * pi / 180",
        frames=tuple(frames)[:4],
    )
