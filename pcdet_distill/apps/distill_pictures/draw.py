"""What all pictures of this page share: dark panels of one frame from above."""

from __future__ import annotations

import dataclasses
import io
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...distill import NodeFeatures
from ...visualize import (
    BACKGROUND,
    PALE,
    TEXT,
    Limits,
    box_outline,
    draw_points,
    import_pyplot,
    prepare_axis,
    to_picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

DPI = 115
QUALITY = 82  # of the WebP files
PANEL_AREA = 10.5  # square inches
TALL = 1.25  # from this ratio of height to width on, more panels stand beside each other
TITLE_INCH = 0.45
POINTS_PER_INCH = 72.0
MOST_TICKS = 4
LABEL_DASHES = (0, (3, 2))
VALUES = "inferno"


@dataclasses.dataclass(frozen=True)
class Scene:
    """One frame from above.

    Attributes:
        name: of the frame.
        points: (P, 3 or more).
        labels: (G, 7 + C) labelled boxes.
        limits: the part of the ground plane that is shown.
    """

    name: str
    points: np.ndarray
    labels: np.ndarray
    limits: Limits


def panel_shape(scene: Scene) -> tuple[float, float]:
    """Height by width of a panel, and its width in inches."""
    ratio = (scene.limits.x1 - scene.limits.x0) / (scene.limits.y1 - scene.limits.y0)
    return ratio, (PANEL_AREA / ratio) ** 0.5


def metres_per_point(scene: Scene) -> float:
    """Metres of a panel that a typographic point covers."""
    _, width_inch = panel_shape(scene)
    return (scene.limits.y1 - scene.limits.y0) / (width_inch * POINTS_PER_INCH)


def panels(scene: Scene, count: int, extra_inch: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure with empty panels of equal size."""
    plt = import_pyplot()
    ratio, width = panel_shape(scene)
    columns = min(count, 5 if ratio >= TALL else 3)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, (width * ratio + TITLE_INCH) * rows + extra_inch),
        squeeze=False,
        facecolor=BACKGROUND,
        layout="constrained",
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def prepare(axis: Axes, scene: Scene, title: str, *, with_points: bool = True) -> None:
    """An empty panel with rings, labelled boxes and the points."""
    prepare_axis(axis, "", scene.limits)
    axis.set_title(title, color=TEXT, fontsize=9.5, pad=5)
    if with_points:
        draw_points(axis, scene.points, scene.limits, point_size=0.5)
    draw_labels(axis, scene)


def draw_labels(axis: Axes, scene: Scene) -> None:
    """The labelled boxes, dashed."""
    for box in scene.labels:
        outline = box_outline(box)
        closed = np.vstack([outline, outline[:1]])
        axis.plot(
            *closed.T, color="white", linewidth=0.8, linestyle=LABEL_DASHES, alpha=0.9, zorder=8
        )


def draw_values(
    axis: Axes,
    nodes: NodeFeatures,
    values: Tensor,
    *,
    largest: float | None = None,
    hide_zero: bool = False,
) -> ScalarMappable:
    """Nodes coloured by their value (N,); returns what a colour bar needs.

    Args:
        largest: value of the last colour; the largest one by default.
        hide_zero: leave nodes with a value of 0 out.
    """
    numbers = values.detach().cpu().float().numpy()
    largest = float(numbers.max(initial=0.0)) if largest is None else largest
    largest = max(largest, 1e-12)
    if nodes.grid is None:
        shown = numbers > 0 if hide_zero else np.ones(len(numbers), dtype=bool)
        order = np.flatnonzero(shown)[np.argsort(numbers[shown])]
        right, forward = to_picture(nodes.coords.cpu().numpy()[order]).T
        return axis.scatter(
            right,
            forward,
            c=numbers[order],
            s=4,
            linewidths=0,
            zorder=3,
            cmap=VALUES,
            vmin=0.0,
            vmax=largest,
        )
    image = node_image(nodes, numbers[:, None])[..., 0]
    if hide_zero:
        image = np.where(image > 0, image, np.nan)
    return axis.imshow(
        image,
        extent=extent_of(nodes),
        origin="lower",
        interpolation="nearest",
        zorder=3,
        cmap=VALUES,
        vmin=0.0,
        vmax=largest,
    )


def draw_colours(axis: Axes, nodes: NodeFeatures, colours: Tensor) -> None:
    """Nodes with colours (N, 3) of their own."""
    numbers = colours.detach().cpu().float().numpy()
    if nodes.grid is None:
        right, forward = to_picture(nodes.coords.cpu().numpy()).T
        axis.scatter(right, forward, c=numbers, s=3, linewidths=0, zorder=3)
        return
    image = node_image(nodes, numbers)
    is_node = np.isfinite(image[..., :1])
    opaque = np.concatenate([np.nan_to_num(image), is_node.astype(np.float32)], axis=2)
    axis.imshow(opaque, extent=extent_of(nodes), origin="lower", interpolation="nearest", zorder=3)


def node_image(nodes: NodeFeatures, values: np.ndarray) -> np.ndarray:
    """(nx, ny, D) values (N, D) of nodes on a grid, as the picture shows them; NaN without a node.

    Of several layers the largest value counts.
    """
    assert nodes.grid is not None and nodes.cells is not None
    size_x, size_y = map_size(nodes)
    cells = nodes.cells.cpu().numpy()
    image = np.full((size_x, size_y, values.shape[1]), -np.inf, dtype=np.float32)
    # The sensor's left, large y, is at the left of the picture.
    np.maximum.at(image, (cells[:, 2], size_y - 1 - cells[:, 1]), values)
    return np.where(np.isfinite(image), image, np.nan)


def map_size(nodes: NodeFeatures) -> tuple[int, int]:
    """Cells along x and y. A sparse encoder may pad its map by cells beyond the grid."""
    assert nodes.grid is not None and nodes.cells is not None
    size_x, size_y, _ = nodes.grid.size
    if len(nodes) == 0:
        return size_x, size_y
    _, last_y, last_x = (int(cell) for cell in nodes.cells.amax(dim=0))
    return max(size_x, last_x + 1), max(size_y, last_y + 1)


def extent_of(nodes: NodeFeatures) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the grid in the picture."""
    assert nodes.grid is not None
    x0, y0, _ = nodes.grid.origin_m
    size_x, size_y = map_size(nodes)
    x1 = x0 + nodes.grid.cell_size_m[0] * size_x
    y1 = y0 + nodes.grid.cell_size_m[1] * size_y
    return -y1, -y0, x0, x1


def add_bar(figure: Figure, axes: list[Axes], drawn: ScalarMappable, words: str) -> None:
    """A horizontal colour bar below the panels."""
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(
        drawn,
        ax=axes,
        location="bottom",
        shrink=0.6,
        aspect=45,
        pad=0.02,
    )
    bar.set_label(words, color=TEXT, fontsize=9)
    bar.ax.tick_params(colors=PALE, labelsize=8)
    bar.locator = MaxNLocator(MOST_TICKS)
    bar.update_ticks()
    bar.outline.set_edgecolor(PALE)


def as_webp(figure: Figure) -> bytes:
    """The figure as a WebP file; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        dpi=DPI,
        facecolor=figure.get_facecolor(),
        bbox_inches="tight",
        pad_inches=0.12,
        format="webp",
        pil_kwargs={"quality": QUALITY, "method": 6},
    )
    pyplot: ModuleType = import_pyplot()
    pyplot.close(figure)
    return buffer.getvalue()


def width_of(content: bytes) -> int:
    """Pixels across a picture file."""
    from PIL import Image  # comes with matplotlib

    with Image.open(io.BytesIO(content)) as picture:
        return picture.width
