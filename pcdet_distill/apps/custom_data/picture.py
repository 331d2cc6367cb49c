"""A picture of some frames from above, with their boxes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...visualize import BevPanel, draw_bev

MOST_PANELS = 4
PANEL_INCH = 5.0


def frames_to_draw(num_boxes: Sequence[int]) -> list[int]:
    """Up to four frames: of each quarter of all the one with the most boxes."""
    count = min(MOST_PANELS, len(num_boxes))
    edges = [round(index * len(num_boxes) / count) for index in range(count + 1)]
    chosen = []
    for first, last in zip(edges, edges[1:]):
        part = list(num_boxes[first:last])
        chosen.append(first + int(np.argmax(part)))
    return chosen


def draw_frames(
    panels: Sequence[BevPanel], limits: Sequence[float], classes: Sequence[str], path: Path
) -> str:
    """Draw frames into one PNG; returns a note where that cannot be done, else nothing.

    Args:
        panels: a frame each, with its own points.
        limits: x, y, z minimum, then maximum.
    """
    try:
        with warnings.catch_warnings():
            # matplotlib's font lacks the letters of some scripts, and shows boxes for them.
            warnings.filterwarnings("ignore", message="Glyph")
            draw_bev(
                np.zeros((0, 3)),
                panels,
                path,
                point_cloud_range=limits,
                class_names=classes,
                columns=math.ceil(math.sqrt(len(panels))),
                panel_size_inch=PANEL_INCH,
            )
    except UserError as error:  # without matplotlib there is no picture, but a data set
        return f"no picture: {error}"
    return ""
