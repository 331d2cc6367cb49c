"""Frame by frame: which objects were found or missed, which detections are right or invented.

AP sums over all frames and all thresholds of the score. To look at single frames one threshold is
needed: that of the best F1 of the class, where precision and recall are balanced. A detection finds
an object of its class whose centre is within 2 m (ERROR_DISTANCE_M). A pair whose boxes overlap by
less than the class's IoU threshold is inexact: AP in 3D counts it as wrong, but the detector saw
the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...config import LidarEvalOptions
from .curves import score_list
from .evaluate import ClassRows, rows_of_class
from .frames import BOX_COLUMNS, Anno, PairedFrames, names_of_pairs, pair_frames
from .matching import Criterion

FOUND = "found"
INEXACT = "inexact"
MISSED = "missed"
INVENTED = "invented"
UNCOUNTED = "uncounted"  # neither for nor against, such as an object without points
NO_THRESHOLD = 0.3  # where a class has no right detection, so that its wrong ones are seen


@dataclass(frozen=True)
class JudgedBoxes:
    """Boxes of one frame and what each of them is.

    Attributes:
        names: (N,) class of each.
        boxes: (N, 7).
        scores: (N,); NaN for objects.
        verdicts: (N,) FOUND, INEXACT, UNCOUNTED, and MISSED (objects) or INVENTED (detections).
    """

    names: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    verdicts: np.ndarray

    def count(self, verdict: str) -> int:
        """How many boxes have a verdict."""
        return int((self.verdicts == verdict).sum())


@dataclass(frozen=True)
class JudgedFrame:
    """One frame: labelled objects, and the detections above the threshold of their class."""

    frame_id: str
    objects: JudgedBoxes
    detections: JudgedBoxes

    @property
    def num_errors(self) -> int:
        """Missed objects, invented ones, and pairs that are inexact."""
        missed = self.objects.count(MISSED)
        return missed + self.detections.count(INVENTED) + self.detections.count(INEXACT)


@dataclass(frozen=True)
class Judgement:
    """All frames, and the threshold of the score by class."""

    frames: list[JudgedFrame]
    thresholds: dict[str, float]

    def worst(self, most: int) -> list[JudgedFrame]:
        """The frames with most errors, the worst first; frames without any are left out."""
        ordered = sorted(self.frames, key=lambda frame: -frame.num_errors)
        return [frame for frame in ordered[:most] if frame.num_errors]


def judge_frames(
    gt_annos: Sequence[Anno],
    det_annos: Sequence[Anno],
    class_names: Sequence[str],
    options: LidarEvalOptions | None = None,
    thresholds: dict[str, float] | None = None,
) -> Judgement:
    """Judge every frame; the arguments are those of ``lidar_eval``.

    Args:
        thresholds: of the score by class; that of the best F1 where it is not given.
    """
    options = options or LidarEvalOptions()
    frames = pair_frames(gt_annos, det_annos)
    judged_objects = []
    judged_detections = []
    used: dict[str, float] = {}
    for name in class_names:
        rows = rows_of_class(name, frames, options)
        threshold = (thresholds or {}).get(name)
        used[name] = best_threshold(rows, options) if threshold is None else threshold
        kept = frames.detections.where(frames.detections.score >= used[name])
        objects, detections = _judge_class(name, frames._replace(detections=kept), options)
        judged_objects.append(objects)
        judged_detections.append(detections)
    names = names_of_pairs(gt_annos, det_annos)
    objects_by_frame = _by_frame(judged_objects, len(names))
    detections_by_frame = _by_frame(judged_detections, len(names))
    judged = map(JudgedFrame, names, objects_by_frame, detections_by_frame)
    return Judgement(list(judged), used)


def best_threshold(rows: ClassRows, options: LidarEvalOptions) -> float:
    """The score at which F1 is best, by the distance of the centres."""
    matches = rows.match(Criterion("center", options.error_distance_m))
    listed = matches.is_right | matches.is_wrong
    scores = rows.detections.score[matches.row[listed]]
    figures = score_list(scores, matches.is_right[listed], int(rows.counts.sum()))
    return NO_THRESHOLD if figures.best_score is None else figures.best_score


Judged = tuple[np.ndarray, JudgedBoxes]  # the frame (N,) of each box, and the boxes


def _judge_class(
    name: str, frames: PairedFrames, options: LidarEvalOptions
) -> tuple[Judged, Judged]:
    """Objects and detections of one class, over all frames."""
    rows = rows_of_class(name, frames, options)
    matches = rows.match(Criterion("center", options.error_distance_m))
    right_rows = matches.row[matches.is_right]
    found_rows = matches.found[matches.is_right]
    is_exact = overlap_of_pairs(rows, right_rows, found_rows) > options.iou_thresholds(name)[0]
    detection_verdicts = np.full(len(rows.detections), UNCOUNTED, dtype=object)
    detection_verdicts[matches.row[matches.is_wrong]] = INVENTED
    detection_verdicts[right_rows] = np.where(is_exact, FOUND, INEXACT)
    object_verdicts = np.where(rows.counts, MISSED, UNCOUNTED).astype(object)
    object_verdicts[found_rows] = np.where(is_exact, FOUND, INEXACT)
    of_class = rows.objects.name == name  # without those that are only neutral to it
    objects = JudgedBoxes(
        names=rows.objects.name[of_class],
        boxes=rows.objects.box[of_class, :BOX_COLUMNS],
        scores=np.full(int(of_class.sum()), np.nan),
        verdicts=object_verdicts[of_class],
    )
    detections = JudgedBoxes(
        names=rows.detections.name,
        boxes=rows.detections.box[:, :BOX_COLUMNS],
        scores=rows.detections.score,
        verdicts=detection_verdicts,
    )
    return (rows.objects.frame[of_class], objects), (rows.detections.frame, detections)


def overlap_of_pairs(
    rows: ClassRows, detection_rows: np.ndarray, object_rows: np.ndarray
) -> np.ndarray:
    """3D IoU (M,) of detections and objects that stand in the same frame."""
    frame = rows.detections.frame[detection_rows]
    object_start = rows.objects.start
    width = np.diff(object_start)[frame]
    place = detection_rows - rows.detections.start[frame]
    column = object_rows - object_start[frame]
    return rows.pairs.volume[rows.pairs.start[frame] + place * width + column]


def _by_frame(parts: Sequence[Judged], num_frames: int) -> list[JudgedBoxes]:
    """The boxes of all classes, frame by frame."""
    frame = np.concatenate([frames for frames, _ in parts])
    order = np.argsort(frame, kind="stable")
    ends = np.searchsorted(frame[order], np.arange(num_frames + 1))
    columns = {}
    for key in ("names", "boxes", "scores", "verdicts"):
        columns[key] = np.concatenate([getattr(boxes, key) for _, boxes in parts])[order]
    frames = []
    for first, last in zip(ends, ends[1:]):
        frames.append(JudgedBoxes(**{key: values[first:last] for key, values in columns.items()}))
    return frames
