"""Detections in LiDAR coordinates as nuScenes' result file, in global coordinates."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...whole_files import whole_file
from .boxes import EvalBoxes
from .protocol import MAX_BOXES_PER_SAMPLE, check_names
from .quaternions import around_z, multiply, rotation_matrices
from .truth import Poses

FILE_NAME = "results_nusc.json"
LIDAR_ONLY = {
    "use_camera": False,
    "use_lidar": True,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}
# An object moves if it is faster than this.
MOVING_M_S = 0.2
MOVING_ATTRIBUTE = {
    "car": "vehicle.moving",
    "construction_vehicle": "vehicle.moving",
    "bus": "vehicle.moving",
    "truck": "vehicle.moving",
    "trailer": "vehicle.moving",
    "bicycle": "cycle.with_rider",
    "motorcycle": "cycle.with_rider",
}
STANDING_ATTRIBUTE = {"pedestrian": "pedestrian.standing", "bus": "vehicle.stopped"}
# The most frequent attribute of each class. Cones and barriers have none, and what is written for
# them is not scored; OpenPCDet writes this one.
USUAL_ATTRIBUTE = {
    "car": "vehicle.parked",
    "truck": "vehicle.parked",
    "trailer": "vehicle.parked",
    "construction_vehicle": "vehicle.parked",
    "bus": "vehicle.moving",
    "bicycle": "cycle.without_rider",
    "motorcycle": "cycle.without_rider",
    "pedestrian": "pedestrian.moving",
    "barrier": "cycle.with_rider",
    "traffic_cone": "cycle.with_rider",
}
Detections = Mapping[str, Any]
DETECTION_KEYS = ("name", "score", "boxes_lidar")


def attribute_of(name: str, speed_m_s: float) -> str:
    """The attribute that OpenPCDet gives a detection of the class ``name``."""
    rule = MOVING_ATTRIBUTE if speed_m_s > MOVING_M_S else STANDING_ATTRIBUTE
    return rule.get(name, USUAL_ATTRIBUTE[name])


def detected_boxes(det_annos: Sequence[Detections], poses: Poses) -> EvalBoxes:
    """The detections of S samples in global coordinates.

    Args:
        det_annos: of each sample ``name`` (K,), ``score`` (K,) and ``boxes_lidar`` (K, 7 or 9); the
            last two of 9 columns are the velocity, which is 0 without them.
        poses: of the same S samples.

    Returns:
        At most 500 boxes a sample, the best ones; their order is kept.
    """
    chosen = [_best(_columns(anno)) for anno in det_annos]
    sample = np.repeat(np.arange(len(chosen)), [len(names) for names, _, _ in chosen])
    names = np.concatenate([names for names, _, _ in chosen] or [np.zeros(0, dtype=str)])
    scores = np.concatenate([scores for _, scores, _ in chosen] or [np.zeros(0)])
    boxes = np.concatenate([boxes for _, _, boxes in chosen] or [np.zeros((0, 9))])
    translation, rotation, velocity = _to_global(boxes, sample, poses)
    speed = np.linalg.norm(velocity, axis=1)
    attributes = [attribute_of(name, value) for name, value in zip(names, speed)]
    return EvalBoxes(
        sample=sample,
        name=names,
        translation=translation,
        size=boxes[:, [4, 3, 5]],
        rotation=rotation,
        velocity=velocity,
        attribute=np.array(attributes, dtype=str),
        score=scores,
        num_points=np.full(len(names), -1),
    )


def _columns(anno: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked names (K,), scores (K,) and boxes (K, 9) of one sample.

    Boxes with numbers that are not finite are left out, as a network in its first steps makes them:
    nuScenes' server refuses them, and they match nothing.
    """
    where = f"detections of frame {anno.get('frame_id', '?')}"
    missing = [key for key in DETECTION_KEYS if key not in anno]
    if missing:
        raise DataError(f"{where}: '{missing[0]}' is missing, expected {', '.join(DETECTION_KEYS)}")
    names = np.asarray(anno["name"], dtype=str)
    scores = np.asarray(anno["score"], dtype=np.float64)
    boxes = np.asarray(anno["boxes_lidar"], dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] not in (7, 9):
        raise DataError(f"{where}: expected boxes of 7 or 9 columns, found shape {boxes.shape}")
    if not len(names) == len(scores) == len(boxes):
        raise DataError(
            f"{where}: {len(names)} names, {len(scores)} scores and {len(boxes)} boxes; "
            "expected as many of each"
        )
    check_names(np.unique(names), where)
    padded = np.zeros((len(boxes), 9))
    padded[:, : boxes.shape[1]] = boxes
    finite = np.isfinite(padded).all(axis=1) & np.isfinite(scores)
    return names[finite], scores[finite], padded[finite]


