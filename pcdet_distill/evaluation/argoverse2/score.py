"""AP, errors and the composite score of each category, from the matches of all frames.

With P(r) the best precision at a recall of r or more, AP at one distance is the mean of P over 101
recalls from 0 to 1, with straight lines between the recalls that are reached; AP is the mean over
the four distances. The errors are means over the matches within 2 m. The composite detection score
is

    CDS = AP * mean of (1 - ATE / 2 m, 1 - ASE, 1 - AOE / pi)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import DataError
from .assign import FrameScores, assign
from .protocol import Argoverse2Protocol
from .result import Argoverse2Result, CategoryResult

Anno = Mapping[str, object]
BOX_COLUMNS = 7


def argoverse2_eval(
    gt_annos: Sequence[Anno],
    det_annos: Sequence[Anno],
    class_names: Sequence[str],
    protocol: Argoverse2Protocol | None = None,
) -> Argoverse2Result:
    """Evaluate detections against labels of the same frames in the same order.

    Args:
        gt_annos: for each frame ``name`` (M,), ``gt_boxes_lidar`` (M, 7) and
            ``num_points_in_gt`` (M,).
        det_annos: for each frame ``name`` (K,), ``score`` (K,), ``boxes_lidar`` (K, 7).
        class_names: the categories to evaluate. The means are over those that have objects.
        protocol: by default Argoverse 2's own.
    """
    if len(gt_annos) != len(det_annos):
        raise DataError(
            f"Argoverse 2 evaluation: detections of {len(det_annos)} frames, expected the "
            f"{len(gt_annos)} frames that the labels have"
        )
    protocol = protocol or Argoverse2Protocol()
    categories = []
    for name in class_names:
        frames = [
            _assign_frame(name, truth, found, protocol) for truth, found in zip(gt_annos, det_annos)
        ]
        categories.append(score_category(name, frames, protocol))
    return Argoverse2Result(categories, len(gt_annos), protocol)


def _assign_frame(name: str, truth: Anno, found: Anno, protocol: Argoverse2Protocol) -> FrameScores:
    is_object = np.asarray(truth["name"]).astype(str) == name
    boxes = _boxes(found["boxes_lidar"])
    score = np.asarray(found["score"], dtype=np.float64)
    is_detection = np.asarray(found["name"]).astype(str) == name
    # A model that diverged gives NaN, which is near nothing and may not spoil the errors.
    is_detection &= np.isfinite(boxes).all(axis=1) & np.isfinite(score)
    return assign(
        _boxes(truth["gt_boxes_lidar"])[is_object],
        np.asarray(truth["num_points_in_gt"])[is_object],
        boxes[is_detection],
        score[is_detection],
        protocol,
    )


def _boxes(values: object) -> np.ndarray:
    """Boxes (N, 7) float64; a frame without boxes may have any shape."""
    boxes = np.asarray(values, dtype=np.float64)
    return boxes[:, :BOX_COLUMNS] if boxes.size else np.zeros((0, BOX_COLUMNS))


def score_category(
    name: str, frames: Sequence[FrameScores], protocol: Argoverse2Protocol
) -> CategoryResult:
    """AP, errors and CDS of one category."""
    num_objects = sum(frame.num_objects for frame in frames)
    score = np.concatenate([frame.score for frame in frames])
    # Stable: of equal scores the earlier frame comes first, as in Argoverse 2's program.
    order = np.argsort(-score, kind="stable")
    is_right = np.concatenate([frame.is_right for frame in frames])[order]
    errors = np.concatenate([frame.errors for frame in frames])[order]
    average_precision = [
        _average_precision(column, num_objects, protocol.num_recall_samples)
        for column in is_right.T
    ]
    ap = float(np.mean(average_precision))
    matched = is_right[:, protocol.distances_m.index(protocol.error_distance_m)]
    mean_errors = np.array(protocol.worst_errors)
    if num_objects and matched.any():
        mean_errors = errors[matched].mean(axis=0)
    goodness = 1 - mean_errors / np.array(protocol.worst_errors)
    return CategoryResult(
        name=name,
        num_objects=num_objects,
        num_detections=len(score),
        ap=ap,
        ap_by_distance=tuple(average_precision),
        ate_m=float(mean_errors[0]),
        ase=float(mean_errors[1]),
        aoe_rad=float(mean_errors[2]),
        cds=ap * float(goodness.mean()),
    )


def _average_precision(is_right: np.ndarray, num_objects: int, num_samples: int) -> float:
    """Mean precision at the sampled recalls, of detections (D,) with the best score first."""
    if num_objects == 0 or len(is_right) == 0:
        return 0.0
    found = np.cumsum(is_right)
    precision = found / (np.arange(1, len(is_right) + 1) + sys.float_info.epsilon)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    wanted = np.linspace(0, 1, num_samples)
    return float(np.interp(wanted, found / num_objects, best_from_here, right=0).mean())
