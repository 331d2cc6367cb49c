"""Score detections in LiDAR coordinates: any classes, no camera, no image boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...config import LidarEvalOptions
from ...errors import ConfigError
from .curves import Curve, Figures, best_curve, score_list
from .diagnosis import why_no_match
from .frames import UNKNOWN_POINTS, Anno, Detections, Objects, PairedFrames, Rows, pair_frames
from .match_errors import MatchErrors, match_errors
from .matching import KINDS, NO_MATCH, Criterion, match
from .overlaps import Pairs, compare_boxes
from .remarks import remarks_on_class, remarks_on_frames
from .result import ClassResult, LidarResult, Part


class ClassRows(NamedTuple):
    """The objects and detections that take part when one class is evaluated.

    Attributes:
        objects: of the class, and of those that are neutral to it.
        counts: mask (G,) of the objects that are to be found.
        detections: of the class.
        can_be_wrong: mask (D,) of the detections that are wrong when they find nothing.
        best_first: (D,) the rows of the detections by falling score, over all frames.
        pairs: of these detections with these objects.
    """

    objects: Objects
    counts: np.ndarray
    detections: Detections
    can_be_wrong: np.ndarray
    best_first: np.ndarray
    pairs: Pairs

    def match(self, criterion: Criterion) -> Matches:
        """The matches by one criterion."""
        found = match(criterion, self.pairs, self.detections, self.objects, self.counts)
        found = found[self.best_first]
        is_right = found != NO_MATCH
        is_right[is_right] = self.counts[found[is_right]]
        is_wrong = (found == NO_MATCH) & self.can_be_wrong[self.best_first]
        return Matches(self.best_first, found, is_right, is_wrong)

    def matched_boxes(self, criterion: Criterion) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (M, 9) of the right detections by one criterion, and those of their objects."""
        matches = self.match(criterion)
        found = self.detections.box[matches.row[matches.is_right]]
        truth = self.objects.box[matches.found[matches.is_right]]
        return found, truth


class Matches(NamedTuple):
    """What each detection (D,) is, the best score first.

    Attributes:
        row: of the detection.
        found: row of its object, or NO_MATCH.
        is_right: it found an object that counts.
        is_wrong: it found none. A detection that is neither found an object that does not count.
    """

    row: np.ndarray
    found: np.ndarray
    is_right: np.ndarray
    is_wrong: np.ndarray


class Subset(NamedTuple):
    """A part of the objects with the wrong detections that are held against it."""

    label: str
    objects: np.ndarray
    detections: np.ndarray


def lidar_eval(
    gt_annos: Sequence[Anno],
    det_annos: Sequence[Anno],
    class_names: Sequence[str],
    options: LidarEvalOptions | None = None,
) -> LidarResult:
    """Evaluate detections against labels; frames are paired by ``frame_id``.

    Args:
        gt_annos: for each frame ``frame_id``, ``name`` (M,), ``gt_boxes_lidar`` (M, 7), or (M, 9)
            with velocities, and where known ``num_points_in_gt`` (M,).
        det_annos: for each frame ``frame_id``, ``name`` (K,), ``score`` (K,), ``boxes_lidar``
            (K, 7 or 9).
        class_names: the classes to evaluate.
        options: the block DATA_CONFIG.EVALUATION.

    Raises:
        DataError: frames that do not pair, arrays of different lengths, boxes with NaN.
        ConfigError: options for a class that is not evaluated.
    """
    options = options or LidarEvalOptions()
    names = [class_names] if isinstance(class_names, str) else list(class_names)
    if not names:
        raise ConfigError("LiDAR evaluation: no classes to evaluate; expected CLASS_NAMES")
    options.check_classes(names)
    frames = pair_frames(gt_annos, det_annos)
    classes = [_evaluate_class(name, frames, options) for name in names]
    return LidarResult(
        classes=classes,
        num_frames=frames.objects.num_frames,
        options=options,
        remarks=remarks_on_frames(frames, names),
    )


def criteria_of(name: str, options: LidarEvalOptions) -> list[Criterion]:
    """The criteria of a class: IoU in 3D, IoU on the ground, then distances of the centres."""
    criteria = []
    for kind in KINDS:
        thresholds = options.iou_thresholds(name)
        if kind == "center":
            thresholds = options.center_distances_m
        criteria += [Criterion(kind, threshold) for threshold in thresholds]
    return criteria


