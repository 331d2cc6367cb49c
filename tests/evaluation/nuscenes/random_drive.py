"""Random labelled scenes and detections near the labels, for comparisons with the devkit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tiny_tables import SENSOR_TRANSLATION, TinyTables, detections, tokens_of

from pcdet_distill.evaluation.nuscenes import CATEGORY_CLASS
from pcdet_distill.evaluation.nuscenes.submission import USUAL_ATTRIBUTE

EGO_M = (100.0, 50.0)
NUM_SAMPLES = 4
SCENES = ("scene-0103", "scene-0916")  # the split mini_val
OTHER_SCENE = "scene-0061"  # of mini_train
NO_ATTRIBUTES = ("barrier", "traffic_cone")


def random_tables(random: np.random.Generator, objects: int = 40) -> TinyTables:
    """Two labelled scenes, bicycle racks and unscored objects among them."""
    tables = TinyTables()
    categories = [*CATEGORY_CLASS, "static_object.bicycle_rack", "animal"]
    for scene in (*SCENES, OTHER_SCENE):
        tables.add_scene(scene, NUM_SAMPLES, EGO_M)
        for number in range(objects):
            _add_random_object(tables, random, scene, categories[number % len(categories)])
    return tables


def _add_random_object(
    tables: TinyTables, random: np.random.Generator, scene: str, category: str
) -> None:
    first = random.integers(0, NUM_SAMPLES)
    last = random.integers(first, NUM_SAMPLES)
    samples = tokens_of(scene, NUM_SAMPLES)[first : last + 1]
    start = np.array([*EGO_M, 0.5]) + random.uniform(-38, 38, 3) * [1, 1, 0.01]
    steps = np.outer(np.arange(len(samples)), [*random.uniform(-2, 2, 2), 0])
    name = CATEGORY_CLASS.get(category, "barrier")
    has_attribute = name not in NO_ATTRIBUTES and random.random() < 0.8
    size = (50.0, 50.0, 3.0) if category.endswith("rack") else random.uniform(0.5, 4, 3)
    tables.add_object(
        category,
        samples,
        (start + steps).tolist(),
        size=[float(value) for value in size],
        yaw=random.uniform(-3, 3),
        attribute=USUAL_ATTRIBUTE[name] if has_attribute else "",
        num_points=int(random.integers(0, 6)),
    )


def random_detections(
    tables: TinyTables, random: np.random.Generator, extra: int = 5
) -> list[Mapping[str, Any]]:
    """Boxes near the labels of the split, some with a wrong class, and some out of the blue."""
    category_of = {row["token"]: row["category_token"] for row in tables.rows["instance"]}
    x_of = {row["token"]: row["translation"][0] for row in tables.rows["ego_pose"]}
    found = []
    for scene in SCENES:
        for token in tokens_of(scene, NUM_SAMPLES):
            rows = [row for row in tables.rows["sample_annotation"] if row["sample_token"] == token]
            names = [CATEGORY_CLASS.get(category_of[row["instance_token"]]) for row in rows]
            kept = [row for row, name in zip(rows, names) if name]
            names = [name for name in names if name]
            ego = np.array([x_of[f"LIDAR_TOP-{token}"], EGO_M[1], 0.0])
            boxes = np.array([_lidar_box(row, ego) for row in kept]).reshape(-1, 9)
            strays = boxes[random.integers(0, len(boxes), extra)] if len(boxes) else boxes
            boxes = np.concatenate([boxes, boxes, strays + random.normal(0, 5, strays.shape)])
            names = [*names, *names, *random.choice(names, len(strays))]
            boxes = boxes + random.normal(0, 0.4, boxes.shape)
            boxes[:, 3:6] = np.abs(boxes[:, 3:6]) + 0.1
            scores = np.round(random.random(len(boxes)), 1)  # many ties
            found.append(detections(token, names, score=scores, boxes_lidar=boxes))
    return found


def _lidar_box(row: Mapping[str, Any], ego: np.ndarray) -> np.ndarray:
    """A label in the LiDAR frame: the sensor is turned by -90 degrees around z."""
    x, y, z = np.array(row["translation"]) - ego - SENSOR_TRANSLATION
    width, length, height = row["size"]
    w, _, _, sine = row["rotation"]
    yaw = 2 * np.arctan2(sine, w) + np.pi / 2
    return np.array([-y, x, z, length, width, height, yaw, 0.5, 0.5])
