"""One line of a KITTI label file.

A line has fifteen fields: type, truncation, occlusion, alpha, image box (4), height, width, length,
location (3), rotation_y. A sixteenth, the score, follows when the file holds detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...commands import command_text
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
FLOAT32_MAX = float(np.finfo(np.float32).max)
OWN_CLASSES = command_text("data", "custom")
# easy, moderate, hard: smallest box height in pixels, largest truncation, largest occlusion
DIFFICULTY_LIMITS = ((40, 0.15, 0), (25, 0.3, 1), (25, 0.5, 2))


@dataclass(frozen=True)
class Object3d:
    """A labelled object: sizes in metres, ``loc`` the middle of its bottom in rect coordinates."""

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
        name, *fields = line.split() or [""]
        if len(fields) not in (14, 15):
            raise DataError(
                f"{where}: a label line has 15 fields (16 with a score), this one has "
                f"{len(line.split())}"
            )
        if name not in KITTI_CLASSES:
            raise DataError(
                f"{where}: unknown class '{name}'{nearest(name, KITTI_CLASSES)}"
                f" (KITTI's classes: {', '.join(KITTI_CLASSES)}); '{OWN_CLASSES}' reads labels in "
                "KITTI's format with classes of their own"
            )
        numbers = _finite_numbers(fields, where)
        height, width, length = numbers[7:10]
        if min(height, width, length) < 0 and name != "DontCare":
            raise DataError(
                f"{where}: height, width and length are {height}, {width}, {length}; expected no "
                "negative size"
            )
        return cls(
            cls_type=name,
            truncation=numbers[0],
            occlusion=numbers[1],
            alpha=numbers[2],
            box2d=np.array(numbers[3:7], dtype=np.float32),
            h=height,
            w=width,
            l=length,
            loc=np.array(numbers[10:13], dtype=np.float32),
            ry=numbers[13],
            score=numbers[14] if len(numbers) == 15 else -1.0,
        )

    @property
    def difficulty(self) -> int:
        """0 easy, 1 moderate, 2 hard, -1 harder, by image height, truncation and occlusion.

        The height counts one pixel more than the box says, as in OpenPCDet.
        """
        height_px = float(self.box2d[3]) - float(self.box2d[1]) + 1
        for level, (min_height, max_truncation, max_occlusion) in enumerate(DIFFICULTY_LIMITS):
            is_visible = self.truncation <= max_truncation and self.occlusion <= max_occlusion
            if height_px >= min_height and is_visible:
                return level
        return -1


def _finite_numbers(fields: list[str], where: str) -> list[float]:
    try:
        numbers = list(map(float, fields))
    except ValueError as error:
        raise DataError(f"{where}: all fields after the class must be numbers: {error}") from None
    if not all(-FLOAT32_MAX < number < FLOAT32_MAX for number in numbers):
        raise DataError(f"{where}: a label holds NaN, infinity or a number beyond float32")
    return numbers


def read_labels(path: Path) -> list[Object3d]:
    """All objects of a label file, DontCare regions last, otherwise in the order of the file."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{path}: this label file does not exist; a frame without objects has an empty one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a label file: {error}") from None
    objects = []
    name = str(path)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            objects.append(Object3d.from_line(line, f"{name}, line {number}"))
    return sorted(objects, key=lambda labelled: labelled.cls_type == "DontCare")
