"""The known mistakes in the geometry of labels, and which of them the objects confess.

The checks ``scene_frame``, ``headings`` and ``box_sizes`` report from one diagnosis. A wrong
heading looks a little like a shift, and a wrong axis like anything. So the mistakes compete, and
only the one that explains most is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...datasets.labelled_objects import BoxChange, counts_of_changes
from ...texts import listed
from .case import Case, of_class
from .changes import (
    Change,
    Objects,
    Verdict,
    clear_changes,
    grouped,
    is_off_ground,
    judge_changes,
    points_text,
    sampled,
    unchanged,
)
from .finding import Finding, Severity

SHIFTS_M = np.arange(-2.0, 2.01, 0.5)
TRUST_IN_SHIFTS = 0.85
LEAST_OBJECTS = 6
SMALLER = 0.6
LEFT_IN_SMALLER = 0.85  # points that a smaller box keeps, where the box is too large
GAIN_OF_DOUBLED = 3.0  # points of a doubled box, where the box has half of the true size
IN_SHELL = 0.5  # share of the points of doubled boxes near their surface
EXPLAINED = 0.7  # of the points of doubled boxes, after a change of their own size
LEAST_SEEN = 30  # points of an object that show its outline


def _turned(negated: bool, turn_rad: float) -> BoxChange:
    def change(box: np.ndarray) -> np.ndarray:
        box[6] = (-box[6] if negated else box[6]) + turn_rad
        return box

    return change


TURNED = "turned by 90 degrees"
HEADINGS = (
    Change(
        "headings",
        "negated",
        _turned(True, 0.0),
        "headings are negated, so they seem to be clockwise",
        "write -heading: it counts from +x (forward) counter-clockwise towards +y (left)",
    ),
    Change(
        "headings",
        TURNED,
        _turned(False, np.pi / 2),
        "boxes are turned by 90 degrees, so headings seem to count from the y axis, or length and "
        "width to be swapped",
        "write heading + pi/2, or swap dx (length, along the heading) and dy (width)",
    ),
    Change(
        "headings",
        "rotation_y",
        _turned(True, -np.pi / 2),
        "headings are replaced by -heading - pi/2, so they seem to be rotation_y of a camera, or "
        "to count clockwise from the y axis",
        "write -rotation_y - pi/2 as the heading",
    ),
)


def _reordered(order: tuple[int, int, int]) -> BoxChange:
    def change(box: np.ndarray) -> np.ndarray:
        box[3:6] = box[3:6][list(order)]
        return box

    return change


# How sizes may have been written -> the places of length, width and height in them.
ORDERS = {
    "height, width, length": (2, 1, 0),
    "length, height, width": (0, 2, 1),
    "width, height, length": (2, 0, 1),
    "height, length, width": (1, 2, 0),
}


def _orders() -> Iterator[Change]:
    for name, order in ORDERS.items():
        yield Change(
            "box_sizes",
            name,
            _reordered(order),
            f"their sizes are read as {name}",
            "write the sizes as dx (length), dy (width), dz (height)",
        )


def _moved(dx_m: float, dy_m: float) -> BoxChange:
    def change(box: np.ndarray) -> np.ndarray:
        box[0] += dx_m
        box[1] += dy_m
        return box

    return change


def _in_axes(along: float, across: float) -> BoxChange:
    """Shift by these shares of length and width, along the axes of the box."""

    def change(box: np.ndarray) -> np.ndarray:
        forward = along * box[3]
        left = across * box[4]
        cosine, sine = np.cos(box[6]), np.sin(box[6])
        box[0] += forward * cosine - left * sine
        box[1] += forward * sine + left * cosine
        return box

    return change


# Places of a box that may stand in the labels, as shares of length and width to its middle.
PLACES = {
    "rear end": (0.5, 0.0),
    "front end": (-0.5, 0.0),
    "right side": (0.0, 0.5),
    "left side": (0.0, -0.5),
    "rear right corner": (0.5, 0.5),
    "rear left corner": (0.5, -0.5),
    "front right corner": (-0.5, 0.5),
    "front left corner": (-0.5, -0.5),
}


def _shifts() -> Iterator[Change]:
    """Places that are not the middle of a box, and constant shifts."""
    for name, (along, across) in PLACES.items():
        yield Change(
            "scene_frame",
            name,
            _in_axes(along, across),
            f"the labelled place is the {name} of a box",
            "write the middle of the box as its place",
            trust=TRUST_IN_SHIFTS,
        )
    for dx in SHIFTS_M:
        for dy in SHIFTS_M:
            if dx or dy:
                yield _shift(float(dx), float(dy))


def _shift(dx: float, dy: float) -> Change:
    return Change(
        "scene_frame",
        f"moved by {dx:g} {dy:g}",
        _moved(dx, dy),
        f"boxes are moved by {dx:g} m along x and {dy:g} m along y, so labels and points seem to "
        "have different origins",
        f"add {dx:g} and {dy:g} m to x and y of the boxes, or transform the labels into the "
        "sensor's frame",
        trust=TRUST_IN_SHIFTS,
    )


# The simplest first: of changes that explain equally much, the first counts.
ALL_CHANGES = (*HEADINGS, *_orders(), *_shifts())


@dataclass
class Diagnosis:
    """What is wrong with the geometry of the labels.

    Attributes:
        clear: class -> the change that mends most of its boxes.
        partial: class -> the change of headings that mends some of its boxes.
        too_large: class -> share of the points that a smaller box keeps.
        too_small: class -> how many times the points a doubled box holds.
    """

    clear: dict[str, Verdict] = field(default_factory=dict)
    partial: dict[str, Verdict] = field(default_factory=dict)
    too_large: dict[str, float] = field(default_factory=dict)
    too_small: dict[str, float] = field(default_factory=dict)


def diagnose(case: Case) -> Diagnosis:
    """The diagnosis of a case, made once."""
    if case.diagnosis is None:
        case.diagnosis = _diagnose(case)
    assert isinstance(case.diagnosis, Diagnosis)
    return case.diagnosis


def _diagnose(case: Case) -> Diagnosis:
    diagnosis = Diagnosis()
    objects = case.objects()
    names = list(dict.fromkeys(labelled.name for _, labelled in objects))
    for name in names:
        share = points_left(of_class(objects, name))
        if share >= LEFT_IN_SMALLER:
            diagnosis.too_large[name] = share
    clear = clear_changes(case, ALL_CHANGES)
    diagnosis.too_small = _too_small(case, clear)
    wrong_size = {*diagnosis.too_large, *diagnosis.too_small}
    diagnosis.clear = {n: v for n, v in clear.items() if n not in wrong_size}
    for name in names:
        if name in diagnosis.clear or name in wrong_size:
            continue
        verdicts = judge_changes(of_class(objects, name), HEADINGS)
        partial = [verdict for verdict in verdicts if verdict.is_partial]
        if partial:
            diagnosis.partial[name] = max(partial, key=lambda verdict: verdict.votes.gains)
    return diagnosis


def _too_small(case: Case, clear: Mapping[str, Verdict]) -> dict[str, float]:
    """Classes with boxes of half the size -> how many times the points a doubled box holds.

    A doubled box also catches walls and neighbours. So the points that it gains must lie in its
    outer shell, where the surface of an object of twice the size is; or most classes gain.
    """
    objects = case.objects()
    names = list(dict.fromkeys(labelled.name for _, labelled in objects))
    gains = {n: gain_of_doubled(of_class(objects, n), clear.get(n)) for n in names}
    seen = {name: gain for name, gain in gains.items() if gain.times > 0}
    small = {name: gain for name, gain in seen.items() if gain.times >= GAIN_OF_DOUBLED}
    most_gain = len(small) > len(seen) / 2
    return {name: gain.times for name, gain in small.items() if most_gain or gain.shell >= IN_SHELL}


def points_left(objects: Objects) -> float:
    """The usual share of the points of a box that a smaller box in it keeps; 0 for few objects.

    Points lie on the outlines of objects. A smaller box keeps few of them, unless the box was too
    large.
    """
    chosen = sampled(objects)
    boxes = [labelled for _, labelled in chosen]
    counts = counts_of_changes(
        boxes, [unchanged, scaled(SMALLER)], grounded=is_off_ground(chosen)
    ).astype(float)
    seen = counts[:, 0] >= LEAST_SEEN
    if seen.sum() < LEAST_OBJECTS:
        return 0.0
    return float(np.median(counts[seen, 1] / counts[seen, 0]))


class Gain(NamedTuple):
    """What a doubled box holds, in the median of some objects.

    Attributes:
        times: its points, of those of the box; 0 where another change explains more.
        shell: share of its points that lie outside a box of 1.5 times the size.
    """

    times: float
    shell: float


def gain_of_doubled(objects: Objects, clear: Verdict | None) -> Gain:
    """What boxes of twice the size hold.

    A box that is moved beside its object holds many more points when it is doubled, but as many
    when it is moved back. A box of half the size catches one side of the object at best.
    """
    chosen = sampled(objects)
    boxes = [labelled for _, labelled in chosen]
    changes = [unchanged, scaled(1.5), scaled(2.0)]
    counts = counts_of_changes(boxes, changes, grounded=is_off_ground(chosen)).astype(float)
    own, larger, doubled = counts.T
    if clear is not None and clear.votes.after > EXPLAINED * doubled.sum():
        return Gain(0.0, 0.0)
    seen = doubled >= LEAST_SEEN
    if seen.sum() < LEAST_OBJECTS:
        return Gain(0.0, 0.0)
    times = float(np.median(doubled[seen] / np.maximum(own[seen], 1)))
    shell = float(np.median(1 - larger[seen] / doubled[seen]))
    return Gain(times, shell)


def scaled(factor: float) -> BoxChange:
    """The box with its sizes multiplied."""

    def change(box: np.ndarray) -> np.ndarray:
        box[3:6] *= factor
        return box

    return change


def report(case: Case, check: str) -> Iterator[Finding]:
    """The clear changes that a check reports."""
    chosen = {n: v for n, v in diagnose(case).clear.items() if v.change.check == check}
    for names in grouped(chosen):
        yield finding_of(names, [chosen[name] for name in names])


def finding_of(names: Iterable[str], verdicts: list[Verdict]) -> Finding:
    """The finding for classes whose boxes one change mends."""
    first = verdicts[0]
    return Finding(
        first.change.check,
        Severity.ERROR,
        f"class {listed(names)}, frame {listed(first.frames)}",
        f"points fit better if {first.change.what}; {points_text(verdicts)}",
        fix=first.change.fix,
        frames=first.frames,
    )
