"""The evaluation of KITTI's layout: image boxes and class names that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....evaluation.kitti.protocol import MIN_HEIGHT_PX, MIN_OVERLAP
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent

CHECK = "evaluation"
NEAR_M = 30.0  # of a car's height: an object so near is higher than 25 pixels in KITTI's images
TOO_SMALL_WARNING = 0.3
TOO_SMALL_ERROR = 0.8
LEAST_OBJECTS = 5


def check_evaluation(case: Case) -> Iterator[Finding]:
    """Whether KITTI's evaluation counts the labelled objects."""
    split = case.splits.get("val")
    infos = getattr(split.dataset, "kitti_infos", None) if split else None
    if not infos or case.data.get("DATASET") != "KittiDataset":
        return
    unknown = [name for name in case.class_names if name not in MIN_OVERLAP]
    if unknown:
        yield Finding(
            CHECK,
            Severity.ERROR,
            "CLASS_NAMES",
            f"KITTI's evaluation does not know {listed(unknown)}; it knows "
            f"{listed(MIN_OVERLAP, 9)}",
            fix="take CustomDataset, whose evaluation in LiDAR coordinates knows any class",
        )
    heights = near_heights_px(infos, case.class_names)
    if len(heights) < LEAST_OBJECTS:
        return
    least = min(MIN_HEIGHT_PX)
    share = float((heights < least).mean())
    if share <= TOO_SMALL_WARNING:
        return
    zeros = float((heights <= 0).mean())
    what = f"the image boxes of {percent(share)} of the objects nearer than {NEAR_M:.0f} m are "
    what += f"lower than {least} pixels"
    if zeros > TOO_SMALL_WARNING:
        what += f" ({percent(zeros)} have none)"
    yield Finding(
        CHECK,
        Severity.ERROR if share > TOO_SMALL_ERROR else Severity.WARNING,
        "split val, image boxes",
        f"{what}: KITTI's evaluation ignores them, so AP is 0 or of few objects",
        fix="write image boxes into the labels, or take CustomDataset, whose evaluation needs none",
    )


def near_heights_px(infos: list, class_names: list[str]) -> np.ndarray:
    """(K,) heights of the image boxes of near objects of the trained classes."""
    heights = [np.zeros(0)]
    for info in infos:
        annos = info.get("annos")
        if annos is None:
            continue
        location = np.asarray(annos["location"], dtype=float).reshape(-1, 3)
        boxes = np.asarray(annos["bbox"], dtype=float).reshape(-1, 4)
        near = np.hypot(location[:, 0], location[:, 2]) < NEAR_M
        chosen = near & np.isin(annos["name"], class_names)
        heights.append((boxes[:, 3] - boxes[:, 1])[chosen])
    return np.concatenate(heights)
