"""Pictures from above: the points of one frame, and boxes of several detectors side by side.

Forward (the sensor's x) is up, the sensor's left (y) is left. A box is an outline in its class's colour with a
wedge that points to its front; the boxes to compare with (usually the ground truth) lie beneath, thin and pale.
matplotlib is an optional extra (``pip install 'pcdet_distill[viz]'``), only imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError

BACKGROUND, FRAME, TEXT, PALE = "#0b0f17", "#2b3445", "#dfe6f3", "#93a1b8"
CLASS_COLOURS = {"Car": "#4cc9f0", "Pedestrian": "#ffb703", "Cyclist": "#9ef01a", "Van": "#c77dff"}
OTHER_COLOURS = ("#ff6b6b", "#f72585", "#80ffdb", "#fca311", "#bdb2ff")
RING_STEP_M = 10.0


@dataclass(frozen=True)
class BevPanel:
    """One picture of the row: ``boxes (N, 7)`` (x, y, z, dx, dy, dz, heading_rad) with ``names (N,)`` of their classes.

    ``scores (N,)`` are written beside the boxes when given; ``reference (M, 7)`` is drawn thin and pale beneath.
    """

    title: str
    boxes: np.ndarray
    names: Sequence[str]
    scores: np.ndarray | None = None
    reference: np.ndarray | None = None


def draw_bev(
    points: np.ndarray,
    panels: Sequence[BevPanel],
    path: str | Path,
    *,
    point_cloud_range: Sequence[float] | np.ndarray,
    class_names: Sequence[str],
    columns: int | None = None,
    title: str = "",
    panel_size_inch: float = 4.2,
    dpi: int = 110,
) -> Path:
    """Draw ``points (N, 3 or more)`` and one panel for each set of boxes into the PNG file ``path``; returns the path.

    ``point_cloud_range`` is (x0, y0, z0, x1, y1, z1) in metres; ``columns`` defaults to all panels in one row.
    """
    plt = import_pyplot()
    x0, y0, _, x1, y1, _ = map(float, point_cloud_range)
    columns = min(len(panels), columns or len(panels))
    rows = -(-len(panels) // columns)
    size = (panel_size_inch * columns, panel_size_inch * (x1 - x0) / (y1 - y0) * rows + 0.75)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, facecolor=BACKGROUND, layout="constrained"
    )
    try:
        colours = colours_of(class_names)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis, panel in zip(axes.flat, panels):
            prepare_axis(axis, panel.title, (x0, y0, x1, y1))
            draw_points(axis, points, (x0, y0, x1, y1), point_size=0.3 * panel_size_inch)
            draw_panel(axis, panel, colours)
        add_legend(
            figure, colours, has_reference=any(panel.reference is not None for panel in panels)
        )
        if title:
            figure.suptitle(title, color=TEXT, fontsize=12)
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=dpi, facecolor=BACKGROUND)
        except OSError as error:
            raise UserError(
                f"{path}: this picture cannot be written ({error.strerror or error})"
            ) from None
    finally:
        plt.close(figure)
    return path


def import_pyplot() -> Any:
    """matplotlib's pyplot on the file-only Agg canvas, or one sentence that says how to get it."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(
            "pictures need matplotlib, which is not installed: pip install 'pcdet_distill[viz]'"
        ) from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def colours_of(class_names: Sequence[str]) -> dict[str, str]:
    """A colour for each class: the fixed one of KITTI's classes, the next free one for any other name."""
    spare = iter(OTHER_COLOURS * (1 + len(class_names) // len(OTHER_COLOURS)))
    return {name: CLASS_COLOURS.get(name) or next(spare) for name in class_names}


def box_outline(box: np.ndarray) -> np.ndarray:
    """Corners ``(4, 2)`` of a box's footprint in the picture (left-right, forward): the two front corners first."""
    x, y, _, length, width, _, heading_rad = (float(value) for value in box[:7])
    along = 0.5 * length * np.array([np.cos(heading_rad), np.sin(heading_rad)])
    across = 0.5 * width * np.array([-np.sin(heading_rad), np.cos(heading_rad)])
    corners = np.array([x, y]) + np.array(
        [along + across, along - across, -along - across, -along + across]
    )
    return to_picture(corners)


def to_picture(points: np.ndarray) -> np.ndarray:
    """Sensor ``(N, 2 or more)`` x forward, y left -> picture ``(N, 2)``: right, up."""
    return np.stack([-points[:, 1], points[:, 0]], axis=1)


def prepare_axis(axis: Any, title: str, limits: tuple[float, float, float, float]) -> None:
    """A dark square with rings every 10 m round the sensor."""
    x0, y0, x1, y1 = limits
    axis.set(
        xlim=(-y1, -y0), ylim=(x0, x1), aspect="equal", facecolor=BACKGROUND, xticks=[], yticks=[]
    )
    axis.set_title(title, color=TEXT, fontsize=13, pad=7)
    for spine in axis.spines.values():
        spine.set_color(FRAME)
    angles = np.linspace(0.0, 2.0 * np.pi, 181)
    for radius in np.arange(RING_STEP_M, np.hypot(x1, max(abs(y0), abs(y1))), RING_STEP_M):
        axis.plot(
            radius * np.cos(angles), radius * np.sin(angles), color=FRAME, linewidth=0.7, zorder=0
        )
        if x0 < radius < x1:
            axis.text(
                0.0,
                radius,
                f"{radius:.0f} m",
                color=PALE,
                fontsize=6.5,
                ha="center",
                va="center",
                zorder=1,
            )


def draw_points(
    axis: Any, points: np.ndarray, limits: tuple[float, float, float, float], point_size: float
) -> None:
    """The points inside ``limits``, from dim (low) to bright (high)."""
    x0, y0, x1, y1 = limits
    inside = (
        (points[:, 0] >= x0) & (points[:, 0] <= x1) & (points[:, 1] >= y0) & (points[:, 1] <= y1)
    )
    kept = points[inside]
    brightness = np.clip((kept[:, 2] + 2.0) / 3.0, 0.0, 1.0)
    dim, bright = np.array([0.33, 0.40, 0.53]), np.array([0.86, 0.90, 0.96])
    place = to_picture(kept)
    colours = dim + brightness[:, None] * (bright - dim)
    axis.scatter(place[:, 0], place[:, 1], s=point_size, c=colours, linewidths=0, zorder=2)


def draw_panel(axis: Any, panel: BevPanel, colours: dict[str, str]) -> None:
    """The reference boxes, then the panel's own over them."""
    for box in [] if panel.reference is None else panel.reference:
        outline = np.vstack([box_outline(box), box_outline(box)[:1]])
        axis.plot(
            outline[:, 0],
            outline[:, 1],
            color=TEXT,
            linewidth=0.8,
            linestyle=(0, (2, 1.5)),
            alpha=0.8,
            zorder=3,
        )
    for index, (box, name) in enumerate(zip(panel.boxes, panel.names)):
        draw_box(axis, box, colours.get(name, OTHER_COLOURS[0]))
        if panel.scores is not None:
            top = box_outline(box)
            axis.text(
                top[:, 0].max() + 0.15,
                top[:, 1].max(),
                f".{min(99, int(100 * panel.scores[index])):02d}",
                color=colours.get(name, OTHER_COLOURS[0]),
                fontsize=6,
                va="top",
                zorder=6,
                clip_on=True,
            )


def draw_box(axis: Any, box: np.ndarray, colour: str) -> None:
    """An outline with a faint fill, and a filled wedge from the middle to the front edge that tells the heading."""
    outline = box_outline(box)
    centre = outline.mean(axis=0)
    tip = outline[:2].mean(axis=0)
    wedge = np.stack([tip, *(centre + 0.45 * (corner - tip) for corner in outline[:2])])
    axis.fill(
        outline[:, 0], outline[:, 1], facecolor=colour, edgecolor="none", alpha=0.22, zorder=4
    )
    axis.fill(
        outline[:, 0], outline[:, 1], facecolor="none", edgecolor=colour, linewidth=1.4, zorder=5
    )
    axis.fill(wedge[:, 0], wedge[:, 1], facecolor=colour, edgecolor="none", zorder=5)


def add_legend(figure: Any, colours: dict[str, str], *, has_reference: bool) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in colours.items()
    ]
    if has_reference:
        handles.append(
            Line2D([], [], color=TEXT, linewidth=1, linestyle=(0, (2, 1.5)), label="ground truth")
        )
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10
    )
    for text in legend.get_texts():
        text.set_color(TEXT)
