"""The boxes of both detectors, and those that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...visualize import (
    TEXT,
    BevPanel,
    add_legend,
    box_outline,
    colours_of,
    draw_panel,
)
from .boxes import Boxes, Change
from .draw import Scene, as_webp, metres_per_point, panels, prepare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANGE_COLOURS = {"gained": "#80ffdb", "lost": "#ff4d6d", "moved": "#ffd166"}
LEGEND_INCH = 0.9


def draw_boxes(
    scene: Scene,
    named: Sequence[tuple[str, Boxes]],
    changes: Sequence[Change],
    class_names: Sequence[str],
    compared: tuple[Boxes, Boxes],
) -> bytes:
    """A panel for each detector, and one with the changes between the two ``compared`` ones."""
    figure, axes = panels(scene, len(named) + 1, LEGEND_INCH)
    colours = colours_of(class_names)
    for axis, (title, boxes) in zip(axes, named):
        prepare(axis, scene, title)
        # The colour names the class already: beside each box only its score has room.
        scores = [f"{score:.2f}".removeprefix("0") for score in boxes.scores]
        panel = BevPanel(title, boxes.boxes[:, :7], list(boxes.names), labels=scores)
        draw_panel(axis, panel, colours, scene.limits, metres_per_point(scene))
    prepare(axes[-1], scene, "changes")
    for number, change in enumerate(changes, start=1):
        _draw_change(axes[-1], number, change, *compared)
    _change_legend(axes[-1])
    add_legend(figure, colours, has_reference=True)
    return as_webp(figure)


def _draw_change(axis: Axes, number: int, change: Change, before: Boxes, after: Boxes) -> None:
    """A changed box with its number in the table; of a moved one also where it was."""
    colour = CHANGE_COLOURS[change.kind]
    box = before.boxes[change.before] if change.after < 0 else after.boxes[change.after]
    outline = _closed(box)
    axis.plot(*outline.T, color=colour, linewidth=1.6, zorder=9)
    if change.kind == "moved":
        axis.plot(*_closed(before.boxes[change.before]).T, color=colour, linewidth=0.8, zorder=9)
    right, top = outline.max(axis=0)
    axis.annotate(
        str(number),
        (right, top),
        xytext=(2, 1),
        textcoords="offset points",
        color=colour,
        fontsize=8,
        zorder=10,
        clip_on=True,
    )


def _closed(box: np.ndarray) -> np.ndarray:
    outline = box_outline(box)
    return np.vstack([outline, outline[:1]])


def _change_legend(axis: Axes) -> None:
    """What the three colours mean, below the panel."""
    for kind, colour in CHANGE_COLOURS.items():
        axis.plot([], [], color=colour, linewidth=2, label=kind)
    legend = axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=8, frameon=False
    )
    for words in legend.get_texts():
        words.set_color(TEXT)
