"""What every reader of box labels returns: the boxes of a frame, and where each was read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....config import check_regular
from ....errors import DataError
from ....structures import Number, misfit_of
from ...kitti.object3d import DONT_CARE
from ...text_structures import number_of

NUMBER = Number()
BOX_WIDTH = 7
SIZE_COLUMNS = slice(3, 6)
HEADING_COLUMN = 6


@dataclass(frozen=True)
class LabelRow:
    """One labelled box as a file states it.

    Attributes:
        name: class of the object.
        box: x, y, z, dx, dy, dz, heading: the centre, length, width and height in metres, and the
            angle from the x axis to the object's front, counter-clockwise, in radians.
        object_id: the file's own name of the object; None where it has none.
        where: file, and line or entry, for messages.
    """

    name: str
    box: Sequence[float]
    object_id: str | None
    where: str


@dataclass(frozen=True)
class FrameLabels:
    """The labelled boxes of one frame, in LiDAR coordinates: x forward, y left, z up.

    Attributes:
        names: (M,) class of each box.
        boxes: (M, 7) float64, the columns of ``LabelRow.box``.
        ids: (M,) the file's names of the objects, empty where it has none; None without any.
        where: (M,) file, and line or entry, of each box.
    """

    names: np.ndarray
    boxes: np.ndarray
    ids: np.ndarray | None = None
    where: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, rows: Iterable[LabelRow]) -> FrameLabels:
        """The labels of a frame from its rows; KITTI's DontCare regions are left out."""
        objects = [row for row in rows if row.name != DONT_CARE]
        ids = [row.object_id or "" for row in objects]
        return cls(
            names=np.array([row.name for row in objects], dtype=str),
            boxes=np.array([row.box for row in objects], dtype=np.float64).reshape(-1, BOX_WIDTH),
            ids=np.array(ids, dtype=str) if any(ids) else None,
            where=tuple(row.where for row in objects),
        )

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, keep: np.ndarray) -> FrameLabels:
        """The labels where ``keep`` (M,) bool is True."""
        return FrameLabels(
            names=self.names[keep],
            boxes=self.boxes[keep],
            ids=None if self.ids is None else self.ids[keep],
            where=tuple(place for place, kept in zip(self.where, keep) if kept),
        )


@dataclass(frozen=True)
class LabelSet:
    """The labels of many frames.

    Attributes:
        frames: labels by the name of the frame, which is the stem of its point file.
        notes: what the reader found out or assumed, a sentence each, to be shown to the user.
    """

    frames: Mapping[str, FrameLabels]
    notes: tuple[str, ...] = ()


def number(text: object, what: str, where: str) -> float:
    """A number of a label file, or a DataError that names its place.

    Args:
        text: a word of a table, or the value of a JSON file.
    """
    value = number_of(text.strip()) if isinstance(text, str) else text
    misfit = misfit_of(value, NUMBER)
    if misfit is not None:
        raise DataError(f"{where}: {what} is {misfit.found}, expected {misfit.expected}")
    return float(value)  # type: ignore[arg-type]


def yaw_of_quaternion(w: float, x: float, y: float, z: float) -> float:
    """The heading in radians of a rotation: how its x axis turns around z."""
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def read_text(path: Path) -> str:
    """The text of a label file in UTF-8, or a DataError."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: this label file does not exist") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is no text in UTF-8 (byte {error.start}); save the labels as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
