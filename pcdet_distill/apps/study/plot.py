"""A picture of a study: 3D mAP over what a training took, a point a row, its spread as bars, the teacher as a line."""

from __future__ import annotations

from pathlib import Path

from ...visualize import import_pyplot
from .spec import TEACHER
from .table import MAP, Table

LETTER_PT, LINE_PT, GAP_PT = 4.6, 9.0, 4.0  # of labels, roughly
Box = tuple[float, float, float, float]  # left, bottom, right, top


def draw(table: Table, path: Path, on_gpu: bool) -> None:
    """Draw the rows that have results; a UserError without matplotlib."""
    plt = import_pyplot()
    figure, axes = plt.subplots(figsize=(8, 5))
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.1, top=0.98)
    shown = []
    for row in table.rows:
        if not row.ap:
            continue
        score = row.ap["3d"][MAP]
        if row.name == TEACHER:
            axes.axhline(score.mean, color="black", linestyle="--", linewidth=1)
            axes.annotate(
                "teacher",
                (1, score.mean),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
            )
        elif row.train_s is not None:
            point, *_ = axes.errorbar(
                row.train_s.mean,
                score.mean,
                xerr=row.train_s.deviation,
                yerr=score.deviation,
                fmt="o",
                capsize=3,
            )
            shown.append((row.title, row.train_s.mean, score.mean, point.get_color()))
    axes.set_xlabel(f"training, {'seconds on the clock' if on_gpu else 'processor seconds'}")
    axes.set_ylabel(f"3D mAP, moderate, split {table.split}")
    axes.grid(alpha=0.3)
    figure.canvas.draw()  # only now are the axes where they stay
    to_points = 72 / figure.dpi
    frame = axes.get_window_extent()
    places = [
        tuple(value * to_points for value in axes.transData.transform((x, y)))
        for _, x, y, _ in shown
    ]
    offsets = label_offsets([title for title, *_ in shown], places, frame.x1 * to_points)
    for (title, x, y, color), offset in zip(shown, offsets):
        axes.annotate(
            title, (x, y), xytext=offset, textcoords="offset points", fontsize=8, color=color
        )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def label_offsets(
    titles: list[str], places: list[tuple[float, ...]], right_edge: float
) -> list[tuple[float, float]]:
    """Where the label of each point begins, in typographic points from it, so that few labels lie on one another."""
    taken: list[Box] = [
        (x - GAP_PT / 2, y - GAP_PT / 2, x + GAP_PT / 2, y + GAP_PT / 2) for x, y in places
    ]
    offsets = []
    for title, (x, y) in zip(titles, places):
        width = LETTER_PT * len(title)
        tried = []
        for up in (GAP_PT, -GAP_PT - LINE_PT, GAP_PT + LINE_PT, -GAP_PT - 2 * LINE_PT):
            for right in (GAP_PT, -GAP_PT - width):
                box = (x + right, y + up, x + right + width, y + up + LINE_PT)
                tried.append(
                    (
                        sum(_overlap(box, other) for other in taken)
                        + 10 * width * (box[2] > right_edge),
                        len(tried),
                        box,
                    )
                )
        best = min(tried)[2]
        taken.append(best)
        offsets.append((best[0] - x, best[1] - y))
    return offsets


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width, height = (
        min(one[2], other[2]) - max(one[0], other[0]),
        min(one[3], other[3]) - max(one[1], other[1]),
    )
    return max(width, 0.0) * max(height, 0.0)
