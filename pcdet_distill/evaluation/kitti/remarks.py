"""Warnings about a KITTI evaluation: image boxes that are missing, classes with few objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..few_objects import NUM_RECALL_POINTS, few_objects
from .frames import Detections, Objects, Truth
from .protocol import DIFFICULTIES, MIN_HEIGHT_PX

WAY_OUT = (
    "write image boxes into the labels, or choose the evaluation without a camera by "
    "'EVALUATION: {}' in DATA_CONFIG"
)


def remarks(
    truth: Truth, detections: Detections, classes: Sequence[str], num_objects: np.ndarray
) -> list[str]:
    """What makes the AP of these classes meaningless, or easy to misread.

    Args:
        num_objects: (class, difficulty) objects that count.
    """
    sentences = []
    for name, counts in zip(classes, num_objects):
        missing = _missing_image_boxes(truth, name, "labelled") or _missing_image_boxes(
            detections, name, "detected"
        )
        sentences += [missing] if missing else _few(name, counts)
    return sentences


def _missing_image_boxes(rows: Objects, name: str, word: str) -> str:
    """A sentence where image boxes of a class are empty; none counts without a height."""
    is_class = rows.has_name(name)
    num_all = int(is_class.sum())
    num_empty = int((is_class & ~(rows.height_px() > 0)).sum())
    if num_empty == 0:
        return ""
    share = f"all {num_all}" if num_empty == num_all else f"{num_empty} of {num_all}"
    least = " / ".join(map(str, MIN_HEIGHT_PX))
    outcome = "its AP is 0" if num_empty == num_all else "these do not count"
    return (
        f"{share} {word} {name} have an image box without height, such as 0 0 0 0; KITTI's "
        f"difficulties ask for {least} pixels, so {outcome}: {WAY_OUT}"
    )


def _few(name: str, counts: np.ndarray) -> list[str]:
    """A sentence for the difficulties with no objects, and for the one with the most of them."""
    empty = [level for level, count in zip(DIFFICULTIES, counts) if count == 0]
    few = {level: int(count) for level, count in zip(DIFFICULTIES, counts) if count}
    few = {level: count for level, count in few.items() if count < NUM_RECALL_POINTS}
    sentences = []
    if empty:
        sentences.append(f"{name} has no object of difficulty {', '.join(empty)}: its AP is 0")
    for count in dict.fromkeys(few.values()):
        levels = ", ".join(level for level, other in few.items() if other == count)
        sentences.append(few_objects(f"{name} {levels}", count))
    return sentences
