"""Boxes without points, with few points, and labels that belong to another frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....datasets.labelled_objects import LabelledObject, has_size, label_objects
from ..case import Case, frame_names, of_class
from ..finding import Finding, Severity, percent
from ..frames import Frame, Split

CHECK = "box_points"
EMPTY_ERROR = 0.5
EMPTY_WARNING = 0.2
EMPTY_NOTE = 0.02
FEW = 5
FEW_NOTE = 0.3
LEAST_BOXES = 8
NEIGHBOURS = (-1, 1)
TRIED_FRAMES = 8
BETTER = 2.0

Objects = list[tuple[Frame, LabelledObject]]


def check_box_points(case: Case) -> Iterator[Finding]:
    """Whether the labelled objects can be seen."""
    for split in case.splits.values():
        objects = case.objects(split.name)
        empty = [(f, o) for f, o in objects if o.num_points == 0]
        share = len(empty) / max(len(objects), 1)
        if share > EMPTY_NOTE:
            yield _empty(case, split, objects, empty, share)
    yield from _few(case)


def _empty(case: Case, split: Split, objects: Objects, empty: Objects, share: float) -> Finding:
    counts = []
    for name in case.class_names:
        of_name = of_class(objects, name)
        if of_name:
            number = len(of_class(empty, name))
            counts.append(f"{name} {number} of {len(of_name)}")
    what = f"{percent(share)} of the boxes hold no point ({', '.join(counts)})"
    severity = Severity.NOTE
    if len(objects) >= LEAST_BOXES or share == 1:
        if share > EMPTY_ERROR:
            severity = Severity.ERROR
        elif share > EMPTY_WARNING:
            severity = Severity.WARNING
    fix = "remove labels of objects that the sensor does not see"
    changes: dict[str, object] = {}
    where = f"split {split.name}, frame {', '.join(frame_names(empty))}"
    if severity is not Severity.NOTE:
        reason, fix, changes = _reason(case, split, share, fix)
        what += reason
        if changes:
            where = f"{case.key('FOV_POINTS_ONLY')}; {where}"
    return Finding(
        CHECK, severity, where, what, fix=fix, changes=changes, frames=frame_names(empty)
    )


def _reason(case: Case, split: Split, share: float, fix: str) -> tuple[str, str, dict[str, object]]:
    """Why boxes are empty, as far as it can be told: text, fix, and lines of yaml."""
    in_view = _share_without_view(split)
    if in_view is not None and in_view < share / BETTER:
        return (
            f"; without FOV_POINTS_ONLY only {percent(in_view)} are empty: objects are labelled "
            "outside the view of the camera, where the points are dropped",
            "set FOV_POINTS_ONLY to False, or remove the labels outside the view",
            {case.key("FOV_POINTS_ONLY"): False},
        )
    shift = _shifted_labels(split)
    if shift:
        return (
            f"; the labels fit the points of the frame {abs(shift)} "
            f"{'later' if shift > 0 else 'earlier'} in the list: the pairing of labels and clouds "
            "is shifted",
            "pair each label file with the cloud of the same moment",
            {},
        )
    return (
        ": boxes and points do not belong together; the pictures show how they lie",
        "check that labels and points have the same frame, axes, units and names",
        {},
    )


def _share_without_view(split: Split) -> float | None:
    """Share of empty boxes when points outside the camera's view stay; None where all stay."""
    dataset = split.dataset
    if not getattr(dataset, "fov_points_only", False):
        return None
    counts = []
    for frame in split.frames[:TRIED_FRAMES]:
        counts.append(_empty_with(split, frame, frame.index, whole=True))
    return _share(counts)


def _shifted_labels(split: Split) -> int:
    """By how many frames the labels are shifted against the points; 0 where they are not."""
    frames = [frame for frame in split.frames if frame.objects is not None][:TRIED_FRAMES]
    own = _share([_empty_with(split, frame, frame.index) for frame in frames])
    for shift in NEIGHBOURS:
        counts = []
        for frame in frames:
            other = frame.index + shift
            if 0 <= other < len(split.all_names):
                counts.append(_empty_with(split, frame, other))
        share = _share(counts)
        if counts and share < own / BETTER:
            return shift
    return 0


def _empty_with(split: Split, frame: Frame, index: int, *, whole: bool = False) -> tuple[int, int]:
    """How many boxes of a frame are empty in the cloud of frame ``index``, and their number."""
    item = split.load(index, whole=whole)
    if item is None or frame.objects is None:
        return 0, 0
    points = np.asarray(item["points"])
    labelled = label_objects(points, frame.objects.boxes, frame.objects.names)
    counts = [one.num_points for one in labelled.objects if has_size(one)]
    return sum(count == 0 for count in counts), len(counts)


def _share(counts: list[tuple[int, int]]) -> float:
    total = sum(number for _, number in counts)
    return sum(empty for empty, _ in counts) / max(total, 1)


def _few(case: Case) -> Iterator[Finding]:
    texts = []
    for name in case.class_names:
        counts = np.array([o.num_points for _, o in of_class(case.objects(), name)])
        if len(counts) < LEAST_BOXES:
            continue
        share = float((counts < FEW).mean())
        if share > FEW_NOTE:
            texts.append(f"{name} {percent(share)} (median {np.median(counts):.0f} points)")
    if texts:
        yield Finding(
            CHECK,
            Severity.NOTE,
            "labels",
            f"many boxes hold fewer than {FEW} points, so they can hardly be found: "
            f"{', '.join(texts)}",
            fix="train without them if the data set has a filter for that, and evaluate by the "
            "number of points",
        )
