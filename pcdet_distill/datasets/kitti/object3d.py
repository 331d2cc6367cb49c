"""One line of a KITTI label file.

Fifteen fields (type, truncation, occlusion, alpha, image box, height, width, length, location, rotation_y), and a
sixteenth, the score, when the file holds detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import nearest
from ...errors import DataError

KITTI_CLASSES = (
    "Car",
    "Van",
    "Truck",
    "Pedestrian",
    "Person_sitting",
    "Cyclist",
    "Tram",
    "Misc",
    "DontCare",
)
# easy, moderate, hard: least box height in pixels, greatest truncation, greatest occlusion
DIFFICULTY_LIMITS = ((40, 0.15, 0), (25, 0.3, 1), (25, 0.5, 2))


@dataclass(frozen=True)
class Object3d:
    """A labelled object: lengths in metres, ``location`` is the bottom centre in rect coordinates."""

    cls_type: str
    truncation: float
    occlusion: float
    alpha: float
    box2d: np.ndarray
    h: float
    w: float
    l: float  # noqa: E741  (KITTI's letter)
    loc: np.ndarray
    ry: float
    score: float

    @classmethod
    def from_line(cls, line: str, where: str) -> Object3d:
        """Parse a label line; ``where`` names file and line in the error."""
        fields = line.split()
        if len(fields) not in (15, 16):
            raise DataError(
                f"{where}: a label line has 15 fields (16 with a score), this one has {len(fields)}"
            )
        if fields[0] not in KITTI_CLASSES:
            raise DataError(
                f"{where}: unknown class '{fields[0]}'{nearest(fields[0], KITTI_CLASSES)}"
                f" (KITTI's classes: {', '.join(KITTI_CLASSES)})"
            )
        try:
            numbers = [float(field) for field in fields[1:]]
        except ValueError as error:
            raise DataError(
                f"{where}: all fields after the class must be numbers: {error}"
            ) from None
        if not (np.abs(numbers) < np.finfo(np.float32).max).all():
            raise DataError(f"{where}: a label holds NaN, infinity or a number beyond float32")
        truncation, occlusion, alpha = numbers[:3]
        height, width, length = numbers[7:10]
        if min(height, width, length) < 0 and fields[0] != "DontCare":
            raise DataError(
                f"{where}: height, width and length are {height}, {width}, {length}; expected no "
                "negative size"
            )
        box2d, location = (
            np.array(numbers[3:7], dtype=np.float32),
            np.array(numbers[10:13], dtype=np.float32),
        )
        score = numbers[14] if len(numbers) == 15 else -1.0
        return cls(
            fields[0],
            truncation,
            occlusion,
            alpha,
            box2d,
            height,
            width,
            length,
            location,
            numbers[13],
            score,
        )

    @property
    def difficulty(self) -> int:
        """0 easy, 1 moderate, 2 hard, -1 harder: by image height (+1 pixel), truncation and occlusion."""
        height_px = float(self.box2d[3]) - float(self.box2d[1]) + 1
        for level, (least_height, most_truncation, most_occlusion) in enumerate(DIFFICULTY_LIMITS):
            if (
                height_px >= least_height
                and self.truncation <= most_truncation
                and self.occlusion <= most_occlusion
            ):
                return level
        return -1


def read_labels(path: Path) -> list[Object3d]:
    """All objects of a label file, DontCare regions last, otherwise in the file's order."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{path}: this label file does not exist; a frame without objects has an empty one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a label file: {error}") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    objects = [Object3d.from_line(line, f"{path}, line {number}") for number, line in numbered]
    return sorted(objects, key=lambda labelled: labelled.cls_type == "DontCare")
