"""KITTI average precision from annotations: pack the frames, overlap, match, make the curves.

The rules are those of KITTI's object development kit as OpenPCDet applies them: 41 recall points,
and at each the best precision from there on. The time is linear in the number of frames.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...errors import DataError
from .frames import COUNTED, Detections, Truth, pack_detections, pack_truth
from .matching import MatchInputs, count_matches, matched_scores, recall_thresholds
from .overlaps import Overlaps, compute_overlaps
from .protocol import (
    DIFFICULTIES,
    METRICS,
    MIN_OVERLAP,
    NUM_RECALL_POINTS,
    OVERLAP_SETS,
    check_classes,
)
from .remarks import remarks
from .result import KittiResult

LOGGER = logging.getLogger(__name__)


class Roles(NamedTuple):
    """What each object and each detection counts as for one class at one difficulty."""

    objects: np.ndarray
    detections: np.ndarray


class PackedFrames(NamedTuple):
    """All frames of an evaluation, and the overlaps within each of them."""

    truth: Truth
    detections: Detections
    overlaps: Overlaps

    def roles(self, class_name: str, difficulty: int) -> Roles:
        """The roles for a class at a difficulty (0, 1, 2)."""
        return Roles(
            self.truth.roles(class_name, difficulty), self.detections.roles(class_name, difficulty)
        )

    def match_inputs(self, roles: Roles, metric: str, min_overlap: float) -> MatchInputs:
        """The arrays that objects are matched by with one metric."""
        dontcare = self.overlaps.dontcare
        if metric != "bbox":  # DontCare regions are drawn in the image only
            dontcare = np.zeros_like(dontcare)
        return MatchInputs(
            gt_start=self.truth.start,
            gt_role=roles.objects,
            gt_alpha=self.truth.alpha,
            dt_start=self.detections.start,
            dt_role=roles.detections,
            dt_alpha=self.detections.alpha,
            dt_score=self.detections.score,
            dt_dontcare=dontcare,
            pair_start=self.overlaps.start,
            overlap=self.overlaps.by_metric[metric],
            min_overlap=min_overlap,
        )


def kitti_eval(
    gt_annos: Sequence[Mapping], det_annos: Sequence[Mapping], classes: Sequence[str]
) -> KittiResult:
    """Evaluate detections against ground truth of the same frames in the same order.

    Args:
        gt_annos: for each frame a dict of arrays name, truncated, occluded, alpha, bbox (n, 4),
            dimensions (n, 3) as l, h, w, location (n, 3), rotation_y.
        det_annos: the same without truncated and occluded, with score.
        classes: names of the classes to evaluate.

    Warnings, such as for few objects or missing image boxes, go to the log and to the result.
    """
    names = check_classes([classes] if isinstance(classes, str) else classes)
    if len(gt_annos) != len(det_annos):
        raise DataError(
            f"KITTI evaluation: detections of {len(det_annos)} frames, "
            f"expected the {len(gt_annos)} frames that the ground truth has"
        )
    truth = pack_truth(gt_annos)
    detections = pack_detections(det_annos)
    frames = PackedFrames(truth, detections, compute_overlaps(truth, detections))
    shape = (len(names), len(DIFFICULTIES), len(OVERLAP_SETS), NUM_RECALL_POINTS)
    curves = {metric: np.zeros(shape) for metric in (*METRICS, "aos")}
    num_objects = np.zeros(shape[:2], dtype=np.int64)
    for class_index, name in enumerate(names):
        for difficulty in range(len(DIFFICULTIES)):
            place = {key: curve[class_index, difficulty] for key, curve in curves.items()}
            _fill_curves(place, frames, name, difficulty)
            roles = truth.roles(name, difficulty)
            num_objects[class_index, difficulty] = (roles == COUNTED).sum()
    if not detections.have_orientation():
        del curves["aos"]
    sentences = remarks(truth, detections, names, num_objects)
    for sentence in sentences:
        LOGGER.warning("KITTI evaluation: %s", sentence)
    return KittiResult(names, curves, num_objects, sentences)


def _fill_curves(
    curves: Mapping[str, np.ndarray], frames: PackedFrames, name: str, difficulty: int
) -> None:
    """Write the curves (overlap set, 41) of one class at one difficulty, for every metric."""
    roles = frames.roles(name, difficulty)
    for metric_index, metric in enumerate(METRICS):
        computed: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        for set_index, overlap_set in enumerate(OVERLAP_SETS):
            min_overlap = MIN_OVERLAP[name][overlap_set][metric_index]
            if min_overlap not in computed:
                inputs = frames.match_inputs(roles, metric, min_overlap)
                computed[min_overlap] = precision_curves(inputs)
            precision, similarity = computed[min_overlap]
            curves[metric][set_index] = precision
            if metric == "bbox":  # orientation is scored on the matches in the image
                curves["aos"][set_index] = similarity


def precision_curves(inputs: MatchInputs) -> tuple[np.ndarray, np.ndarray]:
    """Precision (41,) and orientation similarity (41,) at the recall points."""
    scores = matched_scores(inputs)
    num_objects = int((inputs.gt_role == COUNTED).sum())
    thresholds = recall_thresholds(np.sort(scores)[::-1], num_objects, NUM_RECALL_POINTS)
    counts = count_matches(inputs, thresholds)
    true_positives, false_positives, similarity = counts.T
    positives = np.maximum(true_positives + false_positives, 1)
    return _best_from_each_on(true_positives / positives), _best_from_each_on(
        similarity / positives
    )


def _best_from_each_on(values: np.ndarray) -> np.ndarray:
    """Curve (41,): the largest of the values (T,) from each point on, and zeros after the last.

    Recall points beyond the reached recall count as precision 0. With fewer than 41 objects not all
    points can be reached, so even perfect detections stay below 100.
    """
    curve = np.zeros(NUM_RECALL_POINTS)
    curve[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
    return curve
