"""Pictures from above, with matplotlib.

bev           the points of one frame, and the boxes of several detectors side by side
label_places  where the text beside a box goes, so that it can be read
"""

from __future__ import annotations

from .bev import (
    BACKGROUND,
    CLASS_COLOURS,
    PALE,
    RING,
    TEXT,
    BevPanel,
    add_legend,
    box_outline,
    colours_of,
    draw_bev,
    draw_box,
    draw_panel,
    draw_points,
    import_pyplot,
    label_text,
    prepare_axis,
    score_text,
    to_picture,
)
from .label_places import Limits, Rectangle, bounds, leader_of, place_labels

__all__ = [
    "BACKGROUND",
    "CLASS_COLOURS",
    "PALE",
    "RING",
    "TEXT",
    "BevPanel",
    "add_legend",
    "Limits",
    "Rectangle",
    "bounds",
    "box_outline",
    "colours_of",
    "draw_bev",
    "draw_box",
    "draw_panel",
    "draw_points",
    "import_pyplot",
    "label_text",
    "leader_of",
    "place_labels",
    "prepare_axis",
    "score_text",
    "to_picture",
]
