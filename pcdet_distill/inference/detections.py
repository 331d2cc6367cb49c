"""The boxes that a detector found in one cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

PLACES = ("x", "y", "z", "dx", "dy", "dz", "heading", "vx", "vy")


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

    def __repr__(self) -> str:
        names, counts = np.unique(self.names, return_counts=True)
        shown = [f"{count} {name}" for name, count in zip(names, counts)]
        return f"Detections({', '.join(shown) or 'none'})"
