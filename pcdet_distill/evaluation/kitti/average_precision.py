"""KITTI average precision from annotations: pack the frames, overlap, match, and make the precision curves.

The rules are those of the KITTI object development kit as OpenPCDet applies them: 41 recall points, precision made
monotonous from the right. The time is linear in the number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import DataError
from .frames import COUNTED, Detections, Truth, pack_detections, pack_truth
from .matching import count_matches, matched_scores, recall_thresholds
from .overlaps import Overlaps, compute_overlaps
from .protocol import (
    DIFFICULTIES,
    METRICS,
    MIN_OVERLAP,
    NUM_RECALL_POINTS,
    OVERLAP_SETS,
    check_classes,
)
from .result import KittiResult


def kitti_eval(
    gt_annos: Sequence[Mapping], det_annos: Sequence[Mapping], classes: Sequence[str]
) -> KittiResult:
    """Evaluate detections against ground truth of the same frames in the same order.

    ``gt_annos``: per frame a dict of arrays name, truncated, occluded, alpha, bbox (n, 4), dimensions (n, 3) as l, h,
    w, location (n, 3), rotation_y. ``det_annos``: the same without truncated and occluded, with score.
    """
    names = check_classes([classes] if isinstance(classes, str) else classes)
    if len(gt_annos) != len(det_annos):
        raise DataError(
            f"KITTI evaluation: detections of {len(det_annos)} frames, expected the {len(gt_annos)} frames "
            "that the ground truth has"
        )
    truth, detections = pack_truth(gt_annos), pack_detections(det_annos)
    overlaps = compute_overlaps(truth, detections)
    shape = (len(names), len(DIFFICULTIES), len(OVERLAP_SETS), NUM_RECALL_POINTS)
    curves = {metric: np.zeros(shape) for metric in (*METRICS, "aos")}
    for c, name in enumerate(names):
        for d in range(len(DIFFICULTIES)):
            _fill_curves(curves, c, d, name, truth, detections, overlaps)
    if not detections.have_orientation():
        del curves["aos"]
    return KittiResult(names, curves)


def _fill_curves(
    curves: dict[str, np.ndarray],
    class_index: int,
    difficulty: int,
    name: str,
    truth: Truth,
    detections: Detections,
    overlaps: Overlaps,
) -> None:
    """Write the curves of one class at one difficulty, for all metrics and both overlap sets."""
    roles = truth.roles(name, difficulty), detections.roles(name, difficulty)
    for m, metric in enumerate(METRICS):
        done: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        for s, overlap_set in enumerate(OVERLAP_SETS):
            min_overlap = MIN_OVERLAP[name][overlap_set][m]
            if min_overlap not in done:
                done[min_overlap] = precision_curves(
                    truth, detections, overlaps, *roles, metric, min_overlap
                )
            curves[metric][class_index, difficulty, s] = done[min_overlap][0]
            if metric == "bbox":
                curves["aos"][class_index, difficulty, s] = done[min_overlap][1]


def precision_curves(
    truth: Truth,
    detections: Detections,
    overlaps: Overlaps,
    gt_role: np.ndarray,
    dt_role: np.ndarray,
    metric: str,
    min_overlap: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (41,) and orientation similarity (41,) at the recall points, largest value from each point on."""
    overlap = overlaps.by_metric[metric]
    scores = matched_scores(
        truth.start,
        gt_role,
        detections.start,
        dt_role,
        detections.score,
        overlaps.start,
        overlap,
        min_overlap,
    )
    num_objects = int((gt_role == COUNTED).sum())
    thresholds = recall_thresholds(np.sort(scores)[::-1], num_objects, NUM_RECALL_POINTS)
    # DontCare regions are drawn in the image only.
    dontcare = overlaps.dontcare if metric == "bbox" else np.zeros_like(overlaps.dontcare)
    counts = count_matches(
        truth.start,
        gt_role,
        truth.alpha,
        detections.start,
        dt_role,
        detections.alpha,
        detections.score,
        dontcare,
        overlaps.start,
        overlap,
        min_overlap,
        thresholds,
    )
    positives = np.maximum(counts[:, 0] + counts[:, 1], 1)
    return _monotonous(counts[:, 0] / positives), _monotonous(counts[:, 2] / positives)


def _monotonous(values: np.ndarray) -> np.ndarray:
    """Curve (41,): the largest of the values (T,) from each point on, and zeros after the last."""
    curve = np.zeros(NUM_RECALL_POINTS)
    curve[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
    return curve
