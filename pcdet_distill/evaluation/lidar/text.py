"""The report of a LiDAR evaluation as text: a block for each class, a short table of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...texts import in_columns
from ..few_objects import NUM_RECALL_POINTS
from .curves import Figures
from .matching import KINDS, Criterion

if TYPE_CHECKING:
    from .result import ClassResult, LidarResult, Part

HEADING = ("", "objects", "AP area", "AP R40", "AP R11", "recall", "best F1", "at score")
NAMES = {"3d": "3D", "bev": "BEV", "center": "center"}
Line = Sequence[str]


def class_text(entry: ClassResult) -> str:
    """Everything about one class."""
    title = (
        f"{entry.name}: {entry.num_objects} objects in {entry.num_frames} frames"
        f"{_left_out(entry)}, {entry.num_detections} detections"
    )
    if entry.num_objects == 0:
        return "\n".join([title, *_warnings(entry)])
    lines: list[Line] = [HEADING]
    for criterion, figures in entry.figures.items():
        lines.append((_title(criterion), *_cells(figures)))
    for words, parts in (("distance", entry.by_distance), ("points", entry.by_points)):
        lines += _part_lines(entry, words, parts)
    return "\n".join(
        [title, *in_columns(lines), *_footnote(entry), errors_text(entry), *_warnings(entry)]
    )


def _left_out(entry: ClassResult) -> str:
    return f" ({entry.num_left_out} more do not count)" if entry.num_left_out else ""


def _footnote(entry: ClassResult) -> list[str]:
    """What the mark of KITTI's AP means, where any figure has it."""
    parts = [*entry.by_distance, *entry.by_points]
    counts = [next(iter(part.figures.values())).num_objects for part in parts]
    if not any(0 < count < NUM_RECALL_POINTS for count in [entry.num_objects, *counts]):
        return []
    return [f"* so few objects cannot reach 100: that takes {NUM_RECALL_POINTS}"]


def _warnings(entry: ClassResult) -> list[str]:
    return [f"Warning: {remark}" for remark in entry.remarks]


def _title(criterion: Criterion) -> str:
    return f"{NAMES[criterion.kind]} {criterion.label}"


def _part_lines(entry: ClassResult, words: str, parts: Sequence[Part]) -> Iterator[Line]:
    """A line for each part, by the criterion that ranks."""
    if not parts:
        return
    ranking = next(iter(entry.figures))
    yield (f"{_title(ranking)} by {words}", *[""] * (len(HEADING) - 1))
    for part in parts:
        yield (f"  {part.label}", *_cells(part.figures[ranking]))


def _cells(figures: Figures) -> list[str]:
    mark = "*" if 0 < figures.num_objects < NUM_RECALL_POINTS else ""
    return [
        str(figures.num_objects),
        _number(figures.area),
        _number(figures.R40) + mark,
        _number(figures.R11) + mark,
        _number(figures.recall),
        _number(figures.best_f1),
        _number(figures.best_score),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def errors_text(entry: ClassResult) -> str:
    """One line about the errors of the matched boxes."""
    errors = entry.errors
    if not errors.num_matches:
        return "errors: no detection is near enough to an object to measure them"
    words = [
        f"position {errors.position_m:.2f} m",
        f"height {errors.height_m:+.2f} m",
        f"size {errors.size:.2f}",
        f"heading {errors.heading_rad:.2f} rad ({errors.turned:.0f} % turned by more than 90 "
        "degrees)",
    ]
    if errors.velocity_mps is not None:
        words.append(f"velocity {errors.velocity_mps:.2f} m/s ({errors.num_velocities} matches)")
    return f"errors of {errors.num_matches} matches: {', '.join(words)}"


def mean_text(result: LidarResult) -> str:
    """The means over the classes, and how many classes they are over."""
    num_classes = sum(entry.num_objects > 0 for entry in result.classes)
    noun = "class" if num_classes == 1 else "classes"
    values = [f"{NAMES[kind]} {result.map(kind):.2f}" for kind in KINDS]
    name, value = result.primary
    return (
        f"mAP area of {num_classes} {noun} with objects: {', '.join(values)} "
        f"(each class by its first IoU threshold, center by the mean over the distances)\n"
        f"ranked by: {name} {value:.2f}"
    )


def table_text(result: LidarResult) -> str:
    """One line for each class and one for the means."""
    ap = result.options.primary_ap
    lines: list[Line] = [("class", "objects", *[f"{NAMES[kind]} AP" for kind in KINDS], "recall")]
    for entry in result.classes:
        recall = next(iter(entry.figures.values())).recall
        values = [_number(entry.average_precision(kind, ap)) for kind in KINDS]
        lines.append((entry.name, str(entry.num_objects), *values, _number(recall)))
    num_objects = sum(entry.num_objects for entry in result.classes)
    means = [f"{result.map(kind, ap):.2f}" for kind in KINDS]
    lines.append(("mAP", str(num_objects), *means, ""))
    return "\n".join([f"AP {ap}, first IoU threshold of each class", *in_columns(lines)])
