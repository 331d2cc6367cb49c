"""Pictures from above: the points of one frame, and the boxes of several detectors side by side.

Forward (the sensor's x) is up, the sensor's left (y) is left. A box is an outline in the colour of
its class, with a wedge that points to its front. The boxes to compare with, usually the ground
truth, are drawn beneath, thin and dashed. matplotlib is an optional extra
(``pip install 'pcdet_distill[viz]'``), imported only when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..extras import import_extra
from .label_places import LETTER_WIDTH, TEXT_PT, Limits, Rectangle, bounds, leader_of, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND = "#0b0f17"
RING = "#2b3445"
TEXT = "#dfe6f3"
PALE = "#93a1b8"
CLASS_COLOURS = {"Car": "#4cc9f0", "Pedestrian": "#ffb703", "Cyclist": "#9ef01a", "Van": "#c77dff"}
OTHER_COLOURS = (
    *("#ff6b6b", "#f72585", "#80ffdb", "#fca311", "#bdb2ff"),
    *("#4cc9f0", "#9ef01a", "#ffadad", "#c77dff", "#ffb703"),
)
# Points of low and of high z, as red, green and blue.
LOW_POINT = np.array([0.33, 0.40, 0.53])
HIGH_POINT = np.array([0.86, 0.90, 0.96])
DASHES = (0, (2, 1.5))

RING_STEP_M = 10.0
RING_LABEL_PT = 8.0
RING_LABEL_GAP_PT = 3.0  # from its ring and from the edge
RING_LABEL_SHARE = 0.04  # of the panel's height, which the label needs
POINTS_PER_INCH = 72.0
LEGEND_LINE_INCH, LEGEND_LETTER_INCH = 0.7, 0.09  # widths of an entry's line and of a letter
LEGEND_INCH = 0.75


@dataclass(frozen=True)
class BevPanel:
    """One picture of the row.

    Args:
        boxes: ``(N, 7)``: x, y, z, dx, dy, dz in metres, heading in radians.
        names: ``(N,)`` class of each box.
        scores: ``(N,)``, written beside the boxes with their classes when given.
        labels: ``(N,)`` texts to write instead; empty ones are left out.
        reference: ``(M, 7)`` boxes to compare with.
        points: ``(N, 3 or more)`` of this panel, where it shows another frame than the others.
    """

    title: str
    boxes: np.ndarray
    names: Sequence[str]
    scores: np.ndarray | None = None
    reference: np.ndarray | None = None
    points: np.ndarray | None = None
    labels: Sequence[str] | None = None

    def texts(self) -> Sequence[str]:
        """What is written beside each box; empty where nothing is."""
        if self.labels is not None:
            return self.labels
        if self.scores is None:
            return [""] * len(self.boxes)
        return [label_text(name, score) for name, score in zip(self.names, self.scores)]


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
    """Draw one panel for each set of boxes into a PNG file; returns its path.

    Args:
        points: ``(N, 3 or more)``, the same ones in every panel that brings none of its own.
        point_cloud_range: x0, y0, z0, x1, y1, z1 in metres.
        class_names: the classes of the legend.
        columns: panels in a row; all of them when None.
        panel_size_inch: width of a panel.
    """
    plt = import_pyplot()
    x0, y0, _, x1, y1, _ = (float(value) for value in point_cloud_range)
    limits = Limits(x0, y0, x1, y1)
    columns = min(len(panels), columns or len(panels))
    rows = -(-len(panels) // columns)
    panel_height_inch = panel_size_inch * (x1 - x0) / (y1 - y0)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(panel_size_inch * columns, panel_height_inch * rows + LEGEND_INCH),
        squeeze=False,
        facecolor=BACKGROUND,
        layout="constrained",
    )
    metres_per_point = (y1 - y0) / (panel_size_inch * POINTS_PER_INCH)
    colours = colours_of(class_names)
    has_reference = any(panel.reference is not None for panel in panels)
    try:
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis, panel in zip(axes.flat, panels):
            prepare_axis(axis, panel.title, limits)
            shown = points if panel.points is None else panel.points
            draw_points(axis, shown, limits, point_size=0.3 * panel_size_inch)
            draw_panel(axis, panel, colours, limits, metres_per_point)
        add_legend(figure, colours, has_reference=has_reference)
        if title:
            figure.suptitle(title, color=TEXT, fontsize=12)
        return _save(figure, Path(path), dpi)
    finally:
        plt.close(figure)


def import_pyplot() -> Any:
    """matplotlib's pyplot for files only, or one sentence on how to install it."""
    import_extra("matplotlib", needed_by="a picture").use("Agg")
    return import_extra("matplotlib.pyplot", needed_by="a picture")


