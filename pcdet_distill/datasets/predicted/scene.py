"""PredictedScene: a teacher's predictions of one item, while augmentations change the item.

Predicted boxes are equivariant: turned, mirrored or scaled with the scene they are what an ideal
detector would predict for the augmented scene. So nothing is computed again; each part of the scene
(the frame itself, and the objects that gt_sampling pastes) is moved by one matrix at the end.
``lidar_aug_matrix``, which every augmentation of the whole scene keeps, is that matrix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .frame import FramePredictions
from .motion import inside_footprints, move_boxes, move_places

# Key of an item and of a batch: the teacher's predictions, moved with the scene.
PREDICTED = "teacher_predictions"


class PredictedItem(dict):
    """The moved predictions of one item, as arrays; ``collate`` joins them."""


@dataclasses.dataclass(frozen=True)
class _Part:
    """Predictions, and the matrix (4, 4) of the scene at the time when they came into it."""

    predictions: FramePredictions
    born: np.ndarray

    def motion(self, matrix: np.ndarray) -> np.ndarray:
        """From the coordinates of the predictions to those of a scene with ``matrix`` (4, 4)."""
        return matrix @ np.linalg.inv(self.born)


class PredictedScene:
    """The parts of one item.

    Args:
        frame: the predictions of the recorded frame.
    """

    def __init__(self, frame: FramePredictions) -> None:
        self._parts = [_Part(frame, np.eye(4))]

    def paste(self, objects: FramePredictions, boxes: np.ndarray, matrix: np.ndarray) -> None:
        """Add objects as gt_sampling does: they take the place of what was there.

        Args:
            objects: the predictions of all of them, each from its own frame, in the coordinates in
                which they are pasted.
            boxes: (K, 7) the space that the objects clear of other points.
            matrix: (4, 4) ``lidar_aug_matrix`` at this moment.
        """
        self._parts = [self._without_covered(part, boxes, matrix) for part in self._parts]
        self._parts.append(_Part(objects, matrix.copy()))

    @staticmethod
    def _without_covered(part: _Part, boxes: np.ndarray, matrix: np.ndarray) -> _Part:
        """The part without predictions at places, or of boxes with a centre, under ``boxes``."""
        motion = part.motion(matrix)
        predictions = part.predictions
        count = len(predictions.places)
        anchors_and_centres = [
            predictions.places,
            predictions.boxes[:, :2],
            predictions.detected_boxes[:, :2],
        ]
        places = move_places(np.concatenate(anchors_and_centres), motion)
        is_covered = np.asarray(inside_footprints(places, boxes).any(axis=0))
        if not is_covered.any():
            return part
        keeps_rows = np.logical_not(is_covered[:count] | is_covered[count : 2 * count])
        keeps_detections = np.logical_not(is_covered[2 * count :])
        return _Part(predictions.select(keeps_rows, keeps_detections), part.born)

    def finish(self, matrix: np.ndarray) -> PredictedItem:
        """All predictions in the coordinates of the augmented scene.

        Args:
            matrix: (4, 4) the final ``lidar_aug_matrix``.

        Returns:
            the arrays of a ``FramePredictions`` without its owners, and

            * ``axes`` (N, 2): the x axis of the row's own frame, moved and scaled with it;
            * ``is_pasted`` (N,): 1 for rows of pasted objects;
            * ``matrix`` (4, 4).
        """
        columns: dict[str, list[np.ndarray]] = {name: [] for name in MOVED_FIELDS}
        for number, part in enumerate(self._parts):
            motion = part.motion(matrix)
            predictions = part.predictions
            count = len(predictions.places)
            axis = motion[:2, 0].astype(np.float32)
            columns["places"].append(move_places(predictions.places, motion))
            columns["kinds"].append(predictions.kinds)
            columns["turns"].append(predictions.turns)
            columns["logits"].append(predictions.logits)
            columns["boxes"].append(move_boxes(predictions.boxes, motion))
            columns["axes"].append(np.tile(axis, (count, 1)))
            columns["is_pasted"].append(np.full(count, number > 0))
            columns["detected_boxes"].append(move_boxes(predictions.detected_boxes, motion))
            columns["detected_scores"].append(predictions.detected_scores)
            columns["detected_labels"].append(predictions.detected_labels)
        item = PredictedItem()
        for name, arrays in columns.items():
            item[name] = np.concatenate(arrays)
        item["matrix"] = matrix.copy()
        return item


ROWS = ("places", "kinds", "turns", "logits", "boxes", "axes", "is_pasted")
DETECTIONS = ("detected_boxes", "detected_scores", "detected_labels")
MOVED_FIELDS = (*ROWS, *DETECTIONS)


def collate_predicted(items: Sequence[PredictedItem]) -> dict[str, np.ndarray]:
    """The predictions of a batch; ``frame_index`` and ``detected_frame_index`` number the items."""
    batch = {}
    for name in MOVED_FIELDS:
        batch[name] = np.concatenate([item[name] for item in items])
    numbers = np.arange(len(items))
    batch["frame_index"] = np.repeat(numbers, [len(item["places"]) for item in items])
    detected = [len(item["detected_scores"]) for item in items]
    batch["detected_frame_index"] = np.repeat(numbers, detected)
    batch["matrix"] = np.stack([item["matrix"] for item in items])
    return batch
