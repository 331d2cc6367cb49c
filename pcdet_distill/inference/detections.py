"""The boxes that a detector found in one cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from ..datasets.kitti.calibration import Calibration
from ..datasets.kitti.predictions import anno_of_boxes, result_text
from ..errors import DataError
from ..evaluation.nuscenes.quaternions import of_matrix
from ..evaluation.nuscenes.submission import submission
from ..evaluation.nuscenes.truth import Poses

# A row of nuScenes' tables, or a matrix (4, 4).
Pose: TypeAlias = Mapping[str, Any] | np.ndarray


@dataclass(frozen=True, eq=False)
class Detections:
    """The M boxes of one cloud, best first.

    Attributes:
        boxes: (M, 7) float32, or (M, 9) from a detector that predicts velocities: the centre x, y,
            z and the size dx, dy, dz in metres, the heading in radians, then vx, vy in m/s. The
            heading is the angle from x to the front of the object, anticlockwise from above.
        scores: (M,) float32 of 0..1.
        labels: (M,) int64, the number of the class from 1.
        names: (M,) str, the name of the class.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: np.ndarray

    @classmethod
    def from_prediction(
        cls, prediction: Mapping[str, Tensor], class_names: Sequence[str]
    ) -> Detections:
        """From OpenPCDet's dict of a frame: ``pred_boxes``, ``pred_scores``, ``pred_labels``."""
        scores = prediction["pred_scores"].detach().cpu().numpy().astype(np.float32)
        labels = prediction["pred_labels"].detach().cpu().numpy().astype(np.int64)
        boxes = prediction["pred_boxes"].detach().cpu().numpy().astype(np.float32)
        best_first = np.argsort(-scores, kind="stable")
        labels = labels[best_first]
        names = np.array(class_names, dtype=str)[labels - 1]
        return cls(boxes[best_first], scores[best_first], labels, names)

    @classmethod
    def none(cls, box_width: int = 7) -> Detections:
        """No boxes, for a cloud in which nothing can be seen."""
        return cls(
            boxes=np.zeros((0, box_width), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            names=np.zeros(0, dtype="<U1"),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: np.ndarray | slice | Sequence[int]) -> Detections:
        """The boxes of a mask (M,), of row numbers or of a slice: ``found[found.scores > 0.5]``."""
        rows = np.arange(len(self))[chosen]
        rows = np.atleast_1d(rows)
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], self.names[rows])

    def above(self, score: float) -> Detections:
        """The boxes with this score or a higher one."""
        return self[self.scores >= score]

    def to_dict(self) -> dict[str, list]:
        """Plain lists, which JSON can hold: ``boxes``, ``scores``, ``labels``, ``names``."""
        return {
            "boxes": self.boxes.tolist(),
            "scores": self.scores.tolist(),
            "labels": self.labels.tolist(),
            "names": self.names.tolist(),
        }

    def to_kitti(
        self,
        calib: Calibration | str | PathLike[str],
        image_shape: Sequence[int] | None = None,
    ) -> str:
        """The text of KITTI's result file, as the evaluation writes it.

        Args:
            calib: from the LiDAR to the camera, or the path of a calib file.
            image_shape: height and width in pixels, to which the image boxes are clipped; None
                where there is no image.
        """
        if not isinstance(calib, Calibration):
            calib = Calibration.from_file(Path(calib))
        shape = np.zeros(2, np.int32) if image_shape is None else np.asarray(image_shape)
        anno = anno_of_boxes(self.boxes, self.scores, self.names, calib=calib, image_shape=shape)
        return result_text(anno)

    def to_nuscenes(self, token: str, *, sensor_pose: Pose, ego_pose: Pose) -> list[dict[str, Any]]:
        """The boxes of a sample as nuScenes' result file lists them, in global coordinates.

        The file of a split is ``{"meta": {...}, "results": {token: boxes, ...}}``. The metric takes
        500 boxes of a sample; of more, the best are kept.

        Args:
            token: of the sample.
            sensor_pose: from the LiDAR to the vehicle: the sample's row of ``calibrated_sensor``,
                or a matrix (4, 4).
            ego_pose: from the vehicle to global coordinates: the row of ``ego_pose``, or a matrix.
        """
        poses = Poses(*_pose_parts(sensor_pose, "sensor_pose"), *_pose_parts(ego_pose, "ego_pose"))
        anno = {
            "frame_id": token,
            "name": self.names,
            "score": self.scores,
            "boxes_lidar": self.boxes,
        }
        return submission([anno], [token], poses)["results"][token]

    def __repr__(self) -> str:
        names, counts = np.unique(self.names, return_counts=True)
        shown = [f"{count} {name}" for name, count in zip(names, counts)]
        return f"Detections({', '.join(shown) or 'none'})"


def _pose_parts(pose: Pose, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The quaternion (1, 4) and the translation (1, 3) of a pose."""
    if isinstance(pose, Mapping):
        if not {"rotation", "translation"} <= set(pose):
            raise DataError(f"{name}: expected rotation and translation, found {', '.join(pose)}")
        return np.atleast_2d(pose["rotation"]), np.atleast_2d(pose["translation"])
    matrix = np.asarray(pose, dtype=np.float64)
    turn = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3):
        raise DataError(f"{name}: expected a matrix (4, 4) of a rotation and a translation")
    return of_matrix(turn)[None], matrix[None, :3, 3]
