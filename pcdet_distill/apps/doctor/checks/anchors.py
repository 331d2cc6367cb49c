"""Anchors against boxes: sizes, heights, thresholds, classes; with proposals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ....types import ConfigDict
from ..anchor_match import ClassMatch, match_anchors, propose_sizes
from ..case import Case
from ..finding import Finding, Severity, numbers, percent
from .classes import nearest_label

CHECK = "anchors"
PATH = "MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG"
LEAST_BOXES = 4
# Shares of boxes that some anchor overlaps by matched_threshold. Each box also claims its best
# anchor, so training goes on below them, but with one positive anchor for a box.
MATCHED_WARNING = 0.5
MATCHED_ERROR = 0.15
BETTER = 0.15  # gain in the median IoU from which new sizes are proposed
# OpenPCDet's own KITTI files have anchors 1 m above the feet of pedestrians, and work.
OFF_NOTE_M = 0.5
OFF_WARNING_M = 1.25
OFF_ERROR_M = 2.5
QUARTER_TURN = 1.57


def check_anchors(case: Case) -> Iterator[Finding]:
    """Whether every class has anchors, and whether they fit its boxes."""
    entries = case.head.get("ANCHOR_GENERATOR_CONFIG") or ()
    if not entries:
        return
    yield from _classes(case, entries)
    for number, entry in enumerate(entries):
        name = str(entry.get("class_name"))
        yield from _thresholds(entry, f"{PATH}.{number}", name)
        if name not in case.class_names:
            continue
        boxes = np.array([o.box[:7] for _, o in case.objects() if o.name == name])
        if len(boxes) < LEAST_BOXES:
            continue
        match = match_anchors(case, entry, boxes)
        yield from _sizes(case, entry, number, match, boxes)
        yield from _heights(entry, number, boxes, name)
        yield from _rotations(entry, number, name)


def _classes(case: Case, entries: Sequence[ConfigDict]) -> Iterator[Finding]:
    names = [str(entry.get("class_name")) for entry in entries]
    for number, name in enumerate(names):
        if name in case.class_names:
            continue
        missing = [other for other in case.class_names if other not in names]
        meant = nearest_label(name, Counter(missing), [])
        path = f"{PATH}.{number}.class_name"
        yield Finding(
            CHECK,
            Severity.ERROR,
            path,
            f"anchors of '{name}', which is not in CLASS_NAMES {case.class_names}",
            fix="name a class of CLASS_NAMES, or remove the entry",
            changes={path: meant} if meant else {},
        )
    for name in case.class_names:
        if name in names or nearest_label(name, Counter(names), case.class_names):
            continue
        yield _without_anchors(case, entries, name)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        yield Finding(
            CHECK,
            Severity.ERROR,
            PATH,
            f"{', '.join(twice)} has several entries; a class has one, with a list of sizes",
            fix="put the sizes of a class into one entry: anchor_sizes: [[l, w, h], [l, w, h]]",
        )


def _without_anchors(case: Case, entries: Sequence[ConfigDict], name: str) -> Finding:
    """A class that the head can never detect, with an entry made from its boxes."""
    boxes = np.array([o.box[:7] for _, o in case.objects() if o.name == name])
    changes: dict[str, object] = {}
    if len(boxes):
        new: dict[str, Any] = dict(entries[0])
        sizes = numbers(np.median(boxes[:, 3:6], axis=0))
        new.update(class_name=name, anchor_sizes=[sizes], anchor_bottom_heights=[_bottom(boxes)])
        if min(sizes[:2]) < 1.2:
            new.update(matched_threshold=0.5, unmatched_threshold=0.35)
        changes = {PATH: [*(dict(entry) for entry in entries), new]}
    return Finding(
        CHECK,
        Severity.ERROR,
        PATH,
        f"no anchors for '{name}': the head cannot detect this class",
        fix="add an entry with the class's sizes",
        changes=changes,
    )


def _bottom(boxes: np.ndarray) -> float:
    """Median height of the bottoms of boxes (K, 7)."""
    return round(float(np.median(boxes[:, 2] - boxes[:, 5] / 2)), 2)


def _thresholds(entry: ConfigDict, path: str, name: str) -> Iterator[Finding]:
    matched = float(entry.get("matched_threshold", 0))
    unmatched = float(entry.get("unmatched_threshold", 0))
    if 0 < unmatched <= matched < 1:
        return
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"{path}.matched_threshold, class {name}",
        f"matched_threshold {matched:g} and unmatched_threshold {unmatched:g}: expected "
        "0 < unmatched <= matched < 1",
        fix="usual values: 0.6 and 0.45 for cars, 0.5 and 0.35 for small classes",
        changes={f"{path}.matched_threshold": 0.5, f"{path}.unmatched_threshold": 0.35},
    )


def _sizes(
    case: Case, entry: ConfigDict, number: int, match: ClassMatch, boxes: np.ndarray
) -> Iterator[Finding]:
    if match.matched_share >= MATCHED_WARNING:
        return
    name = str(entry.get("class_name"))
    # Many voxels in a cell leave large gaps between anchors: then no size fits small boxes.
    proposal = propose_sizes(case, entry, boxes)
    is_better = proposal.match.median_iou > match.median_iou + BETTER
    is_bad = match.matched_share < MATCHED_ERROR and is_better
    changes: dict[str, object] = {}
    fix = "lower matched_threshold and unmatched_threshold, or use smaller voxels"
    if is_better:
        changes = {f"{PATH}.{number}.anchor_sizes": proposal.sizes}
        fix = (
            f"sizes from {len(boxes)} boxes: then {percent(proposal.match.matched_share)} match, "
            f"and the median IoU is {proposal.match.median_iou:.2f}"
        )
    severity = Severity.NOTE
    if is_bad:
        severity = Severity.ERROR
    elif is_better or match.median_iou < float(entry.get("unmatched_threshold", 0)):
        severity = Severity.WARNING
    yield Finding(
        CHECK,
        severity,
        f"{PATH}.{number}.anchor_sizes, class {name}",
        f"{percent(match.matched_share)} of {len(boxes)} boxes have an anchor that overlaps them "
        f"by the matched_threshold of {float(entry['matched_threshold']):g}; the best IoU is "
        f"{match.median_iou:.2f} in the median. Anchors are {list(entry['anchor_sizes'])}, boxes "
        f"{numbers(np.median(boxes[:, 3:6], axis=0))}",
        fix=fix,
        changes=changes,
    )


def _heights(entry: ConfigDict, number: int, boxes: np.ndarray, name: str) -> Iterator[Finding]:
    bottoms = boxes[:, 2] - boxes[:, 5] / 2
    anchors = np.array(entry.get("anchor_bottom_heights") or [0.0], dtype=float)
    off = np.abs(bottoms[:, None] - anchors[None]).min(axis=1)
    middle = float(np.median(off))
    # On slopes bottoms spread around any height: then another one does not help.
    least = float(np.median(np.abs(bottoms - np.median(bottoms))))
    if middle <= OFF_NOTE_M or middle - least <= OFF_NOTE_M / 2:
        return
    severity = Severity.NOTE
    if middle > OFF_WARNING_M:
        severity = Severity.ERROR if middle > OFF_ERROR_M else Severity.WARNING
    path = f"{PATH}.{number}.anchor_bottom_heights"
    yield Finding(
        CHECK,
        severity,
        f"{path}, class {name}",
        f"anchors stand at z {numbers(anchors)}, the bottoms of the boxes lie at "
        f"{np.median(bottoms):.2f} m in the median: {middle:.2f} m to learn for every box",
        fix="set the height of the anchors to the bottoms of the boxes",
        changes={path: [_bottom(boxes)]} if severity is not Severity.NOTE else {},
    )


def _rotations(entry: ConfigDict, number: int, name: str) -> Iterator[Finding]:
    rotations = [float(angle) for angle in entry.get("anchor_rotations") or ()]
    if not rotations or max(map(abs, rotations)) <= 6.3:
        return
    path = f"{PATH}.{number}.anchor_rotations"
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"{path}, class {name}",
        f"anchor_rotations are {rotations}: they seem to be in degrees",
        fix="write radians",
        changes={path: [0, QUARTER_TURN]},
    )