def _best(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 500 boxes with the highest scores, in the order in which they came."""
    names, scores, boxes = columns
    best = np.argsort(-scores, kind="stable")[:MAX_BOXES_PER_SAMPLE]
    best.sort()
    return names[best], scores[best], boxes[best]


def _to_global(
    boxes: np.ndarray, sample: np.ndarray, poses: Poses
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (N, 3), quaternions (N, 4) and velocities (N, 2) of LiDAR boxes (N, 9)."""
    centre = boxes[:, :3]
    rotation = around_z(boxes[:, 6])
    velocity = np.concatenate([boxes[:, 7:9], np.zeros((len(boxes), 1))], axis=1)
    for turns, shifts in (
        (poses.sensor_rotation, poses.sensor_translation),
        (poses.ego_rotation, poses.ego_translation),
    ):
        turn = turns[sample]
        matrices = rotation_matrices(turn)
        centre = np.einsum("nij,nj->ni", matrices, centre) + shifts[sample]
        velocity = np.einsum("nij,nj->ni", matrices, velocity)
        rotation = multiply(turn, rotation)
    return centre, rotation, velocity[:, :2]


def warn_of_left_out(det_annos: Sequence[Detections], logger: logging.Logger) -> None:
    """Say which detections of S samples are not in the result file, if there are some."""
    kept = [len(names) for names, _, _ in map(_columns, det_annos)]
    not_finite = sum(len(anno["name"]) for anno in det_annos) - sum(kept)
    if not_finite:
        logger.warning("%d boxes with numbers that are not finite are left out", not_finite)
    extra = [max(number - MAX_BOXES_PER_SAMPLE, 0) for number in kept]
    if any(extra):
        logger.warning(
            "nuScenes takes %d boxes a sample: the %d boxes with the lowest scores of %d samples "
            "are left out",
            MAX_BOXES_PER_SAMPLE,
            sum(extra),
            sum(number > 0 for number in extra),
        )


def submission(det_annos: Sequence[Detections], tokens: Sequence[str], poses: Poses) -> Detections:
    """The content of nuScenes' result file.

    Args:
        det_annos: detections of S samples, as ``detected_boxes`` takes them.
        tokens: their tokens; every sample of the split must be there, also without detections.
        poses: their poses.
    """
    return as_submission(detected_boxes(det_annos, poses), tokens)


def as_submission(boxes: EvalBoxes, tokens: Sequence[str]) -> dict[str, Any]:
    """Detections in global coordinates as the content of nuScenes' result file."""
    results: dict[str, list[dict[str, Any]]] = {token: [] for token in tokens}
    for row, sample in enumerate(boxes.sample.tolist()):
        token = tokens[sample]
        results[token].append(_result_row(boxes, row, token))
    return {"results": results, "meta": dict(LIDAR_ONLY)}


def _result_row(boxes: EvalBoxes, row: int, token: str) -> dict[str, Any]:
    return {
        "sample_token": token,
        "translation": boxes.translation[row].tolist(),
        "size": boxes.size[row].tolist(),
        "rotation": boxes.rotation[row].tolist(),
        "velocity": boxes.velocity[row].tolist(),
        "detection_name": str(boxes.name[row]),
        "detection_score": float(boxes.score[row]),
        "attribute_name": str(boxes.attribute[row]),
    }


def write_submission(content: Detections, folder: Path) -> Path:
    """Write ``results_nusc.json`` into ``folder``, completely or not at all."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content))
    return path
