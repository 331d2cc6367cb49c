"""A folder of own data: forklifts and persons in a warehouse, few enough to know every number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ["Forklift", "Person"]
SIZES = {"Forklift": (2.4, 1.2, 2.0), "Person": (0.6, 0.6, 1.8)}
FLOOR_Z = -1.5
Labelled = tuple[str, float, float, float]  # name, x, y, heading


def box_of(labelled: Labelled) -> list[float]:
    """The box of an object that stands on the floor."""
    name, x, y, heading = labelled
    length, width, height = SIZES[name]
    return [x, y, FLOOR_Z + height / 2, length, width, height, heading]


def points_in_box(box: list[float], count: int, random: np.random.Generator) -> np.ndarray:
    """(count, 3) points well inside a box."""
    local = random.uniform(-0.45, 0.45, (count, 3)) * box[3:6]
    cosine = np.cos(box[6])
    sine = np.sin(box[6])
    turned = local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return turned + box[:3]


def cloud_of(
    objects: list[Labelled], *, seed: int = 0, num_features: int = 4, points_each: int = 40
) -> np.ndarray:
    """(N, num_features) float32: a floor on all sides, and ``points_each`` in every object.

    Further columns after x, y, z are uniform in 0..1.
    """
    random = np.random.default_rng(seed)
    floor = random.uniform([-12, -12, FLOOR_Z - 0.05], [12, 12, FLOOR_Z - 0.02], (600, 3))
    parts = [floor]
    parts += [points_in_box(box_of(labelled), points_each, random) for labelled in objects]
    places = np.concatenate(parts)
    further = random.uniform(0, 1, (len(places), num_features - 3))
    return np.concatenate([places, further], axis=1).astype(np.float32)


def objects_of(number: int) -> list[Labelled]:
    """The objects of frame ``number``, on all sides of the sensor."""
    angle = 0.7 * number
    return [
        ("Forklift", 6 * np.cos(angle), 6 * np.sin(angle), 0.4 * number - 1),
        ("Person", -4 * np.cos(angle), 4 * np.sin(angle), 0.0),
    ]


class TinyCustom:
    """Writes frames in OpenPCDet's layout of own data."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("points", "labels", "ImageSets"):
            (root / folder).mkdir(parents=True)

    def frame(self, frame_id: str, objects: list[Labelled], *, num_features: int = 4) -> None:
        cloud = cloud_of(objects, seed=len(frame_id), num_features=num_features)
        np.save(self.root / "points" / f"{frame_id}.npy", cloud)
        lines = []
        for labelled in objects:
            numbers = " ".join(f"{value:.6f}" for value in box_of(labelled))
            lines.append(f"{numbers} {labelled[0]}\n")
        (self.root / "labels" / f"{frame_id}.txt").write_text("".join(lines), encoding="utf-8")

    def split(self, name: str, frames: list[str]) -> None:
        text = "".join(f"{frame}\n" for frame in frames)
        (self.root / "ImageSets" / f"{name}.txt").write_text(text, encoding="utf-8")


def fill_custom(root: Path, train: int = 4, val: int = 2) -> TinyCustom:
    """A folder with ``train`` + ``val`` frames."""
    custom = TinyCustom(root)
    frames = [f"{number:04d}" for number in range(train + val)]
    for number, frame in enumerate(frames):
        custom.frame(frame, objects_of(number))
    custom.split("train", frames[:train])
    custom.split("val", frames[train:])
    return custom
