"""A made-up evaluation of a few frames, whose errors are known."""

from __future__ import annotations

import numpy as np

from pcdet_distill.config import LidarEvalOptions
from pcdet_distill.evaluation.lidar import lidar_eval
from pcdet_distill.report.collect import Evaluation

CLASSES = ["Car", "Pedestrian"]
RANGE = [0.0, -20.0, -3.0, 40.0, 20.0, 1.0]
CAR = [4.0, 1.8, 1.5]
PERSON = [0.8, 0.6, 1.7]


def box(x: float, y: float, size: list[float], heading: float = 0.0) -> list[float]:
    return [x, y, -1.0, *size, heading]


def labels(frame_id: str, names: list[str], boxes: list[list[float]], points: int = 30) -> dict:
    return {
        "frame_id": frame_id,
        "name": np.array(names),
        "gt_boxes_lidar": np.array(boxes).reshape(-1, 7),
        "num_points_in_gt": np.full(len(names), points),
    }


def detections(
    frame_id: str, names: list[str], boxes: list[list[float]], scores: list[float]
) -> dict:
    return {
        "frame_id": frame_id,
        "name": np.array(names),
        "boxes_lidar": np.array(boxes).reshape(-1, 7),
        "score": np.array(scores),
    }


def truth() -> list[dict]:
    """Frame a: two cars, one person. Frame b: one car beyond the range. Frame c: empty."""
    return [
        labels(
            "a",
            ["Car", "Car", "Pedestrian"],
            [box(10, 0, CAR), box(20, 5, CAR), box(8, -3, PERSON)],
        ),
        labels("b", ["Car"], [box(60, 0, CAR)]),
        labels("c", [], []),
    ]


def found() -> list[dict]:
    """Frame a: a right car, a shifted one, no person. Frame c: an invented person."""
    return [
        detections("a", ["Car", "Car"], [box(10, 0, CAR), box(20, 6.2, CAR)], [0.9, 0.8]),
        detections("b", [], [], []),
        detections("c", ["Pedestrian"], [box(5, 5, PERSON)], [0.7]),
    ]


def random_evaluation(seed: int = 0, num_frames: int = 30) -> tuple[list[dict], list[dict]]:
    """Labels, and detections of most of them with false ones between, over many scores."""
    rng = np.random.default_rng(seed)
    gt_annos = []
    det_annos = []
    for number in range(num_frames):
        boxes = [box(5 + 6 * n, rng.uniform(-15, 15), CAR, rng.uniform(-3, 3)) for n in range(5)]
        names = ["Car"] * 5
        gt_annos.append(labels(f"{number:06d}", names, boxes, points=int(rng.integers(5, 300))))
        moved = np.array(boxes)
        moved[:, :2] += rng.normal(0, 0.25, (5, 2))
        false = [box(rng.uniform(0, 40), rng.uniform(-20, 20), CAR) for _ in range(2)]
        scores = np.concatenate([rng.uniform(0.3, 1, 5), rng.uniform(0.1, 0.7, 2)])
        kept = rng.uniform(size=7) < 0.85
        every = np.concatenate([moved, np.array(false)])
        det_annos.append(
            detections(
                f"{number:06d}",
                ["Car"] * int(kept.sum()),
                every[kept].tolist(),
                scores[kept].tolist(),
            )
        )
    return gt_annos, det_annos


def toy_evaluation(gt_annos: list[dict], det_annos: list[dict], **changes) -> Evaluation:
    options = LidarEvalOptions()
    values = {
        "name": "student",
        "data": "made up",
        "class_names": CLASSES,
        "result": lidar_eval(gt_annos, det_annos, CLASSES, options),
        "det_annos": det_annos,
        "labels": gt_annos,
        "options": options,
        "point_cloud_range": RANGE,
        "read_points": lambda frame_id: np.full((50, 4), 5.0),
    }
    return Evaluation(**{**values, **changes})