def _evaluate_class(name: str, frames: PairedFrames, options: LidarEvalOptions) -> ClassResult:
    rows = rows_of_class(name, frames, options)
    whole = Subset("all", rows.counts, np.ones(len(rows.detections), dtype=bool))
    near_and_far = _by_distance(rows, options.distance_edges_m)
    sparse_and_dense = _by_points(rows, options.point_edges)
    parts = [Part(subset.label) for subset in (whole, *near_and_far, *sparse_and_dense)]
    curves = {}
    for criterion in criteria_of(name, options):
        matches = rows.match(criterion)
        curves[criterion] = _curve(rows, matches)
        for part, subset in zip(parts, (whole, *near_and_far, *sparse_and_dense)):
            part.figures[criterion] = _figures(rows, matches, subset)
    whole_part, *divided = parts
    class_result = ClassResult(
        name=name,
        num_frames=len(np.unique(rows.objects.frame[rows.counts])),
        num_left_out=int((~rows.counts[rows.objects.name == name]).sum()),
        figures=whole_part.figures,
        by_distance=divided[: len(near_and_far)],
        by_points=divided[len(near_and_far) :],
        errors=_errors(rows, options),
        curves=curves,
    )
    causes = why_no_match(rows, class_result, options)
    class_result.remarks.extend([*remarks_on_class(class_result, options), *causes])
    return class_result


def rows_of_class(name: str, frames: PairedFrames, options: LidarEvalOptions) -> ClassRows:
    """What takes part when one class is evaluated."""
    objects = frames.objects.named([name, *options.neutral_to(name)])
    detections = frames.detections.named([name])
    has_points = (objects.num_points == UNKNOWN_POINTS) | (objects.num_points >= options.min_points)
    counts = (objects.name == name) & has_points & _in_scope(objects, options)
    return ClassRows(
        objects=objects,
        counts=counts,
        detections=detections,
        can_be_wrong=_in_scope(detections, options),
        best_first=np.argsort(-detections.score, kind="stable"),
        pairs=compare_boxes(detections, objects),
    )


def _in_scope(rows: Rows, options: LidarEvalOptions) -> np.ndarray:
    """Mask (N,) of the boxes within MAX_DISTANCE_M and RANGE."""
    inside = np.ones(len(rows), dtype=bool)
    if options.max_distance_m is not None:
        inside &= rows.distance_m <= options.max_distance_m
    if options.range:
        low, high = np.array(options.range).reshape(2, 3)
        centres = rows.box[:, :3]
        inside &= ((centres >= low) & (centres <= high)).all(axis=1)
    return inside


def _by_distance(rows: ClassRows, edges_m: Sequence[float]) -> list[Subset]:
    """Near to far. A wrong detection is held against the part that it lies in itself."""
    object_part = np.searchsorted(edges_m, rows.objects.distance_m, side="right")
    detection_part = np.searchsorted(edges_m, rows.detections.distance_m, side="right")
    labels = _labels([f"{edge:g}" for edge in edges_m], [f"{edge:g} m" for edge in edges_m])
    subsets = []
    for number, label in enumerate(labels):
        chosen = rows.counts & (object_part == number)
        subsets.append(Subset(label, chosen, detection_part == number))
    return subsets


def _by_points(rows: ClassRows, edges: Sequence[int]) -> list[Subset]:
    """Sparse to dense. A wrong detection has no object, so it is held against every part."""
    if not rows.objects.know_points:
        return []
    object_part = np.searchsorted(edges, rows.objects.num_points, side="right")
    labels = _labels([str(edge) for edge in edges], [f"{edge - 1} points" for edge in edges])
    everything = np.ones(len(rows.detections), dtype=bool)
    subsets = []
    for number, label in enumerate(labels):
        is_known = rows.objects.num_points != UNKNOWN_POINTS
        chosen = rows.counts & is_known & (object_part == number)
        subsets.append(Subset(label, chosen, everything))
    return subsets


def _labels(starts: Sequence[str], ends: Sequence[str]) -> list[str]:
    """``0 to 20 m``, ``20 to 40 m``, ``from 40``; none without edges."""
    if not starts:
        return []
    labels = [f"{start} to {end}" for start, end in zip(["0", *starts], ends)]
    return [*labels, f"from {starts[-1]} {ends[-1].split()[-1]}"]


def _figures(rows: ClassRows, matches: Matches, subset: Subset) -> Figures:
    """The figures of a part of the objects."""
    is_right = matches.is_right.copy()
    is_right[is_right] = subset.objects[matches.found[is_right]]
    is_wrong = matches.is_wrong & subset.detections[matches.row]
    listed = is_right | is_wrong
    scores = rows.detections.score[matches.row[listed]]
    return score_list(scores, is_right[listed], int(subset.objects.sum()))


def _curve(rows: ClassRows, matches: Matches) -> Curve:
    """Precision over recall of all objects."""
    listed = matches.is_right | matches.is_wrong
    scores = rows.detections.score[matches.row[listed]]
    return best_curve(scores, matches.is_right[listed], int(rows.counts.sum()))


def _errors(rows: ClassRows, options: LidarEvalOptions) -> MatchErrors:
    return match_errors(*rows.matched_boxes(Criterion("center", options.error_distance_m)))
