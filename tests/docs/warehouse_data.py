"""A small data set as a user has it: clouds of forklifts and persons, and one table of boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZES = {"Forklift": (2.4, 1.2, 2.0), "Person": (0.6, 0.6, 1.8)}
FLOOR_Z = -1.5
HALL_M = 8.0


def write_warehouse(folder: Path, frames: int = 24, seed: int = 0) -> None:
    """Write ``clouds/*.bin`` of x, y, z, intensity, ring, and ``labels.csv``."""
    (folder / "clouds").mkdir(parents=True)
    random = np.random.default_rng(seed)
    lines = ["frame,class,x,y,z,length,width,height,yaw,track_id"]
    for number in range(frames):
        frame = f"{number:04d}"
        boxes = place_objects(random)
        points = scan(boxes, random)
        points.astype(np.float32).tofile(folder / "clouds" / f"{frame}.bin")
        for track, (name, box) in enumerate(boxes):
            numbers = ",".join(f"{value:.3f}" for value in box)
            lines.append(f"{frame},{name},{numbers},{track}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def place_objects(random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Two forklifts and two persons, one in each quarter of the hall."""
    objects = []
    quarters = random.permutation([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    for name, quarter in zip(("Forklift", "Forklift", "Person", "Person"), quarters):
        length, width, height = SIZES[name]
        place = quarter * random.uniform(2.0, 6.0, 2)
        heading = random.uniform(-np.pi, np.pi)
        box = [*place, FLOOR_Z + height / 2, length, width, height, heading]
        objects.append((name, np.array(box)))
    return objects


def scan(boxes: list[tuple[str, np.ndarray]], random: np.random.Generator) -> np.ndarray:
    """(N, 5) points of the floor and of the objects, which are brighter."""
    floor = random.uniform([-HALL_M, -HALL_M, FLOOR_Z], [HALL_M, HALL_M, FLOOR_Z + 0.02], (1500, 3))
    places = [floor]
    brightness = [random.uniform(0.0, 0.3, 1500)]
    for name, box in boxes:
        count = 250 if name == "Forklift" else 80
        local = random.uniform(-0.5, 0.5, (count, 3)) * box[3:6]
        cosine = np.cos(box[6])
        sine = np.sin(box[6])
        turned = local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        places.append(turned + box[:3])
        brightness.append(random.uniform(0.6, 1.0, count))
    points = np.concatenate(places)
    rings = random.integers(0, 16, len(points))
    return np.column_stack([points, np.concatenate(brightness), rings])
