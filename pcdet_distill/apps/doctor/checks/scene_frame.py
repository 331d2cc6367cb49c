"""Boxes and points in different coordinate frames: axes swapped or mirrored, a constant shift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ....datasets.facts import spread
from ....datasets.labelled_objects import ABOVE_GROUND_M, LEAST_POINTS, has_size, tall
from ....ops.boxes import enlarge_box3d
from ....ops.points import points_in_boxes_mask
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent
from ..frames import Frame, Split
from ..geometry import Diagnosis, report

CHECK = "scene_frame"
# A box fits a place where it holds points above the ground and the ground around it is free.
RING_M = 1.2
INSIDE_SHARE = 0.7
LEAST_FITTING = 5
FITS_WELL = 0.5  # of the boxes: then the axes are right
BETTER = 2.0
LEAST_SHARE = 0.08  # of the boxes that fit after a change
MOST_SCENES = 14
CELL_M = 2.0  # of the map of the ground
OWN_AXES = "write boxes in the coordinates of the points: x forward, y left, z up, in metres"


class Axes(NamedTuple):
    """A way in which boxes (M, 7) may be meant: their centres, their headings, and a text."""

    name: str
    move: Callable[[np.ndarray], np.ndarray]


def _axes(
    x: tuple[int, float], y: tuple[int, float], turn: tuple[float, float]
) -> Callable[[np.ndarray], np.ndarray]:
    """New x and y as (old column, sign); the new heading is turn[0] * heading + turn[1]."""

    def move(boxes: np.ndarray) -> np.ndarray:
        moved = boxes.copy()
        moved[:, 0] = x[1] * boxes[:, x[0]]
        moved[:, 1] = y[1] * boxes[:, y[0]]
        moved[:, 6] = turn[0] * boxes[:, 6] + turn[1]
        return moved

    return move


QUARTER = np.pi / 2
ALL_AXES = (
    Axes(
        "x and y of the boxes are turned by 90 degrees (x' = y, y' = -x)",
        _axes((1, 1), (0, -1), (1, -QUARTER)),
    ),
    Axes(
        "x and y of the boxes are turned by -90 degrees (x' = -y, y' = x)",
        _axes((1, -1), (0, 1), (1, QUARTER)),
    ),
    Axes(
        "x and y of the boxes are turned by 180 degrees (x' = -x, y' = -y)",
        _axes((0, -1), (1, -1), (1, np.pi)),
    ),
    Axes("y of the boxes is negated (left and right are swapped)", _axes((0, 1), (1, -1), (-1, 0))),
    Axes(
        "x of the boxes is negated (front and back are swapped)",
        _axes((0, -1), (1, 1), (-1, np.pi)),
    ),
    Axes("x and y of the boxes are swapped", _axes((1, 1), (0, 1), (-1, QUARTER))),
    Axes("x and y of the boxes are swapped and negated", _axes((1, -1), (0, -1), (-1, -QUARTER))),
    Axes(
        "boxes are moved from camera coordinates (x' = z, y' = -x)",
        _axes((2, 1), (0, -1), (-1, -QUARTER)),
    ),
    Axes("y of the boxes is negated and their headings are kept", _axes((0, 1), (1, -1), (1, 0))),
    Axes(
        "x and y of the boxes are swapped and their headings are kept",
        _axes((1, 1), (0, 1), (1, 0)),
    ),
)


class Scene(NamedTuple):
    """What a frame shows above the ground, and what is labelled in it."""

    raised: np.ndarray  # (K, 3) points
    boxes: np.ndarray  # (M, 7)
    split: Split
    frame: Frame


def check_scene_frame(case: Case) -> Iterator[Finding]:
    """Whether the boxes lie where the points show objects."""
    scenes = scenes_of(case)
    own, number = fitting(scenes)
    if number >= LEAST_FITTING and own < FITS_WELL * number:
        for finding in _other_axes(scenes, own, number):
            # Nothing else can be said of boxes that lie elsewhere.
            case.diagnosis = Diagnosis()
            yield finding
            return
    yield from report(case, CHECK)


def scenes_of(case: Case) -> list[Scene]:
    """Scenes of some frames of all splits."""
    scenes = []
    clouds = [(split, frame) for split in case.splits.values() for frame in split.clouds]
    for place in spread(len(clouds), MOST_SCENES):
        split, frame = clouds[place]
        if frame.objects is None or frame.points is None:
            continue
        rows = [labelled.box[:7] for labelled in frame.objects.objects if has_size(labelled)]
        if rows:
            scenes.append(Scene(raised_points(frame.points), np.array(rows), split, frame))
    return scenes


def best_axes(scenes: Sequence[Scene]) -> tuple[Axes, int]:
    """The other axes in which most boxes fit, and how many do."""
    results = [fitting(scenes, axes.move)[0] for axes in ALL_AXES]
    best = int(np.argmax(results))
    return ALL_AXES[best], results[best]


def _other_axes(scenes: Sequence[Scene], own: int, number: int) -> Iterator[Finding]:
    axes, fit = best_axes(scenes)
    if fit < max(BETTER * own, LEAST_FITTING) or fit < LEAST_SHARE * number:
        return
    names = tuple(scene.frame.name for scene in scenes)
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"labels, frame {listed(names)}",
        f"only {percent(own / number)} of {number} boxes lie where the points show an object, but "
        f"{percent(fit / number)} do if {axes.name}: labels and points have different axes",
        fix=OWN_AXES,
        frames=names[:4],
    )


def as_labelled(boxes: np.ndarray) -> np.ndarray:
    """The boxes as they are."""
    return boxes


def fitting(
    scenes: Sequence[Scene], move: Callable[[np.ndarray], np.ndarray] = as_labelled
) -> tuple[int, int]:
    """How many moved boxes hold an object that stands free, and how many boxes there are."""
    fit = total = 0
    for scene in scenes:
        boxes = move(scene.boxes).astype(np.float32)
        inside = points_in_boxes_mask(scene.raised, tall(boxes)).sum(axis=1, dtype=np.int64)
        larger = tall(enlarge_box3d(boxes, (RING_M, RING_M, 0)))
        around = points_in_boxes_mask(scene.raised, larger).sum(axis=1, dtype=np.int64)
        is_free = inside >= INSIDE_SHARE * around
        fit += int(((inside >= LEAST_POINTS) & is_free).sum())
        total += len(boxes)
    return fit, total


def raised_points(points: np.ndarray) -> np.ndarray:
    """The points (K, 3) that lie above the lowest ones of their cell of the ground plane."""
    places = points[np.isfinite(points[:, :3]).all(axis=1), :3].astype(np.float64)
    if len(places) == 0:
        return places
    cells = np.floor(places[:, :2] / CELL_M).astype(np.int64)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = cell.ravel()
    lowest = np.full(cell.max() + 1, np.inf)
    np.minimum.at(lowest, cell, places[:, 2])
    return places[places[:, 2] > lowest[cell] + ABOVE_GROUND_M]
