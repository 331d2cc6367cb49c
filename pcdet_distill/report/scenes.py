"""The frames of a record: the worst ones with their points, packed, and how they are drawn."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.lidar.frame_errors import (
    FOUND,
    INEXACT,
    INVENTED,
    MISSED,
    UNCOUNTED,
    JudgedBoxes,
    JudgedFrame,
)
from ..visualize import Limits
from .bev import BoxSet, Frame, bev_svg, points_within
from .page import Html
from .record import Record, Scene, SceneBoxes

MOST_STORED = 8000  # points of a frame, thinned evenly
CM = 100.0
MARGIN_M = 2.0
WIDEST_M = 160.0  # of a picture: more makes the boxes too small to see
# Colours of boxes by what they are, and what the legend calls them.
COLOURS = {FOUND: 0, INEXACT: 4, MISSED: 1, INVENTED: 3, UNCOUNTED: 6}
LEGEND = {
    FOUND: "right",
    INEXACT: "inexact: the right object, but the boxes overlap too little for AP in 3D",
    MISSED: "missed object",
    INVENTED: "invented: no object of the class is there",
    UNCOUNTED: "does not count",
}


def scene_of(
    judged: JudgedFrame,
    points: np.ndarray | None,
    point_cloud_range: Sequence[float],
    teacher: JudgedFrame | None = None,
) -> Scene:
    """The part of a record about one frame.

    Args:
        judged: its objects and detections.
        points: (N, 3 or more) in the coordinates of the boxes; None where they cannot be read.
        point_cloud_range: x0, y0, z0, x1, y1, z1 of the model.
        teacher: the same frame with the teacher's detections.
    """
    limits = limits_of(point_cloud_range)
    return Scene(
        frame_id=judged.frame_id,
        points="" if points is None else pack_points(points_within(points, limits)),
        limits=list(limits),
        objects=_scene_boxes(judged.objects),
        detections=_scene_boxes(judged.detections),
        teacher=None if teacher is None else _scene_boxes(teacher.detections),
        found_by_teacher=[] if teacher is None else [str(v) for v in teacher.objects.verdicts],
    )


def limits_of(point_cloud_range: Sequence[float]) -> Limits:
    """The ground that the model sees, and a little more; at most 160 m wide."""
    x0, y0, _, x1, y1, _ = (float(value) for value in point_cloud_range)
    half = WIDEST_M / 2
    return Limits(
        max(x0 - MARGIN_M, -half),
        max(y0 - MARGIN_M, -half),
        min(x1 + MARGIN_M, half),
        min(y1 + MARGIN_M, half),
    )


def pack_points(points: np.ndarray) -> str:
    """Points (N, 3) in centimetres as text; thinned evenly where there are many."""
    if len(points) > MOST_STORED:
        points = points[np.linspace(0, len(points) - 1, MOST_STORED).astype(int)]
    largest = np.iinfo(np.int16).max
    centimetres = np.clip(np.round(points[:, :3] * CM), -largest, largest).astype("<i2")
    return base64.b64encode(centimetres.tobytes()).decode("ascii")


def unpack_points(text: str) -> np.ndarray:
    """The points (N, 3) in metres of ``pack_points``."""
    centimetres = np.frombuffer(base64.b64decode(text), dtype="<i2").reshape(-1, 3)
    return centimetres / CM


def _scene_boxes(boxes: JudgedBoxes) -> SceneBoxes:
    return SceneBoxes(
        names=[str(name) for name in boxes.names],
        boxes=np.round(boxes.boxes, 3).tolist(),
        scores=[] if np.isnan(boxes.scores).all() else np.round(boxes.scores, 3).tolist(),
        verdicts=[str(verdict) for verdict in boxes.verdicts],
    )


def frame_of(scene: Scene, key: str) -> Frame:
    """The points of a scene, to draw several pictures over them."""
    return Frame(unpack_points(scene.points), Limits(*scene.limits), key)


def draw_detections(frame: Frame, objects: SceneBoxes, detections: SceneBoxes, about: str) -> Html:
    """Detections by what they are, over the labelled objects as dashed outlines.

    A circle stands around what is wrong: an object that was missed, or a detection of nothing.

    Args:
        objects: with what each of them is to these detections.
    """
    missed = [verdict == MISSED for verdict in objects.verdicts]
    chosen = np.array(missed, dtype=bool)
    truth = BoxSet(_array(objects), is_truth=True, titles=_titles(objects))
    lost_names = [name for name, is_missed in zip(objects.names, missed) if is_missed]
    lost = BoxSet(
        _array(objects)[chosen],
        labels=lost_names,
        colours=[COLOURS[MISSED]] * len(lost_names),
        titles=[f"{name}: missed" for name in lost_names],
        marked=[True] * len(lost_names),
    )
    return bev_svg(frame, [truth, lost, _detection_set(detections)], about)


def _array(boxes: SceneBoxes) -> np.ndarray:
    return np.array(boxes.boxes, dtype=np.float64).reshape(-1, 7)


def _detection_set(boxes: SceneBoxes) -> BoxSet:
    """Detections; those that are right need no words."""
    labels = []
    for name, score, verdict in zip(boxes.names, boxes.scores, boxes.verdicts):
        labels.append(f"{name} {score:.2f}" if verdict in (INEXACT, INVENTED) else "")
    return BoxSet(
        _array(boxes),
        labels=labels,
        colours=[COLOURS[verdict] for verdict in boxes.verdicts],
        titles=_titles(boxes),
        marked=[verdict == INVENTED for verdict in boxes.verdicts],
    )


def _titles(boxes: SceneBoxes) -> list[str]:
    """What pointing at a box shows: class, score, what it is."""
    titles = []
    for number, (name, verdict) in enumerate(zip(boxes.names, boxes.verdicts)):
        score = f", score {boxes.scores[number]:.2f}" if boxes.scores else ""
        titles.append(f"{name}{score}: {verdict}")
    return titles


def error_words(counts: Sequence[int]) -> str:
    """``2 of 9 objects missed, 1 invented, 1 inexact``."""
    num_objects, missed, invented, inexact = counts
    plural = "" if num_objects == 1 else "s"
    return (
        f"{missed} of {num_objects} object{plural} missed, {invented} invented, {inexact} inexact"
    )


def counts_of(judged: JudgedFrame) -> list[int]:
    """Objects that count, missed, invented, inexact: an entry of ``Record.errors``."""
    num_objects = len(judged.objects.names) - judged.objects.count(UNCOUNTED)
    missed = judged.objects.count(MISSED)
    invented = judged.detections.count(INVENTED)
    return [num_objects, missed, invented, judged.detections.count(INEXACT)]


def threshold_words(thresholds: Mapping[str, float]) -> str:
    """``Car 0.41, Pedestrian 0.30``."""
    return ", ".join(f"{name} {score:.2f}" for name, score in thresholds.items())


def scenes_by_frame(record: Record) -> dict[str, Scene]:
    """The scenes of a record by the name of their frame."""
    return {scene.frame_id: scene for scene in record.scenes}
