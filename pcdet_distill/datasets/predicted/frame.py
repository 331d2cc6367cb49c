"""FramePredictions: what a teacher predicts for one frame, as arrays that can be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

NO_OWNER = -1  # of predictions that belong to no labelled object


@dataclasses.dataclass(frozen=True)
class FramePredictions:
    """Raw predictions before NMS (rows), and the detections after it.

    A row is a position of the head, an anchor or a cell, whose best score exceeds a threshold.

    Attributes:
        places: (N, 2) float32, x, y in metres of the position.
        kinds: (N,) int16, the kind of the position: class, size and heading of an anchor.
        turns: (N,) float32, the angle in radians between the row's box and its anchor, from 0
            (along the anchor) to pi / 2 (across it), which no motion of the scene changes; 0 for
            cells.
        logits: (N, classes) float16, all class logits.
        boxes: (N, 7 + C) float32, the decoded box.
        owners: (N,) int16, number of the labelled object that the row belongs to; -1 for none.
        detected_boxes: (D, 7 + C) float32.
        detected_scores: (D,) float32.
        detected_labels: (D,) int16, labels of the teacher.
        detected_owners: (D,) int16.
    """

    places: np.ndarray
    kinds: np.ndarray
    turns: np.ndarray
    logits: np.ndarray
    boxes: np.ndarray
    owners: np.ndarray
    detected_boxes: np.ndarray
    detected_scores: np.ndarray
    detected_labels: np.ndarray
    detected_owners: np.ndarray

    def select(self, rows: np.ndarray | slice, detections: np.ndarray | slice) -> FramePredictions:
        """The rows and the detections that two masks or ranges choose."""
        chosen = {}
        for name in ROW_FIELDS:
            chosen[name] = getattr(self, name)[rows]
        for name in DETECTION_FIELDS:
            chosen[name] = getattr(self, name)[detections]
        return FramePredictions(**chosen)

    def lowered(self, drops_m: np.ndarray, detection_drops_m: np.ndarray) -> FramePredictions:
        """The same with every box (N,) and every detection (D,) so much lower."""
        boxes = self.boxes.copy()
        detected = self.detected_boxes.copy()
        boxes[:, 2] -= drops_m
        detected[:, 2] -= detection_drops_m
        return dataclasses.replace(self, boxes=boxes, detected_boxes=detected)


DETECTION_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(FramePredictions)
    if field.name.startswith("detected_")
)
ROW_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(FramePredictions)
    if not field.name.startswith("detected_")
)


def join(parts: Sequence[FramePredictions]) -> FramePredictions:
    """All rows and detections of several parts, one after the other."""
    joined = {}
    for name in (*ROW_FIELDS, *DETECTION_FIELDS):
        joined[name] = np.concatenate([getattr(part, name) for part in parts])
    return FramePredictions(**joined)