def _save(figure: Figure, path: Path, dpi: int) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, facecolor=BACKGROUND)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: this picture cannot be written ({reason})") from None
    return path


def colours_of(class_names: Sequence[str]) -> dict[str, str]:
    """A colour for each class: fixed ones for KITTI's classes, the next free one for others."""
    colours = {}
    num_others = 0
    for name in class_names:
        if name in CLASS_COLOURS:
            colours[name] = CLASS_COLOURS[name]
        else:
            colours[name] = OTHER_COLOURS[num_others % len(OTHER_COLOURS)]
            num_others += 1
    return colours


def box_outline(box: np.ndarray) -> np.ndarray:
    """Corners ``(4, 2)`` of a box's footprint in the picture, the two front corners first."""
    x, y, _, length, width, _, heading_rad = (float(value) for value in box[:7])
    forward = 0.5 * length * np.array([np.cos(heading_rad), np.sin(heading_rad)])
    left = 0.5 * width * np.array([-np.sin(heading_rad), np.cos(heading_rad)])
    centre = np.array([x, y])
    corners = [
        centre + forward + left,
        centre + forward - left,
        centre - forward - left,
        centre - forward + left,
    ]
    return to_picture(np.stack(corners))


def to_picture(points: np.ndarray) -> np.ndarray:
    """Sensor ``(N, 2 or more)`` x forward, y left -> picture ``(N, 2)`` right, up."""
    return np.stack([-points[:, 1], points[:, 0]], axis=1)


def prepare_axis(axis: Axes, title: str, limits: Limits) -> None:
    """A dark panel with rings every 10 m around the sensor."""
    axis.set(
        xlim=(-limits.y1, -limits.y0),
        ylim=(limits.x0, limits.x1),
        aspect="equal",
        facecolor=BACKGROUND,
        xticks=[],
        yticks=[],
    )
    axis.set_title(title, color=TEXT, fontsize=13, pad=7)
    for spine in axis.spines.values():
        spine.set_color(RING)
    angles = np.linspace(0.0, 2.0 * np.pi, 181)
    furthest = np.hypot(limits.x1, max(abs(limits.y0), abs(limits.y1)))
    for radius in np.arange(RING_STEP_M, furthest, RING_STEP_M):
        right = radius * np.cos(angles)
        forward = radius * np.sin(angles)
        axis.plot(right, forward, color=RING, linewidth=0.7, zorder=0)
    for text, right, forward in _ring_labels(limits):
        axis.annotate(
            text,
            (right, forward),
            xytext=(-RING_LABEL_GAP_PT, RING_LABEL_GAP_PT),
            textcoords="offset points",
            color=PALE,
            fontsize=RING_LABEL_PT,
            ha="right",
            va="bottom",
            zorder=1,
        )


def _ring_labels(limits: Limits) -> list[tuple[str, float, float]]:
    """Each ring's text with its place: at the panel's right edge, away from the road and boxes."""
    right_edge = -limits.y0
    furthest = np.hypot(limits.x1, max(abs(limits.y0), abs(limits.y1)))
    top = limits.x1 - RING_LABEL_SHARE * (limits.x1 - limits.x0)
    labels = []
    for radius in np.arange(RING_STEP_M, furthest, RING_STEP_M):
        forward = np.sqrt(max(radius**2 - right_edge**2, 0.0))
        if limits.x0 <= forward < top:
            labels.append((f"{radius:.0f} m", float(min(radius, right_edge)), float(forward)))
    return labels


def _ring_label_places(limits: Limits, metres_per_point: float) -> list[Rectangle]:
    """What the texts of the rings cover."""
    gap = RING_LABEL_GAP_PT * metres_per_point
    height = RING_LABEL_PT * metres_per_point
    places = []
    for text, right, forward in _ring_labels(limits):
        width = len(text) * LETTER_WIDTH * height
        left, bottom = right - gap - width, forward + gap
        places.append(Rectangle(left, bottom, right - gap, bottom + height))
    return places


def draw_points(axis: Axes, points: np.ndarray, limits: Limits, point_size: float) -> None:
    """The points inside ``limits``, from dim (low) to bright (high)."""
    x, y = points[:, 0], points[:, 1]
    inside = (x >= limits.x0) & (x <= limits.x1) & (y >= limits.y0) & (y <= limits.y1)
    kept = points[inside]
    brightness = np.clip((kept[:, 2] + 2.0) / 3.0, 0.0, 1.0)
    colours = LOW_POINT + brightness[:, None] * (HIGH_POINT - LOW_POINT)
    place = to_picture(kept)
    axis.scatter(place[:, 0], place[:, 1], s=point_size, c=colours, linewidths=0, zorder=2)


