"""A slow LiDAR evaluation straight from the definitions, to compare with.

For every score it matches again from the beginning, with the detections of that score or more. The
overlap is found by clipping polygons in plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]
Fit = Callable[[Sequence[float], Sequence[float]], float]


class Thing(NamedTuple):
    """An object, or a detection with its score; ``counts`` is False for what is neutral."""

    box: Sequence[float]
    counts: bool
    score: float = 0.0


Frame = tuple[list[Thing], list[Thing]]


def outline(box: Sequence[float]) -> list[Point]:
    """The four corners of a box on the ground, counterclockwise."""
    x, y, _, length, width, _, heading = box[:7]
    corners = []
    for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        forward = along * length / 2
        left = across * width / 2
        corner_x = x + forward * math.cos(heading) - left * math.sin(heading)
        corner_y = y + forward * math.sin(heading) + left * math.cos(heading)
        corners.append((corner_x, corner_y))
    return corners


def side(start: Point, end: Point, point: Point) -> float:
    """Positive to the left of the line from start to end."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def common_area(box: Sequence[float], other: Sequence[float]) -> float:
    """The area of one outline cut by every edge of the other."""
    polygon = outline(box)
    edges = outline(other)
    for start, end in zip(edges, edges[1:] + edges[:1]):
        kept = []
        for here, after in zip(polygon, polygon[1:] + polygon[:1]):
            inside = side(start, end, here)
            inside_after = side(start, end, after)
            if inside >= 0:
                kept.append(here)
            if inside * inside_after < 0:
                share = inside / (inside - inside_after)
                x = here[0] + share * (after[0] - here[0])
                y = here[1] + share * (after[1] - here[1])
                kept.append((x, y))
        polygon = kept
    turned = polygon[1:] + polygon[:1]
    doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, turned))
    return doubled / 2


def bev_iou(box: Sequence[float], other: Sequence[float]) -> float:
    shared = common_area(box, other)
    return shared / (box[3] * box[4] + other[3] * other[4] - shared)


def iou_3d(box: Sequence[float], other: Sequence[float]) -> float:
    top = min(box[2] + box[5] / 2, other[2] + other[5] / 2)
    bottom = max(box[2] - box[5] / 2, other[2] - other[5] / 2)
    shared = common_area(box, other) * max(0, top - bottom)
    sizes = math.prod(box[3:6]) + math.prod(other[3:6])
    return shared / (sizes - shared)


def nearness(box: Sequence[float], other: Sequence[float]) -> float:
    return -math.hypot(box[0] - other[0], box[1] - other[1])


def count(frames: Sequence[Frame], fit: Fit, least: float, floor: float) -> tuple[int, int]:
    """Right and wrong detections among those of the score ``floor`` or more."""
    num_right = 0
    num_wrong = 0
    for objects, detections in frames:
        free = list(objects)
        chosen = [thing for thing in detections if thing.score >= floor]
        for thing in sorted(chosen, key=lambda detection: -detection.score):
            fitting = [other for other in free if fit(thing.box, other.box) > least]
            counted = [other for other in fitting if other.counts]
            candidates = counted or fitting
            if candidates:
                best = max(candidates, key=lambda other: fit(thing.box, other.box))
                free.remove(best)
                num_right += best.counts
            else:
                num_wrong += thing.counts
    return num_right, num_wrong


def curve(frames: Sequence[Frame], fit: Fit, least: float) -> list[tuple[float, float]]:
    """Recall and precision at every score, from the best score down."""
    num_objects = sum(thing.counts for objects, _ in frames for thing in objects)
    scores = {thing.score for _, detections in frames for thing in detections}
    points = []
    for floor in sorted(scores, reverse=True):
        num_right, num_wrong = count(frames, fit, least, floor)
        if num_right + num_wrong:
            points.append((num_right / num_objects, num_right / (num_right + num_wrong)))
    return points


def exact_area(points: Sequence[tuple[float, float]]) -> float:
    """The area below the best precision of each recall and more, in percent."""
    area = 0.0
    before = 0.0
    for index, (recall, _) in enumerate(points):
        best = max(precision for _, precision in points[index:])
        area += (recall - before) * best
        before = recall
    return 100 * area


def kitti_points(points: Sequence[tuple[float, float]], num_objects: int) -> list[float]:
    """KITTI's 41 precisions: each is read where the recall comes nearest to the wanted one."""
    hits = []  # one point for every right detection: the precision at its score
    before = 0.0
    for recall, precision in points:
        for _ in range(round((recall - before) * num_objects)):
            hits.append(precision)
        before = recall
    wanted = 0.0
    read: list[float] = []
    for index, precision in enumerate(hits):
        here = (index + 1) / num_objects
        after = (index + 2) / num_objects
        is_last = index == len(hits) - 1
        if not is_last and after - wanted < wanted - here:
            continue
        if len(read) == 41:
            break
        read.append(precision)
        wanted += 1 / 40
    best = [max(read[index:]) for index in range(len(read))]
    return best + [0.0] * (41 - len(best))


def recall_percent(points: Sequence[tuple[float, float]]) -> float:
    return 100 * max((recall for recall, _ in points), default=0.0)


def mean_percent(values: Sequence[float]) -> float:
    return 100 * float(np.mean(values))
