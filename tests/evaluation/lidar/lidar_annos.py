"""Labels and detections in LiDAR coordinates, written by hand or drawn, for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CAR = (20.0, 5.0, -1.0, 4.0, 1.8, 1.6, 0.3)
Anno = dict[str, object]


def moved(box: Sequence[float], x: float = 0, y: float = 0, z: float = 0, turn: float = 0) -> tuple:
    """The box elsewhere."""
    return (box[0] + x, box[1] + y, box[2] + z, *box[3:6], box[6] + turn, *box[7:])


def labels(frame_id: str, *named: tuple[str, Sequence[float]], points: object = None) -> Anno:
    """The labels of a frame from pairs of a name and a box."""
    boxes = [box for _, box in named]
    width = len(boxes[0]) if boxes else 7
    anno: Anno = {
        "frame_id": frame_id,
        "name": np.array([name for name, _ in named], dtype=str),
        "gt_boxes_lidar": np.array(boxes, dtype=np.float64).reshape(-1, width),
    }
    if points is not None:
        anno["num_points_in_gt"] = np.array(points)
    return anno


def detected(frame_id: str, *found: tuple[str, float, Sequence[float]]) -> Anno:
    """The detections of a frame from triples of a name, a score and a box."""
    boxes = [box for _, _, box in found]
    width = len(boxes[0]) if boxes else 7
    return {
        "frame_id": frame_id,
        "name": np.array([name for name, _, _ in found], dtype=str),
        "score": np.array([score for _, score, _ in found], dtype=np.float64),
        "boxes_lidar": np.array(boxes, dtype=np.float64).reshape(-1, width),
    }


def random_boxes(rng: np.random.Generator, count: int, reach_m: float) -> np.ndarray:
    """Boxes (count, 7) like road users, which may overlap."""
    places = rng.uniform(-reach_m, reach_m, (count, 2))
    heights = rng.uniform(-1.2, -0.8, (count, 1))
    sizes = rng.uniform((1.5, 0.8, 1.2), (4.5, 2.0, 1.8), (count, 3))
    headings = rng.uniform(-4, 4, (count, 1))
    return np.concatenate([places, heights, sizes, headings], axis=1)


def random_frames(
    seed: int, num_frames: int = 15, names: Sequence[str] = ("Car", "Van", "Bollard")
) -> tuple[list[Anno], list[Anno]]:
    """Crowded frames: objects overlap, and detections fit several of them."""
    rng = np.random.default_rng(seed)
    truth = []
    found = []
    for number in range(num_frames):
        boxes = random_boxes(rng, int(rng.integers(0, 9)), 8.0)
        gt_names = rng.choice(names, len(boxes))
        noisy = boxes + rng.normal(0, 0.15, boxes.shape)
        false = random_boxes(rng, int(rng.integers(0, 4)), 8.0)
        all_boxes = np.concatenate([noisy, noisy[:2] + 0.1, false])
        det_names = np.concatenate([gt_names, gt_names[:2], rng.choice(names, len(false))])
        truth.append(
            {
                "frame_id": f"{number:06d}",
                "name": gt_names.astype(str),
                "gt_boxes_lidar": boxes,
                "num_points_in_gt": rng.integers(0, 300, len(boxes)),
            }
        )
        found.append(
            {
                "frame_id": f"{number:06d}",
                "name": det_names.astype(str),
                "score": rng.random(len(all_boxes)),
                "boxes_lidar": all_boxes,
            }
        )
    return truth, found
