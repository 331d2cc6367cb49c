"""Random objects and detections of many frames, for the tests of the evaluation."""

from __future__ import annotations

import numpy as np
from kitti_frames import car, frame

NAMES = ("Car", "Car", "Pedestrian", "Van", "Person_sitting", "DontCare")


def random_things(rng: np.random.Generator, count: int, names: tuple[str, ...]) -> list[dict]:
    """Objects whose image boxes often overlap; scores differ."""
    things = []
    for _ in range(count):
        left = rng.uniform(0, 300)
        top = rng.uniform(0, 60)
        width = rng.uniform(40, 90)
        height = rng.uniform(20, 70)
        thing = car(
            name=str(rng.choice(names)),
            bbox=(left, top, left + width, top + height),
            score=float(rng.random()),
            location=tuple(rng.uniform((-8, 1, 8), (8, 2, 25))),
            rotation_y=float(rng.uniform(-3, 3)),
            occluded=int(rng.integers(0, 4)),
            truncated=float(rng.choice([0, 0.2, 0.4, 0.6])),
            alpha=float(rng.uniform(-3, 3)),
        )
        things.append(thing)
    return things


def blurred(things: list[dict], rng: np.random.Generator) -> list[dict]:
    """Detections near the objects, some of another class."""
    found = []
    for thing in things:
        if thing["name"] == "DontCare" or rng.random() < 0.2:
            continue
        bbox = np.array(thing["bbox"]) + rng.normal(0, 4, 4)
        location = np.array(thing["location"]) + rng.normal(0, 0.15, 3)
        name = thing["name"] if rng.random() < 0.8 else "Car"
        score = float(rng.random())
        detection = {
            **thing,
            "bbox": tuple(bbox),
            "location": tuple(location),
            "name": name,
            "score": score,
        }
        found.append(detection)
    return found


def random_set(seed: int, frames: int = 12) -> tuple[list[list[dict]], list[list[dict]]]:
    """Objects and detections of every frame."""
    rng = np.random.default_rng(seed)
    truth = [random_things(rng, int(rng.integers(0, 9)), NAMES) for _ in range(frames)]
    found = []
    for things in truth:
        hits = blurred(things, rng)
        num_false = int(rng.integers(0, 4))
        false_positives = random_things(rng, num_false, ("Car", "Pedestrian"))
        found.append(hits + false_positives)
    return truth, found


def annos(frames: list[list[dict]]) -> list[dict]:
    """The annotation dicts of frames."""
    return [frame(*things) for things in frames]
