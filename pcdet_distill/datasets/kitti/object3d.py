"""One line of a KITTI label file.

A line has fifteen fields: type, truncation, occlusion, alpha, image box (4), height, width, length,
location (3), rotation_y. A sixteenth, the score, follows when the file holds detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...commands import command_text
from ...structures import Kind, Number
from ..text_structures import Line, OneOf, numbered_lines, read_text

DONT_CARE = "DontCare"  # a region that nobody labelled; most of its numbers mean nothing
KITTI_CLASSES = (
    "Car",
    "Van",
    "Truck",
    "Pedestrian",
    "Person_sitting",
    "Cyclist",
    "Tram",
    "Misc",
    DONT_CARE,
)
NUMBER = Number()
OWN_CLASSES = command_text("data", "custom")
IMAGE_BOX = ("left", "top", "right", "bottom")
SIZES = ("height", "width", "length")


def label_line(name: Kind, *, size: Kind = NUMBER, of_image: Kind = NUMBER) -> Line:
    """The fields of a line. ``of_image`` are those that say how the camera sees the object."""
    fields = {
        "type": name,
        "truncated": of_image,
        "occluded": of_image,
        "alpha": of_image,
        **dict.fromkeys(IMAGE_BOX, of_image),
        **dict.fromkeys(SIZES, size),
        **dict.fromkeys(("x", "y", "z", "rotation_y", "score"), NUMBER),
    }
    return Line(fields, optional="score")


CLASS = OneOf(
    KITTI_CLASSES,
    f"; '{OWN_CLASSES}' reads labels in KITTI's format with classes of their own",
)
OBJECT_LINE = label_line(CLASS, size=Number(least=0))
REGION_LINE = label_line(CLASS)
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
        is_region = line.lstrip().startswith(DONT_CARE)
        values = (REGION_LINE if is_region else OBJECT_LINE).read(line, where)
        return cls(
            cls_type=values["type"],
            truncation=values["truncated"],
            occlusion=values["occluded"],
            alpha=values["alpha"],
            box2d=np.array([values[side] for side in IMAGE_BOX], dtype=np.float32),
            h=values["height"],
            w=values["width"],
            l=values["length"],
            loc=np.array([values[axis] for axis in "xyz"], dtype=np.float32),
            ry=values["rotation_y"],
            score=values.get("score", -1.0),
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


def read_labels(path: Path) -> list[Object3d]:
    """All objects of a label file, DontCare regions last, otherwise in the order of the file."""
    missing = "this label file does not exist; a frame without objects has an empty one"
    text = read_text(path, "a label file", missing)
    objects = [Object3d.from_line(line, where) for where, line in numbered_lines(path, text)]
    return sorted(objects, key=lambda labelled: labelled.cls_type == DONT_CARE)
