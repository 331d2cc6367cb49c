"""Objects that are labelled twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ....datasets.labelled_objects import has_size
from ....ops.boxes import boxes_iou_bev
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, numbers

CHECK = "double_boxes"
SAME_OBJECT = 0.7  # BEV IoU; two objects cannot share so much ground
MANY = 0.02  # share of the boxes


def check_double_boxes(case: Case) -> Iterator[Finding]:
    """Whether two boxes of a frame lie on each other."""
    pairs = []
    total = 0
    for frame in case.frames():
        if frame.objects is None:
            continue
        objects = [labelled for labelled in frame.objects.objects if has_size(labelled)]
        total += len(objects)
        if len(objects) < 2:
            continue
        boxes = np.array([labelled.box[:7] for labelled in objects], dtype=np.float32)
        tensor = torch.from_numpy(boxes)
        overlap = np.triu(boxes_iou_bev(tensor, tensor).numpy(), k=1)
        first, second = np.nonzero(overlap > SAME_OBJECT)
        pairs += [(frame.name, objects[a], objects[b]) for a, b in zip(first, second)]
    if not pairs:
        return
    frames = tuple(dict.fromkeys(frame for frame, _, _ in pairs))
    _, one, other = pairs[0]
    is_rare = len(pairs) <= max(MANY * total, 1)
    yield Finding(
        CHECK,
        Severity.NOTE if is_rare else Severity.WARNING,
        f"frame {listed(frames)}",
        f"{len(pairs)} pairs of boxes cover nearly the same ground, such as {one.name} and "
        f"{other.name} at {numbers(one.box[:3])}: objects seem to be labelled twice, and one "
        "detection can find only one of them",
        fix="keep one box of each object",
        frames=frames[:4],
    )
