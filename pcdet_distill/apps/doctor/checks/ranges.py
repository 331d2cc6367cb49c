"""POINT_CLOUD_RANGE against points and boxes: what is cut off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....datasets.labelled_objects import LabelledObject
from ..case import Case, frame_names
from ..finding import Finding, Severity, numbers, percent, worse
from ..frames import Frame
from ..grid import fitting_range, grid_changes

CHECK = "ranges"
SEEN_POINTS = 5  # a box with fewer points is not missed much
LOST_NOTE = 0.01
# Shares of lost objects from which a finding is an error, and a warning. To leave distant objects
# out can be meant, to leave out the nearer half of them cannot. Nor can heights.
LOST = (0.8, 0.5)
LOST_NEAR = (0.25, 0.05)
LOST_IN_Z = (0.3, 0.08)
POINTS_LEFT = 0.1  # share of points; a range that keeps fewer is likely another sensor's
CUT_HEIGHT = 0.25  # of a box
LEAST_CUT = 0.2  # share of boxes that are cut so, for a warning
WASTE = 4.0  # area of the range, of the area that holds boxes
LEAST_BOXES = 50  # to call a range wasteful

Objects = list[tuple[Frame, LabelledObject]]


def check_ranges(case: Case) -> Iterator[Finding]:
    """Whether objects and points lie inside the range."""
    limits = np.array(case.data["POINT_CLOUD_RANGE"], dtype=np.float64)
    yield from _points(case, limits)
    objects = [(f, o) for f, o in case.objects() if o.num_points >= SEEN_POINTS]
    if not objects:
        objects = case.objects()
    if not objects:
        return
    boxes = np.array([labelled.box[:7] for _, labelled in objects])
    outside = {}
    for axis, name in enumerate("xyz"):
        outside[name] = (boxes[:, axis] < limits[axis]) | (boxes[:, axis] > limits[axis + 3])
    in_plane = outside["x"] | outside["y"]
    yield from _lost_boxes(case, objects, in_plane, boxes)
    yield from _heights(case, objects, outside["z"], boxes, limits)
    if not in_plane.any() and len(boxes) >= LEAST_BOXES:
        yield from _waste(case, boxes, limits)


def _points(case: Case, limits: np.ndarray) -> Iterator[Finding]:
    for split in case.splits.values():
        shares = []
        for frame in split.clouds:
            assert frame.points is not None
            if len(frame.points) == 0:
                continue
            places = frame.points[:, :3]
            inside = (places >= limits[:3]) & (places <= limits[3:])
            shares.append([inside[:, :2].all(axis=1).mean(), inside.all(axis=1).mean()])
        if not shares:
            continue
        in_plane, in_all = np.mean(shares, axis=0)
        if in_all >= POINTS_LEFT:
            continue
        axes = "x and y" if in_plane < POINTS_LEFT else "z"
        yield Finding(
            CHECK,
            Severity.ERROR if in_all < POINTS_LEFT / 5 else Severity.WARNING,
            f"{case.key('POINT_CLOUD_RANGE')}; split {split.name}",
            f"only {percent(in_all)} of the points lie inside the range {numbers(limits)}, because "
            f"of {axes}",
            fix="set the range to where the objects are, in the coordinates of the points",
        )


def _lost_boxes(
    case: Case, objects: Objects, outside: np.ndarray, boxes: np.ndarray
) -> Iterator[Finding]:
    share = float(outside.mean())
    if share <= LOST_NOTE:
        return
    distance_m = np.hypot(boxes[:, 0], boxes[:, 1])
    near = distance_m <= np.median(distance_m)
    near_share = float(outside[near].mean())
    severity = worse(_severity(share, LOST), _severity(near_share, LOST_NEAR))
    lost = [pair for pair, is_outside in zip(objects, outside) if is_outside]
    low, high = np.percentile(boxes[:, :2], [1, 99], axis=0)
    hint = "" if severity is Severity.NOTE else _direction(boxes, outside)
    limits = fitting_range(case)
    yield Finding(
        CHECK,
        severity,
        case.key("POINT_CLOUD_RANGE"),
        f"{percent(share)} of the objects, and {percent(near_share)} of the nearer half of them, "
        "lie outside in x or y: they are not learnt, and count as missed in the evaluation; "
        f"objects are at x {low[0]:.1f} to {high[0]:.1f} m and y "
        f"{low[1]:.1f} to {high[1]:.1f} m{hint}",
        fix="extend the range; a larger range costs time and memory in proportion to its area",
        changes={} if severity is Severity.NOTE else grid_changes(case, limits),
        frames=frame_names(lost),
    )


def _direction(boxes: np.ndarray, outside: np.ndarray) -> str:
    """A hint for data whose forward axis is not x."""
    lost = boxes[outside, :2]
    if np.mean(np.abs(boxes[:, 1])) > 2 * np.mean(np.abs(boxes[:, 0])):
        return "; most lie along y, so perhaps the forward axis of the data is y and not x"
    if np.mean(boxes[:, 0] < 0) > 0.95:
        return "; nearly all lie behind the sensor, so perhaps x points backwards"
    if len(lost) and np.mean(lost[:, 0] < 0) > 0.8:
        return "; those outside are behind the sensor"
    return ""


def _severity(share: float, limits: tuple[float, float]) -> Severity:
    error, warning = limits
    if share > error:
        return Severity.ERROR
    return Severity.WARNING if share > warning else Severity.NOTE


def _heights(
    case: Case, objects: Objects, outside: np.ndarray, boxes: np.ndarray, limits: np.ndarray
) -> Iterator[Finding]:
    bottom = boxes[:, 2] - boxes[:, 5] / 2
    top = boxes[:, 2] + boxes[:, 5] / 2
    kept = np.minimum(top, limits[5]) - np.maximum(bottom, limits[2])
    cut = 1 - np.clip(kept, 0, None) / boxes[:, 5]
    lost_share = float(outside.mean())
    cut_share = float((cut > CUT_HEIGHT).mean())
    if lost_share <= LOST_NOTE and cut_share <= LEAST_CUT:
        return
    severity = _severity(lost_share, LOST_IN_Z)
    if cut_share > LEAST_CUT and severity is Severity.NOTE:
        severity = Severity.WARNING
    low, high = np.percentile(bottom, 1), np.percentile(top, 99)
    lost = [pair for pair, share in zip(objects, cut) if share > CUT_HEIGHT]
    what = f"{percent(lost_share)} of the objects have their centre outside in z"
    if cut_share > 0:
        what += f", and {percent(cut_share)} lose more than a quarter of their height"
    yield Finding(
        CHECK,
        severity,
        f"{case.key('POINT_CLOUD_RANGE')}, z",
        f"{what}: the range is z {limits[2]:g} to {limits[5]:g}, the objects reach from "
        f"{low:.1f} to {high:.1f} m",
        fix="move the z limits to the objects, with the edge of the voxels along z that fits them",
        changes={} if severity is Severity.NOTE else grid_changes(case, fitting_range(case)),
        frames=frame_names(lost),
    )


def _waste(case: Case, boxes: np.ndarray, limits: np.ndarray) -> Iterator[Finding]:
    low, high = np.percentile(boxes[:, :2], [0.5, 99.5], axis=0)
    used = float(np.prod(high - low + 4.0))
    area = float(np.prod(limits[3:5] - limits[:2]))
    if area < WASTE * used:
        return
    yield Finding(
        CHECK,
        Severity.NOTE,
        case.key("POINT_CLOUD_RANGE"),
        f"the range covers {area:.0f} square metres, {area / used:.0f} times the area that holds "
        f"objects (x {low[0]:.0f} to {high[0]:.0f} m, y {low[1]:.0f} to {high[1]:.0f} m): a "
        "smaller one trains faster",
    )
