"""A picture of a study: 3D mAP over the cost of training, one point a row, the teacher as a line.

Error bars are the standard deviation over the seeds. The names stand in a column beside the plot,
each joined to its point by a thin line: names beside the points would lie on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ....visualize import import_pyplot
from ..spec import TEACHER
from .table import MAP, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCH = 8.5
HEIGHT_INCH = 5.0  # more when the column of names needs it
LABEL_INCH = 0.165  # from one name to the next
# Edges of the axes as shares of the figure; the names stand to the right of them.
LEFT, RIGHT, BOTTOM, TOP = 0.09, 0.7, 0.1, 0.98
COLOURS = 10
COLUMN_X = 1.03  # where names begin, as a share of the axes' width


@dataclass(frozen=True)
class _Point:
    """A named place in the plot, in data coordinates. The teacher has no cost: ``x`` is None."""

    title: str
    x: float | None
    y: float
    colour: str


def draw(table: Table, path: Path, on_gpu: bool) -> None:
    """Draw the rows that have results; a UserError without matplotlib."""
    plt = import_pyplot()
    height = max(HEIGHT_INCH, LABEL_INCH * len(table.rows) / (TOP - BOTTOM))
    figure, axes = plt.subplots(figsize=(WIDTH_INCH, height))
    figure.subplots_adjust(left=LEFT, right=RIGHT, bottom=BOTTOM, top=TOP)
    axes.set_xlabel(f"training, {'wall-clock' if on_gpu else 'CPU'} seconds")
    axes.set_ylabel(f"3D mAP, moderate, split {table.split}")
    axes.grid(alpha=0.3)
    points = _draw_rows(axes, table)
    axes.set_xlim(axes.get_xlim())  # the lines to the names must not widen the axes
    _draw_names(axes, points, distance=LABEL_INCH / (height * (TOP - BOTTOM)))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_rows(axes: Axes, table: Table) -> list[_Point]:
    """A point with error bars for each student, a dashed line for the teacher."""
    points = []
    for row in table.rows:
        if not row.ap:
            continue
        score = row.ap["3d"][MAP]
        if row.name == TEACHER:
            axes.axhline(score.mean, color="black", linestyle="--", linewidth=1)
            points.append(_Point(row.title, None, score.mean, "black"))
        elif row.train_s is not None:
            cost = row.train_s
            colour = f"C{len(points) % COLOURS}"  # the next one of matplotlib's cycle
            axes.errorbar(
                cost.mean,
                score.mean,
                xerr=cost.deviation,
                yerr=score.deviation,
                fmt="o",
                color=colour,
                markersize=5,
                capsize=3,
            )
            points.append(_Point(row.title, cost.mean, score.mean, colour))
    return points


def _draw_names(axes: Axes, points: Sequence[_Point], distance: float) -> None:
    """The column of names, the highest score first, with a line from each to its point."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ordered = sorted(points, key=lambda point: -point.y)
    heights = spread_out([(point.y - low) / (high - low) for point in ordered], distance)
    for point, y in zip(ordered, heights):
        right_edge = axes.get_xlim()[1]
        axes.annotate(
            point.title,
            xy=(right_edge if point.x is None else point.x, point.y),
            xycoords="data",
            xytext=(COLUMN_X, y),
            textcoords="axes fraction",
            fontsize=8,
            color=point.colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": point.colour,
                "linewidth": 0.5,
                "alpha": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def spread_out(heights: Sequence[float], distance: float) -> list[float]:
    """Move heights apart so that neighbours are ``distance`` away and all stay in [0, 1].

    Args:
        heights: from the highest to the lowest. They keep this order.
        distance: so small that all of them fit.
    """
    placed: list[float] = []
    ceiling = 1.0
    for height in heights:
        placed.append(min(height, ceiling))
        ceiling = placed[-1] - distance
    # What was pushed below the bottom is lifted again, and pushes up what stands above it.
    floor = 0.0
    for index in reversed(range(len(placed))):
        placed[index] = max(placed[index], floor)
        floor = placed[index] + distance
    return placed
