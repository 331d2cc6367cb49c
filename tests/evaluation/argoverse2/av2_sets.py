"""Random detections and labels of several frames, and what the package av2 makes of them.

Where av2 is installed, ``python av2_sets.py`` writes ``recorded_av2.json`` anew: inputs, and the
numbers of ``av2.evaluation.detection.eval.evaluate``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).with_name("recorded_av2.json")
NAMES = ("Regular_vehicle", "Pedestrian", "Bollard", "Bus")
RANGES_M = {"near": 60.0, "crowd": 150.0, "few": 200.0}
Frame = dict[str, list]


def random_boxes(rng: np.random.Generator, count: int, reach_m: float) -> np.ndarray:
    places = rng.uniform(-reach_m, reach_m, (count, 2))
    heights = rng.uniform(-1, 2, (count, 1))
    sizes = rng.uniform(0.4, 5, (count, 3))
    return np.concatenate([places, heights, sizes, rng.uniform(-4, 4, (count, 1))], axis=1)


def random_frame(
    rng: np.random.Generator, num_objects: int, reach_m: float, num_false: int
) -> tuple[Frame, Frame]:
    """Labels and detections of a frame; some detections have another class, or are doubled."""
    boxes = random_boxes(rng, num_objects, reach_m)
    names = rng.choice(NAMES[:3], num_objects)
    spread = rng.choice([0.2, 1.0], (num_objects, 1))
    noisy = boxes + rng.normal(0, 1, boxes.shape) * spread
    noisy[:, 3:6] = np.abs(noisy[:, 3:6]) + 0.1
    false = random_boxes(rng, num_false, reach_m)
    found = np.concatenate([noisy, noisy[: num_objects // 3] + 0.3, false])
    det_names = np.concatenate([names, names[: num_objects // 3], rng.choice(NAMES, num_false)])
    changed = rng.random(len(det_names)) < 0.1
    det_names[changed] = rng.choice(NAMES, int(changed.sum()))
    truth = {
        "name": names.tolist(),
        "gt_boxes_lidar": boxes.round(4).tolist(),
        "num_points_in_gt": rng.integers(0, 6, num_objects).tolist(),
    }
    detections = {
        "name": det_names.tolist(),
        "score": rng.random(len(found)).round(6).tolist(),
        "boxes_lidar": found.round(4).tolist(),
    }
    return truth, detections


def random_set(kind: str) -> list[tuple[Frame, Frame]]:
    """The frames of one of ``RANGES_M``."""
    rng = np.random.default_rng(list(RANGES_M).index(kind))
    if kind == "near":
        return [random_frame(rng, int(rng.integers(0, 25)), 80.0, 6) for _ in range(8)]
    if kind == "crowd":  # more than 100 detections of a class in a frame
        return [random_frame(rng, 90, 40.0, 420) for _ in range(2)]
    return [random_frame(rng, 2, 30.0, 1), random_frame(rng, 0, 30.0, 3)]


def official_numbers(
    frames: list[tuple[Frame, Frame]], names: list[str], max_range_m: float
) -> dict[str, dict[str, float]]:
    """AP, ATE, ASE, AOE and CDS of each category and their means, by av2."""
    import pandas
    from av2.evaluation.detection.eval import evaluate
    from av2.evaluation.detection.utils import DetectionCfg

    from pcdet_distill.datasets.argoverse2.detections import detection_columns

    labels, detections = [], []
    for number, (truth, found) in enumerate(frames):
        uuid = f"log/{number}"
        as_detections = {**truth, "boxes_lidar": truth["gt_boxes_lidar"]}
        as_detections["score"] = np.zeros(len(truth["name"]))
        table = pandas.DataFrame(detection_columns(uuid, as_detections))
        table["num_interior_pts"] = np.array(truth["num_points_in_gt"], dtype=np.int64)
        labels.append(table.drop(columns="score"))
        detections.append(pandas.DataFrame(detection_columns(uuid, found)))
    config = DetectionCfg(
        categories=tuple(name.upper() for name in names),
        eval_only_roi_instances=False,
        max_range_m=max_range_m,
    )
    table = evaluate(pandas.concat(detections), pandas.concat(labels), config, n_jobs=1)[2]
    return {str(name): row.to_dict() for name, row in table.iterrows()}


def main() -> None:
    """Record every set."""
    recorded = {}
    for kind, max_range_m in RANGES_M.items():
        frames = random_set(kind)
        present = {name for truth, _ in frames for name in truth["name"]}
        names = [name for name in NAMES if name in present]
        numbers = official_numbers(frames, names, max_range_m)
        recorded[kind] = {"max_range_m": max_range_m, "frames": frames, "numbers": numbers}
    RECORDED.write_text(json.dumps(recorded))


if __name__ == "__main__":
    main()