def draw_panel(
    axis: Axes,
    panel: BevPanel,
    colours: Mapping[str, str],
    limits: Limits,
    metres_per_point: float,
) -> None:
    """The reference boxes, then the panel's own over them, then the texts."""
    for box in [] if panel.reference is None else panel.reference:
        outline = box_outline(box)
        closed = np.vstack([outline, outline[:1]])
        axis.plot(
            closed[:, 0],
            closed[:, 1],
            color=TEXT,
            linewidth=0.8,
            linestyle=DASHES,
            alpha=0.8,
            zorder=3,
        )
    box_colours = [colours.get(name, OTHER_COLOURS[0]) for name in panel.names]
    for box, colour in zip(panel.boxes, box_colours):
        draw_box(axis, box, colour)
    _write_labels(axis, panel, box_colours, limits, metres_per_point)


def _write_labels(
    axis: Axes,
    panel: BevPanel,
    box_colours: Sequence[str],
    limits: Limits,
    metres_per_point: float,
) -> None:
    """The texts of the boxes in the picture, where they cover neither boxes nor each other."""
    shapes = [bounds(box_outline(box)) for box in panel.boxes]
    texts = panel.texts()
    chosen = [
        number for number, text in enumerate(texts) if text and limits.hold(panel.boxes[number])
    ]
    others = [] if panel.reference is None else list(panel.reference)
    others += [box for number, box in enumerate(panel.boxes) if number not in chosen]
    obstacles = [bounds(box_outline(box)) for box in others if np.isfinite(box[:7]).all()]
    obstacles += _ring_label_places(limits, metres_per_point)
    places = place_labels(
        [shapes[number] for number in chosen],
        [texts[number] for number in chosen],
        limits,
        metres_per_point,
        obstacles,
    )
    for number, place in zip(chosen, places):
        if place is None:
            continue
        line = leader_of(shapes[number], place, metres_per_point)
        if line is not None:
            axis.plot(*line.T, color=box_colours[number], linewidth=0.7, alpha=0.8, zorder=5)
        _write_text(axis, texts[number], (place.left, place.bottom), box_colours[number])


def draw_box(axis: Axes, box: np.ndarray, colour: str) -> None:
    """An outline with a faint fill, and a wedge from the middle to the front: the heading."""
    outline = box_outline(box)
    right, forward = outline[:, 0], outline[:, 1]
    axis.fill(right, forward, facecolor=colour, edgecolor="none", alpha=0.22, zorder=4)
    axis.fill(right, forward, facecolor="none", edgecolor=colour, linewidth=1.4, zorder=5)
    centre = outline.mean(axis=0)
    tip = outline[:2].mean(axis=0)
    base = centre + 0.45 * (outline[:2] - tip)
    wedge = np.vstack([tip, base])
    axis.fill(wedge[:, 0], wedge[:, 1], facecolor=colour, edgecolor="none", zorder=5)


def score_text(score: float) -> str:
    """``0.937`` as ``.93``: cut, not rounded, so that no score reads as 1."""
    return f".{min(99, int(100 * score)):02d}"


def label_text(name: str, score: float) -> str:
    """``Car .93``"""
    return f"{name} {score_text(score)}"


def _write_text(axis: Axes, text: str, place: tuple[float, float], colour: str) -> None:
    """A text with a dark outline, which keeps it legible over points and lines."""
    from matplotlib.patheffects import withStroke

    axis.text(
        *place,
        text,
        color=colour,
        fontsize=TEXT_PT,
        ha="left",
        va="bottom",
        zorder=6,
        clip_on=True,
        path_effects=[withStroke(linewidth=2.5, foreground=BACKGROUND)],
    )


def add_legend(figure: Figure, colours: Mapping[str, str], *, has_reference: bool) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    handles = []
    for name, colour in colours.items():
        handles.append(Line2D([], [], color=colour, linewidth=3, label=name))
    if has_reference:
        handles.append(
            Line2D([], [], color=TEXT, linewidth=1, linestyle=DASHES, label="ground truth")
        )
    width_inch = figure.get_size_inches()[0]
    longest = max(len(str(handle.get_label())) for handle in handles)
    entry_inch = LEGEND_LINE_INCH + LEGEND_LETTER_INCH * longest
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(width_inch / entry_inch))),
        frameon=False,
        fontsize=12,
    )
    for text in legend.get_texts():
        text.set_color(TEXT)
