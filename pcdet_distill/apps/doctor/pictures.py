"""Pictures of the page: scenes from above, objects in their boxes, sizes, heights, counts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ...datasets.labelled_objects import LabelledObject
from ...ops.boxes import along_and_across
from ...visualize import (
    BevPanel,
    Limits,
    colours_of,
    draw_panel,
    draw_points,
    import_pyplot,
    prepare_axis,
)
from .case import Case, of_class
from .finding import Finding
from .frames import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 80
INK = "#1b2430"
BOX = "#d6336c"
POINT = "#1c5d99"
MOST_SCENES = 3
MOST_CLASSES = 6
MOST_OBJECT_POINTS = 6000
SCENE_INCH = 5.0
SHOWN_SCORE = 0.2
RANGE_COLOUR = "#ffb703"


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        title: heading.
        caption: what it shows, and how a healthy one looks.
        png: content of the file.
        is_scene: whether it is one of several frames, which stand side by side.
    """

    title: str
    caption: str
    png: bytes
    is_scene: bool = False


Drawing = Callable[[ModuleType, Case], "Figure | None"]


def draw_all(case: Case, findings: Sequence[Finding]) -> list[Picture]:
    """All pictures of a case; needs matplotlib."""
    plt = import_pyplot()
    pictures = list(_scenes(plt, case, findings))
    drawings: list[tuple[str, str, Drawing]] = [
        (
            "What the model sees",
            f"Detections with a score of {SHOWN_SCORE} or more; labels are thin and dashed. On the "
            "right: scores of all detections, and of those near a labelled object.",
            _seen,
        ),
        (
            "All objects in their boxes",
            "The points of all objects of a class, moved into the axes of their box: from above "
            "(front to the right) and from the side. The box is outlined. In healthy data points "
            "gather along the inside of the outline. Points across it mean wrong headings or "
            "sizes, points beside it wrong places.",
            _objects_in_boxes,
        ),
        (
            "Heights",
            "Bottoms of the boxes above the ground beside them. In healthy data all classes gather "
            "at 0.",
            _gaps,
        ),
        (
            "Sizes and anchors",
            "Length and width of the boxes, and the anchors as crosses.",
            _sizes,
        ),
        (
            "Objects and their points",
            "Labelled objects by class and split, and the points in a box by its distance.",
            _counts,
        ),
    ]
    for title, caption, draw in drawings:
        figure = draw(plt, case)
        if figure is not None:
            pictures.append(Picture(title, caption, png_of(plt, figure)))
    return pictures


def _seen(plt: ModuleType, case: Case) -> Figure | None:
    """Detections over labels, and the scores of right and of other detections."""
    if case.seen is None or not case.seen.detections:
        return None
    shown = case.seen.detections[:3]
    figure, axes = plt.subplots(
        1, len(shown) + 1, figsize=(3.2 * (len(shown) + 1), 4.6), layout="constrained"
    )
    for axis, found in zip(axes, shown):
        assert found.frame.points is not None and found.frame.objects is not None
        limits = _limits(case, found.frame)
        prepare_axis(axis, f"frame {found.frame.name}", limits)
        axis.title.set_color(INK)
        draw_points(axis, found.frame.points, limits, point_size=0.6)
        kept = found.scores >= SHOWN_SCORE
        own = np.array([o.box[:7] for o in found.frame.objects.objects]).reshape(-1, 7)
        panel = BevPanel("", found.boxes[kept], list(found.names[kept]), None, own)
        draw_panel(axis, panel, colours_of(case.class_names), limits, 0.1)
    right = [sight.score for sight in case.seen.sights if sight.found >= 0]
    scores = np.concatenate([found.scores for found in case.seen.detections])
    bins = np.linspace(0, 1, 21)
    axes[-1].hist(scores, bins=bins, color="#ced4da", label="all detections")
    axes[-1].hist(right, bins=bins, color=POINT, label="near an object")
    axes[-1].set(xlabel="score", yscale="log")
    axes[-1].legend(fontsize=8, frameon=False)
    return figure


