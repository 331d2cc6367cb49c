"""Where the text beside a box goes: near it, over nothing else, and never over another text.

A text is tried on all sides of its box, first close to it and then farther and farther away. The
first place that covers nothing is taken. A text that is not close gets a line to its box. Where all
places cover another text it is left out: the boxes come best first, so that it is one of the less
certain ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

TEXT_PT = 8.5  # height of the letters
LETTER_WIDTH = 0.62  # of their height
REACHES_PT = (3.0, 12.0, 24.0, 40.0, 60.0, 85.0)  # between a box and its text
LEADER_FROM_PT = 8.0  # a text as far from its box as this gets a line
# What it costs to cover another thing, in shares of the text's area. Texts must not be covered.
COST_OF_TEXT = 100.0
COST_OF_BOX = 2.0
COST_OUTSIDE = 100.0
COST_OF_REACH = 0.004  # a point of distance
MOST_COVERED = 0.02  # of a text's area by another text


class Limits(NamedTuple):
    """The part of the sensor's ground plane that a picture shows, in metres."""

    x0: float
    y0: float
    x1: float
    y1: float

    def hold(self, box: np.ndarray) -> bool:
        """Whether the middle of a box (7 or more,) is in the picture; not for NaN."""
        return bool(self.x0 <= box[0] <= self.x1 and self.y0 <= box[1] <= self.y1)


class Rectangle(NamedTuple):
    """A place in the picture: metres to the right of the sensor and in front of it."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        """Square metres."""
        return (self.right - self.left) * (self.top - self.bottom)

    def overlap(self, other: Rectangle) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def area_outside(self, other: Rectangle) -> float:
        """The area of this rectangle that ``other`` does not cover."""
        return self.area - self.overlap(other)


def bounds(outline: np.ndarray) -> Rectangle:
    """The upright rectangle around corners ``(N, 2)``."""
    left, bottom = outline.min(axis=0)
    right, top = outline.max(axis=0)
    return Rectangle(float(left), float(bottom), float(right), float(top))


def place_labels(
    boxes: Sequence[Rectangle],
    texts: Sequence[str],
    limits: Limits,
    metres_per_point: float,
    obstacles: Sequence[Rectangle] = (),
) -> list[Rectangle | None]:
    """The place of each box's text; None for a text that could only cover another one.

    Args:
        boxes: the best first.
        texts: one a box.
        metres_per_point: metres of the ground that a typographic point of the picture shows.
        obstacles: other things that texts rather keep clear of.
    """
    panel = Rectangle(-limits.y1, limits.x0, -limits.y0, limits.x1)
    height = TEXT_PT * metres_per_point
    shapes = [*boxes, *obstacles]
    taken: list[Rectangle] = []
    places: list[Rectangle | None] = []
    for box, text in zip(boxes, texts):
        width = LETTER_WIDTH * height * len(text)
        best = _best_place(box, (width, height), shapes, taken, panel, metres_per_point)
        is_seen = box.overlap(panel) > 0 and best.area_outside(panel) == 0
        if is_seen and _covered(best, taken) <= MOST_COVERED * best.area:
            taken.append(best)
            places.append(best)
        else:
            places.append(None)
    return places


def _best_place(
    box: Rectangle,
    size: tuple[float, float],
    shapes: Sequence[Rectangle],
    taken: Sequence[Rectangle],
    panel: Rectangle,
    metres_per_point: float,
) -> Rectangle:
    """The first place that covers nothing, else the one that covers least."""
    costs: list[tuple[float, Rectangle]] = []
    for reach_pt in REACHES_PT:
        for place in _places_around(box, size, reach_pt * metres_per_point):
            covered = COST_OF_TEXT * _covered(place, taken) + COST_OF_BOX * _covered(place, shapes)
            covered += COST_OUTSIDE * place.area_outside(panel)
            if covered == 0:
                return place
            costs.append((covered / place.area + COST_OF_REACH * reach_pt, place))
    return min(costs)[1]


def _places_around(box: Rectangle, size: tuple[float, float], reach: float) -> Iterator[Rectangle]:
    """Places at one distance from a box, the preferred one first: to the right of its top."""
    width, height = size
    right = box.right + reach
    left = box.left - reach - width
    above = box.top + reach
    below = box.bottom - reach - height
    middle = (box.left + box.right - width) / 2
    corners = [
        (right, box.top - height),
        (right, box.bottom),
        (left, box.top - height),
        (left, box.bottom),
        (middle, above),
        (middle, below),
        (right, above),
        (right, below),
        (left, above),
        (left, below),
    ]
    for x, y in corners:
        yield Rectangle(x, y, x + width, y + height)


def _covered(place: Rectangle, taken: Iterable[Rectangle]) -> float:
    """How much of ``place`` is taken, counted once for each thing that takes it."""
    return sum(place.overlap(other) for other in taken)


def leader_of(box: Rectangle, place: Rectangle, metres_per_point: float) -> np.ndarray | None:
    """(2, 2) the line from a text to its box; None for a text that is close to it."""
    in_text = _nearest(place, box)
    in_box = _nearest(box, place)
    line = np.array([in_text, in_box])
    length = float(np.linalg.norm(line[1] - line[0]))
    return line if length >= LEADER_FROM_PT * metres_per_point else None


def _nearest(one: Rectangle, other: Rectangle) -> tuple[float, float]:
    """The place in ``one`` that is nearest to the middle of ``other``."""
    x = (other.left + other.right) / 2
    y = (other.bottom + other.top) / 2
    return min(max(x, one.left), one.right), min(max(y, one.bottom), one.top)
