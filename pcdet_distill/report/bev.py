"""A frame from above as SVG: points, rings, and boxes with class, score and heading.

Forward (the sensor's x) is up, the sensor's left is left, as in ``visualize``. Points that share a
cell of the picture are one dot, so a frame of 20,000 points takes some 40 kB. Several pictures of a
frame share its points: the first holds them, the others point to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from ..visualize import (
    Limits,
    Rectangle,
    bounds,
    box_outline,
    leader_of,
    place_labels,
    to_picture,
)
from .page import Html
from .plots import SERIES

WIDTH = 440.0  # units of the picture; they are about as large as the pixels of a phone
RING_STEP_M = 10.0
MOST_DOTS = 6000
CELL = 1.1  # units of the picture that one dot stands for
# Heights of the points in metres between which they are dim, middling, bright.
HEIGHTS_M = (-1.2, 0.3)
BANDS = ("low", "mid", "high")
MARK_RADIUS = 11.0


@dataclass(frozen=True)
class BoxSet:
    """Boxes that are drawn alike.

    Args:
        boxes: (N, 7 or more): x, y, z, dx, dy, dz in metres, heading in radians.
        labels: written beside each box, such as ``Car .93``; empty for none.
        colours: (N,) numbers of their colours, 0 to 7.
        titles: what pointing at a box shows.
        is_truth: dashed outlines in the colour of the text, for labels.
        marked: (N,) mask of the boxes with a circle around them, to find them at once.
    """

    boxes: np.ndarray
    labels: Sequence[str] = ()
    colours: Sequence[int] = ()
    titles: Sequence[str] = ()
    is_truth: bool = False
    marked: Sequence[bool] | None = None


@dataclass
class Frame:
    """The points of one frame, drawn once however many pictures show them.

    Args:
        points: (N, 3 or more).
        limits: the part of the ground that is shown, in metres.
        key: a name that no other frame of the page has.
    """

    points: np.ndarray
    limits: Limits
    key: str
    _drawn: bool = field(default=False, init=False)

    @property
    def scale(self) -> float:
        """Units of the picture for a metre."""
        return WIDTH / (self.limits.y1 - self.limits.y0)

    @property
    def height(self) -> float:
        """Height of the picture in its units."""
        return (self.limits.x1 - self.limits.x0) * self.scale

    def to_units(self, places: np.ndarray) -> np.ndarray:
        """Places (N, 2) in the picture in metres, right and up -> units from the upper left."""
        right = (places[:, 0] + self.limits.y1) * self.scale
        down = (self.limits.x1 - places[:, 1]) * self.scale
        return np.stack([right, down], axis=1)

    def points_svg(self) -> str:
        """The points; from the second picture on a reference to those of the first."""
        name = f"points-{self.key}"
        if self._drawn:
            return f"<use href='#{name}'/>"
        self._drawn = True
        return f"<g id='{name}' class='points' stroke-width='1.6'>{self._packed_points()}</g>"

    def _packed_points(self) -> str:
        shown = points_within(self.points, self.limits)
        units = self.to_units(to_picture(shown))
        band = np.digitize(shown[:, 2], HEIGHTS_M)
        cells = np.unique(np.column_stack([band, np.floor(units / CELL)]).astype(int), axis=0)
        if len(cells) > MOST_DOTS:
            cells = cells[np.linspace(0, len(cells) - 1, MOST_DOTS).astype(int)]
        paths = []
        for number, name in enumerate(BANDS):
            own = cells[cells[:, 0] == number, 1:]
            paths.append(f"<path class='{name}' d='{_dots(own)}'/>")
        return f"<g transform='scale({CELL})'>{''.join(paths)}</g>"


def points_within(points: np.ndarray, limits: Limits) -> np.ndarray:
    """The finite points (M, 3) inside the limits."""
    places = np.asarray(points, dtype=np.float64)[:, :3]
    places = places[np.isfinite(places).all(axis=1)]
    x, y = places[:, 0], places[:, 1]
    inside = (x >= limits.x0) & (x < limits.x1) & (y > limits.y0) & (y <= limits.y1)
    return places[inside]


def _dots(cells: np.ndarray) -> str:
    """Dots (N, 2) as one path: each is a move from the last and a line of no length."""
    steps = np.diff(cells, axis=0, prepend=np.zeros((1, 2), dtype=int))
    return "".join(f"m{x} {y}h0" for x, y in steps.tolist())


def bev_svg(frame: Frame, box_sets: Sequence[BoxSet], about: str = "frame from above") -> Html:
    """The picture of one frame with its boxes, the later sets over the earlier ones."""
    parts = [f"<rect class='ground' width='{WIDTH:g}' height='{frame.height:.1f}'/>"]
    rings, distances = _rings(frame)
    parts += [rings, frame.points_svg(), distances]
    parts += [_boxes_svg(frame, boxes) for boxes in box_sets]
    parts.append(_labels_svg(frame, box_sets))
    return Html(
        f"<div class='bev'><svg viewBox='0 0 {WIDTH:g} {frame.height:.1f}' role='img' "
        f"aria-label='{escape(about)}'>{''.join(parts)}</svg></div>"
    )


def _rings(frame: Frame) -> tuple[str, str]:
    """Circles every 10 m around the sensor, every 20 m where many would fit; and their numbers."""
    limits = frame.limits
    furthest = float(np.hypot(max(abs(limits.x0), limits.x1), max(abs(limits.y0), limits.y1)))
    step = RING_STEP_M if furthest <= 60 else 2 * RING_STEP_M
    right, down = frame.to_units(np.zeros((1, 2)))[0]
    circles = []
    numbers = []
    for radius_m in np.arange(step, furthest, step):
        radius = radius_m * frame.scale
        circles.append(f"<circle class='ring' cx='{right:.1f}' cy='{down:.1f}' r='{radius:.1f}'/>")
        if limits.x0 < radius_m < limits.x1:
            numbers.append(
                f"<text class='tick' x='{right + 3:.1f}' y='{down - radius - 3:.1f}'>"
                f"{radius_m:g} m</text>"
            )
    return "".join(circles), "".join(numbers)


def _boxes_svg(frame: Frame, boxes: BoxSet) -> str:
    drawn = []
    for number, box in enumerate(boxes.boxes):
        if not np.isfinite(box[:7]).all():
            continue
        outline = frame.to_units(box_outline(box))
        colour = _colour_class(boxes, number)
        title = f"<title>{escape(boxes.titles[number])}</title>" if boxes.titles else ""
        kind = "truth" if boxes.is_truth else "box"
        shape = (
            f"<path class='{kind}' d='{_closed(outline)}'>{title}</path>{_front(outline, boxes)}"
        )
        if boxes.marked is not None and boxes.marked[number]:
            shape += _mark(outline)
        drawn.append(f"<g class='{colour}'>{shape}</g>")
    return "".join(drawn)


def _colour_class(boxes: BoxSet, number: int) -> str:
    if boxes.is_truth or not len(boxes.colours):
        return "ink"
    return f"s{boxes.colours[number] % SERIES}"


def _front(outline: np.ndarray, boxes: BoxSet) -> str:
    """A wedge (full for detections, a line for labels) from the middle to the front."""
    centre = outline.mean(axis=0)
    tip = outline[:2].mean(axis=0)
    if boxes.is_truth:
        return f"<path class='truth' d='M{_pair(centre)}L{_pair(tip)}'/>"
    base = centre + 0.45 * (outline[:2] - tip)
    return f"<path class='front' d='{_closed(np.vstack([tip, base]))}'/>"


def _mark(outline: np.ndarray) -> str:
    """A circle around a box, large enough to be seen around a pedestrian."""
    right, down = outline.mean(axis=0)
    radius = max(MARK_RADIUS, 1.15 * float(np.linalg.norm(outline[0] - outline.mean(axis=0))))
    return f"<circle class='mark' cx='{right:.1f}' cy='{down:.1f}' r='{radius:.1f}'/>"


def _labels_svg(frame: Frame, box_sets: Sequence[BoxSet]) -> str:
    """The labels, where they cover neither boxes nor each other; one without room is left out."""
    rectangles: list[Rectangle] = []
    texts: list[str] = []
    colours: list[str] = []
    for boxes in box_sets:
        for number, label in enumerate(boxes.labels):
            box = boxes.boxes[number]
            if label and np.isfinite(box[:7]).all() and frame.limits.hold(box):
                rectangles.append(bounds(box_outline(box)))
                texts.append(label)
                colours.append(_colour_class(boxes, number))
    # place_labels counts in metres: a unit of the picture is 1 / scale of them.
    size = 1.5 / frame.scale
    drawn = []
    for shape, label, colour, place in zip(
        rectangles, texts, colours, place_labels(rectangles, texts, frame.limits, size)
    ):
        if place is not None:
            drawn.append(_leader_svg(frame, leader_of(shape, place, size), colour))
            drawn.append(_label_svg(frame, label, place, colour))
    return "".join(drawn)


def _leader_svg(frame: Frame, line: np.ndarray | None, colour: str) -> str:
    """The line from a label to its box, where it stands apart from it."""
    if line is None:
        return ""
    start, end = frame.to_units(line)
    return f"<path class='leader {colour}' d='M{_pair(start)}L{_pair(end)}'/>"


def _label_svg(frame: Frame, label: str, place: Rectangle, colour: str) -> str:
    right, down = frame.to_units(np.array([[place.left, place.bottom]]))[0]
    return f"<text class='{colour}' x='{right:.1f}' y='{down - 2:.1f}'>{escape(label)}</text>"


def _closed(corners: np.ndarray) -> str:
    return "M" + "L".join(_pair(corner) for corner in corners) + "Z"


def _pair(place: np.ndarray) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"
