"""Sizes of boxes: mixed-up dimensions, half or double sizes, boxes of odd size for their class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....texts import listed
from ..case import Case, frame_names, of_class
from ..changes import Objects
from ..finding import Finding, Severity, numbers, percent
from ..geometry import SMALLER, diagnose, report

CHECK = "box_sizes"
LEAST_OBJECTS = 6
ODD_FACTOR = 2.5  # of the median of a class, in any dimension
ODD_SHARE = 0.05
ELONGATED = 1.5  # length of width: then a swap shows in the sizes alone
CLEARLY_WIDER = 1.2
SWAPPED_SHARE = 0.03
# Median length, width and height in metres that other data sets have, with room on both sides.
USUAL = {
    "car": ((3.0, 1.3, 1.1), (5.8, 2.4, 2.4)),
    "vehicle": ((3.0, 1.3, 1.1), (9.0, 3.0, 3.5)),
    "pedestrian": ((0.3, 0.3, 1.1), (1.4, 1.3, 2.2)),
    "person": ((0.3, 0.3, 1.1), (1.4, 1.3, 2.2)),
    "cyclist": ((1.2, 0.4, 1.1), (2.6, 1.2, 2.2)),
    "truck": ((4.0, 1.6, 1.8), (17.0, 3.6, 4.6)),
    "bus": ((6.0, 2.0, 2.4), (20.0, 3.8, 4.6)),
    "van": ((3.8, 1.5, 1.5), (8.0, 2.8, 3.4)),
}
DIMENSIONS = ("length", "width", "height")


def check_box_sizes(case: Case) -> Iterator[Finding]:
    """Whether sizes fit the points, the class, and each other."""
    yield from report(case, CHECK)
    diagnosis = diagnose(case)
    objects = case.objects()
    for name in dict.fromkeys(labelled.name for _, labelled in objects):
        of_name = of_class(objects, name)
        if len(of_name) < LEAST_OBJECTS:
            continue
        if name in diagnosis.too_large:
            yield _too_large(name, of_name, diagnosis.too_large[name])
        elif name in diagnosis.too_small:
            yield _too_small(name, of_name, diagnosis.too_small[name])
        yield from _unusual(name, of_name)
        yield from _swapped(name, of_name)
        yield from _odd(name, of_name)


def _too_large(name: str, objects: Objects, left: float) -> Finding:
    return Finding(
        CHECK,
        Severity.ERROR,
        f"class {name}, frame {listed(frame_names(objects))}",
        f"boxes of {SMALLER} of the size still hold {percent(left)} of the points: the sizes seem "
        f"to be too large (median {numbers(median_size(objects))})",
        fix="dx, dy and dz are full sizes in metres: not doubled, and not in feet",
        frames=frame_names(objects),
    )


def _too_small(name: str, objects: Objects, gain: float) -> Finding:
    return Finding(
        CHECK,
        Severity.ERROR,
        f"class {name}, frame {listed(frame_names(objects))}",
        f"boxes of twice the size hold {gain:.1f} times the points: the sizes seem to be half of "
        f"what they should be (median {numbers(median_size(objects))})",
        fix="dx, dy and dz are full sizes in metres, not halves and not radii",
        frames=frame_names(objects),
    )


def median_size(objects: Objects) -> np.ndarray:
    """(3,) medians of length, width and height."""
    return np.median([labelled.box[3:6] for _, labelled in objects], axis=0)


def _unusual(name: str, objects: Objects) -> Iterator[Finding]:
    """A class of a common name whose median size is far from that of other data sets."""
    usual = USUAL.get(name.lower())
    if usual is None:
        return
    middle = median_size(objects)
    low, high = np.array(usual)
    off = [
        f"{dimension} {value:.2f} m (usually {least:g} to {most:g})"
        for dimension, value, least, most in zip(DIMENSIONS, middle, low, high)
        if not least <= value <= most
    ]
    if off:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"class {name}",
            f"the median size of {len(objects)} boxes is unusual: {', '.join(off)}",
            fix="sizes are dx (length, along the heading), dy (width), dz (height) in metres",
            frames=frame_names(objects),
        )


def _swapped(name: str, objects: Objects) -> Iterator[Finding]:
    """Some boxes with length and width swapped among others that are right."""
    sizes = np.array([labelled.box[3:6] for _, labelled in objects])
    ratio = sizes[:, 0] / sizes[:, 1]
    usual = float(np.median(ratio))
    if 1 / ELONGATED < usual < ELONGATED:
        return
    # Of a class that is twice as long as wide, a swapped box is twice as wide as long.
    swapped = np.abs(np.log(ratio * usual)) < np.abs(np.log(ratio / usual)) / 2
    swapped &= (ratio < 1 / CLEARLY_WIDER) if usual > 1 else (ratio > CLEARLY_WIDER)
    share = float(swapped.mean())
    if swapped.sum() < 2 or share < SWAPPED_SHARE:
        return
    chosen = [pair for pair, is_swapped in zip(objects, swapped) if is_swapped]
    yield Finding(
        CHECK,
        Severity.WARNING,
        f"class {name}, frame {listed(frame_names(chosen))}",
        f"{int(swapped.sum())} of {len(objects)} boxes seem to have length and width swapped: their"
        f" length is about {1 / usual:.2f} of the width, while it is {usual:.2f} in the others",
        fix="dx is the length, along the heading, and dy the width",
        frames=frame_names(chosen),
    )


def _odd(name: str, objects: Objects) -> Iterator[Finding]:
    """Boxes whose size is far from the others of their class."""
    sizes = np.array([labelled.box[3:6] for _, labelled in objects])
    factor = sizes / np.median(sizes, axis=0)
    odd = ((factor > ODD_FACTOR) | (factor < 1 / ODD_FACTOR)).any(axis=1)
    if not odd.any():
        return
    chosen = [pair for pair, is_odd in zip(objects, odd) if is_odd]
    _, example = chosen[0]
    is_rare = odd.sum() < 3 or odd.mean() < ODD_SHARE
    yield Finding(
        CHECK,
        Severity.NOTE if is_rare else Severity.WARNING,
        f"class {name}, frame {listed(frame_names(chosen))}",
        f"{int(odd.sum())} of {len(objects)} boxes are more than {ODD_FACTOR} times larger or "
        f"smaller than usual in a dimension, such as {numbers(example.box[3:6])} where the median "
        f"is {numbers(np.median(sizes, axis=0))}",
        fix="check these boxes; if the class has several kinds of objects, give it several anchors",
        frames=frame_names(chosen),
    )
