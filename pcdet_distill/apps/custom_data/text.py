"""The survey of a data set as text for people: columns, classes, doubts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...texts import in_columns
from .survey import ClassStats, FrameStats, Survey

MOSTLY_EMPTY = 0.5
FEW_OBJECTS = 20
FAR_M = 10_000.0


def survey_text(survey: Survey, trained: Sequence[str]) -> str:
    """Frames and points, then a table of the columns, then one of the classes."""
    points = [frame.num_points for frame in survey.frames]
    boxes = [len(frame.boxes) for frame in survey.frames]
    lines = [
        f"{len(points)} frames, {sum(points)} points ({min(points)} to {max(points)} a frame), "
        f"{sum(boxes)} boxes ({min(boxes)} to {max(boxes)} a frame)",
        "",
        *in_columns(_column_rows(survey)),
        "",
        *in_columns(_class_rows(survey.classes, trained)),
    ]
    return "\n".join(lines)


def _column_rows(survey: Survey) -> list[list[str]]:
    rows = [["column", "lowest", "highest"]]
    for name, low, high in zip(survey.features, survey.lowest, survey.highest):
        rows.append([name, f"{low:.6g}", f"{high:.6g}"])
    return rows


def _class_rows(classes: Sequence[ClassStats], trained: Sequence[str]) -> list[list[str]]:
    header = ["class", "boxes", "frames", "length", "width", "height", "distance", "points"]
    rows = [[*header, "empty"]]
    for entry in classes:
        distances = entry.distances_m
        length, width, height = entry.size
        rows.append(
            [
                entry.name if entry.name in trained else f"({entry.name})",
                str(len(entry.boxes)),
                str(entry.num_frames),
                f"{length:.2f} m",
                f"{width:.2f} m",
                f"{height:.2f} m",
                f"{distances.min():.0f}-{distances.max():.0f} m",
                f"{np.median(entry.num_points):.0f}",
                f"{entry.empty_share:.0%}",
            ]
        )
    return rows


def doubts(survey: Survey, trained: Sequence[str]) -> list[str]:
    """What looks wrong in the data, a sentence each; the doctor looks closer."""
    found = _doubts_of_boxes(survey, trained)
    few = [
        f"{entry.name} ({len(entry.boxes)})"
        for entry in survey.of_classes(trained)
        if len(entry.boxes) < FEW_OBJECTS
    ]
    if few:
        found.append(
            f"too few objects to learn these classes and to measure their AP: {', '.join(few)}; "
            "--classes leaves some out, --rename joins some"
        )
    bad = [frame for frame in survey.frames if frame.num_bad]
    if bad:
        found.append(
            f"{sum(frame.num_bad for frame in bad)} points with NaN or infinity were dropped, from "
            f"{len(bad)} frames ({bad[0].frame} first)"
        )
    moved = [frame for frame in survey.frames if any(frame.offset)]
    if moved:
        shown = ", ".join(f"{value:.2f}" for value in moved[0].offset)
        found.append(
            f"{len(moved)} clouds are in world coordinates: clouds and boxes were moved by their "
            f"clouds' offsets, {shown} m in {moved[0].frame}"
        )
    for name, constant in zip(survey.features[3:], survey.is_constant[3:]):
        if constant:
            found.append(f"column '{name}' has one value in all points")
    return found


def _doubts_of_boxes(survey: Survey, trained: Sequence[str]) -> list[str]:
    """Whether the boxes lie where the points are."""
    counts = [entry.num_points for entry in survey.of_classes(trained)]
    in_boxes = np.concatenate(counts)
    share = float((in_boxes == 0).mean())
    if share > MOSTLY_EMPTY:
        worst = max(survey.frames, key=_empty_share)
        return [
            f"{share:.0%} of the boxes hold no point (frame {worst.frame} is the worst): boxes and "
            "clouds seem to have different coordinates; see the picture, --lidar_frame, --box_z "
            "and --calib"
        ]
    return [
        f"{entry.empty_share:.0%} of the boxes of class '{entry.name}' hold no point"
        for entry in survey.of_classes(trained)
        if entry.empty_share > MOSTLY_EMPTY
    ]


def _empty_share(frame: FrameStats) -> float:
    if len(frame.points_in_boxes) == 0:
        return 0.0
    return float((frame.points_in_boxes == 0).mean())