def png_of(plt: ModuleType, figure: Figure) -> bytes:
    """The figure as a file; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, facecolor=figure.get_facecolor())
    plt.close(figure)
    return buffer.getvalue()


def _scenes(plt: ModuleType, case: Case, findings: Sequence[Finding]) -> Iterator[Picture]:
    """Frames that findings name, as far as their points are at hand, else the first ones."""
    wanted = [name for finding in findings for name in finding.frames]
    clouds = [frame for split in case.splits.values() for frame in split.clouds]
    clouds = [frame for frame in clouds if frame.objects is not None and frame.num_points]
    named = sorted(clouds, key=lambda frame: _place(frame.name, wanted))
    for frame in named[:MOST_SCENES]:
        reasons = [f.check for f in findings if frame.name in f.frames]
        why = f" Named by: {', '.join(dict.fromkeys(reasons))}." if reasons else ""
        figure = _scene(plt, case, frame)
        yield Picture(
            f"Frame {frame.name} ({frame.split})",
            f"Points and labelled boxes from above, forward is up; a wedge points to the front of "
            f"a box. The yellow rectangle is POINT_CLOUD_RANGE.{why}",
            png_of(plt, figure),
            is_scene=True,
        )


def _place(name: str, wanted: Sequence[str]) -> int:
    return wanted.index(name) if name in wanted else len(wanted)


def _scene(plt: ModuleType, case: Case, frame: Frame) -> Figure:
    assert frame.points is not None and frame.objects is not None
    limits = _limits(case, frame)
    height = (limits.x1 - limits.x0) / (limits.y1 - limits.y0)
    width_inch = SCENE_INCH * min(1.6, max(0.6, 1 / height))
    figure, axis = plt.subplots(
        figsize=(width_inch, width_inch * height), facecolor="#0b0f17", layout="constrained"
    )
    prepare_axis(axis, "", limits)
    finite = frame.points[np.isfinite(frame.points[:, :3]).all(axis=1)]
    draw_points(axis, finite, limits, point_size=1.0)
    objects = frame.objects.objects
    names = [labelled.name for labelled in objects]
    boxes = np.array([labelled.box[:7] for labelled in objects]).reshape(-1, 7)
    panel = BevPanel("", boxes, names)
    draw_panel(axis, panel, colours_of(sorted(set(names))), limits, 0.1)
    x0, y0, _, x1, y1, _ = case.data["POINT_CLOUD_RANGE"]
    axis.plot([-y0, -y1, -y1, -y0, -y0], [x0, x0, x1, x1, x0], color=RANGE_COLOUR, linewidth=1.2)
    return figure


def _limits(case: Case, frame: Frame) -> Limits:
    """A view of range and boxes, without the farthest points."""
    assert frame.objects is not None
    x0, y0, _, x1, y1, _ = (float(value) for value in case.data["POINT_CLOUD_RANGE"])
    corners = [(x0, y0), (x1, y1), *(o.box[:2] for o in frame.objects.objects)]
    places = np.clip(np.array(corners, dtype=float), -150, 150)
    low, high = places.min(axis=0) - 3, places.max(axis=0) + 3
    return Limits(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _names(case: Case) -> list[str]:
    """The trained classes that have objects."""
    present = dict.fromkeys(labelled.name for _, labelled in case.objects())
    return [name for name in case.class_names if name in present][:MOST_CLASSES]


def _objects_in_boxes(plt: ModuleType, case: Case) -> Figure | None:
    names = _names(case)
    if not names:
        return None
    figure, axes = plt.subplots(
        2, len(names), figsize=(3.0 * len(names), 5.2), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        objects = [labelled for _, labelled in of_class(case.objects(), name)]
        points = np.concatenate([in_box_axes(one) for one in objects] or [np.zeros((0, 3))])
        if len(points) > MOST_OBJECT_POINTS:
            places = np.linspace(0, len(points) - 1, MOST_OBJECT_POINTS).astype(int)
            points = points[places]
        axes[0, column].set_title(f"{name} ({len(objects)})", fontsize=10)
        _outlined(axes[0, column], points[:, 0], points[:, 1], "from above")
        _outlined(axes[1, column], points[:, 0], points[:, 2], "from the side")
    return figure


def in_box_axes(labelled: LabelledObject) -> np.ndarray:
    """(K, 3) the raised points around an object in shares of its length, width and height."""
    points = labelled.around[labelled.raised]
    along, across = along_and_across(points[:, :2], labelled.box[None, :7])
    up = points[:, 2] - labelled.box[2]
    return np.stack([along[0], across[0], up], axis=1) / labelled.box[3:6]


def _outlined(axis: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    axis.scatter(x, y, s=1.5, color=POINT, alpha=0.25, linewidths=0)
    axis.plot([-0.5, 0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, -0.5], color=BOX, linewidth=1.5)
    axis.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], xlabel=label)


def _gaps(plt: ModuleType, case: Case) -> Figure | None:
    rows = {}
    for name in _names(case):
        gaps = [
            labelled.bottom_z - labelled.ground_z
            for _, labelled in of_class(case.objects(), name)
            if np.isfinite(labelled.ground_z)
        ]
        if gaps:
            rows[name] = np.clip(np.array(gaps), -4, 4)
    if not rows:
        return None
    figure, axis = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
    bins = np.linspace(-4, 4, 81)
    for name, gaps in rows.items():
        axis.hist(gaps, bins=bins, histtype="step", linewidth=1.4, label=name, density=True)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="bottom of the box above the ground, metres", yticks=[])
    axis.legend(fontsize=8, frameon=False)
    return figure


def _sizes(plt: ModuleType, case: Case) -> Figure | None:
    names = _names(case)
    if not names:
        return None
    figure, axis = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    anchors = {}
    for entry in case.head.get("ANCHOR_GENERATOR_CONFIG") or ():
        anchors[str(entry.get("class_name"))] = np.array(entry.get("anchor_sizes"), dtype=float)
    for name in names:
        sizes = np.array([o.box[3:6] for _, o in of_class(case.objects(), name)])
        dots = axis.scatter(sizes[:, 0], sizes[:, 1], s=9, alpha=0.5, linewidths=0, label=name)
        if name in anchors:
            colour = dots.get_facecolor()[0][:3]
            axis.scatter(
                anchors[name][:, 0], anchors[name][:, 1], s=110, marker="x", color=colour, zorder=3
            )
    axis.set(xlabel="length dx, metres", ylabel="width dy, metres")
    axis.legend(fontsize=8, frameon=False)
    return figure


def _counts(plt: ModuleType, case: Case) -> Figure | None:
    names = _names(case)
    if not names:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.8), layout="constrained")
    for number, split in enumerate(case.splits):
        counts = [len(of_class(case.objects(split), name)) for name in names]
        places = np.arange(len(names)) + 0.4 * number - 0.2
        bars = left.bar(places, counts, width=0.38, label=split)
        left.bar_label(bars, fontsize=8)
    left.set_xticks(np.arange(len(names)), names, fontsize=8)
    left.set(ylabel="objects looked at")
    left.legend(fontsize=8, frameon=False)
    for name in names:
        objects = [labelled for _, labelled in of_class(case.objects(), name)]
        distance = [labelled.distance_m for labelled in objects]
        points = [max(labelled.num_points, 0.5) for labelled in objects]
        right.scatter(distance, points, s=7, alpha=0.5, linewidths=0, label=name)
    right.set(xlabel="distance, metres", ylabel="points in the box", yscale="log")
    return figure
