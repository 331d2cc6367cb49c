"""OpenPCDet's text format of own data: ``x y z dx dy dz heading name``, one box a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import DataError
from .base import BOX_WIDTH, FrameLabels, LabelRow, number, read_text

COLUMNS = ("x", "y", "z", "dx", "dy", "dz", "heading")


def read_openpcdet_text(path: Path) -> FrameLabels:
    """The boxes of one label file. An empty file is a frame without objects."""
    rows = []
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            rows.append(_row_of_line(line, f"{path}, line {line_number}"))
    return FrameLabels.from_rows(rows)


def _row_of_line(line: str, where: str) -> LabelRow:
    """One box. Everything after the seven numbers is the name, which may hold spaces."""
    fields = line.split()
    if len(fields) <= BOX_WIDTH:
        raise DataError(
            f"{where}: has {len(fields)} fields, expected 'x y z dx dy dz heading name'"
        )
    box = [number(text, name, where) for name, text in zip(COLUMNS, fields)]
    if not np.isfinite(box).all():
        raise DataError(f"{where}: the box holds NaN or infinity; expected finite numbers")
    if min(box[3:6]) <= 0:
        raise DataError(
            f"{where}: the sizes dx dy dz are {box[3]:g} {box[4]:g} {box[5]:g}; expected lengths "
            "above 0 in metres"
        )
    return LabelRow(" ".join(fields[BOX_WIDTH:]), box, None, where)


def openpcdet_text(names: Sequence[str], boxes: np.ndarray) -> str:
    """The label file of boxes (M, 7)."""
    lines = []
    for name, box in zip(names, boxes):
        numbers = " ".join(f"{value:.4f}" for value in box[:BOX_WIDTH])
        lines.append(f"{numbers} {name}\n")
    return "".join(lines)
