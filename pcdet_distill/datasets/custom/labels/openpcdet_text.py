"""OpenPCDet's text format of own data: ``x y z dx dy dz heading name``, one box a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import DataError
from ....structures import Number, Text
from ...text_structures import Line, numbered_lines
from .base import BOX_WIDTH, SIZE_COLUMNS, FrameLabels, LabelRow, read_text

COLUMNS = ("x", "y", "z", "dx", "dy", "dz", "heading")
BOX_LINE = Line({**dict.fromkeys(COLUMNS, Number()), "name": Text()}, open_end=True)


def read_openpcdet_text(path: Path) -> FrameLabels:
    """The boxes of one label file. An empty file is a frame without objects."""
    lines = numbered_lines(path, read_text(path))
    return FrameLabels.from_rows(_row_of_line(line, where) for where, line in lines)


def _row_of_line(line: str, where: str) -> LabelRow:
    """One box. Everything after the seven numbers is the name, which may hold spaces."""
    values = BOX_LINE.read(line, where)
    name = " ".join(values.pop("name").split())
    box = list(values.values())
    if min(box[SIZE_COLUMNS]) <= 0:
        raise DataError(
            f"{where}: the sizes dx dy dz are {box[3]:g} {box[4]:g} {box[5]:g}; expected lengths "
            "above 0 in metres"
        )
    return LabelRow(name, box, None, where)


def openpcdet_text(names: Sequence[str], boxes: np.ndarray) -> str:
    """The label file of boxes (M, 7)."""
    lines = []
    for name, box in zip(names, boxes):
        numbers = " ".join(f"{value:.4f}" for value in box[:BOX_WIDTH])
        lines.append(f"{numbers} {name}\n")
    return "".join(lines)
