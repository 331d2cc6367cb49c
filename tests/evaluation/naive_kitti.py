"""KITTI's 2D benchmark in plain loops over plain objects, from its rules: the oracle of the tests."""

from __future__ import annotations

from dataclasses import dataclass

MIN_HEIGHT = {"easy": 40, "moderate": 25, "hard": 25}
MAX_OCCLUSION = {"easy": 0, "moderate": 1, "hard": 2}
MAX_TRUNCATION = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}
NEUTRAL = {"Car": "Van", "Pedestrian": "Person_sitting"}


@dataclass(eq=False)
class Thing:
    """An object or a detection: image box x1, y1, x2, y2."""

    name: str
    box: tuple[float, float, float, float]
    score: float = 0.0
    occluded: int = 0
    truncated: float = 0.0

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * self.height


def common_area(a: Thing, b: Thing) -> float:
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return max(width, 0.0) * max(height, 0.0)


def iou(a: Thing, b: Thing) -> float:
    return common_area(a, b) / (a.area + b.area - common_area(a, b))


def sort_objects(truth: list[Thing], name: str, level: str) -> list[tuple[Thing, bool]]:
    """Objects that take part, each with whether it is wanted."""
    result = []
    for thing in truth:
        hard = (
            thing.occluded > MAX_OCCLUSION[level]
            or thing.truncated > MAX_TRUNCATION[level]
            or thing.height <= MIN_HEIGHT[level]
        )
        if thing.name == name:
            result.append((thing, not hard))
        elif NEUTRAL.get(name) == thing.name:
            result.append((thing, False))
    return result


def sort_detections(found: list[Thing], name: str, level: str) -> list[tuple[Thing, bool]]:
    result = []
    for thing in found:
        if thing.height < MIN_HEIGHT[level]:
            result.append((thing, False))
        elif thing.name == name:
            result.append((thing, True))
    return result


def match(
    truth: list[Thing], found: list[Thing], name: str, level: str, least: float, floor: float | None
) -> tuple[list[float], int]:
    """(scores of the true positives, number of false positives) of a frame; ``floor`` None: match by best score."""
    free = [
        pair
        for pair in sort_detections(found, name, level)
        if floor is None or pair[0].score >= floor
    ]
    hits: list[float] = []
    for thing, wanted in sort_objects(truth, name, level):
        near = [pair for pair in free if iou(thing, pair[0]) > least]
        if not near:
            continue
        if floor is None:
            best = max(near, key=lambda pair: pair[0].score)
        elif any(counts for _, counts in near):
            best = max((pair for pair in near if pair[1]), key=lambda pair: iou(thing, pair[0]))
        else:
            best = near[0]
        free.remove(best)
        if wanted and best[1]:
            hits.append(best[0].score)
    regions = [thing for thing in truth if thing.name == "DontCare"]
    false = [
        thing
        for thing, counts in free
        if counts and not any(common_area(thing, region) / thing.area > least for region in regions)
    ]
    return hits, len(false)


def precision_curve(
    frames: list[tuple[list[Thing], list[Thing]]], name: str, level: str, least: float
) -> list[float]:
    """Precision at the 41 recall points."""
    wanted = sum(counts for truth, _ in frames for _, counts in sort_objects(truth, name, level))
    scores = sorted(
        (s for truth, found in frames for s in match(truth, found, name, level, least, None)[0]),
        reverse=True,
    )
    curve: list[float] = []
    recall = 0.0
    for position, score in enumerate(scores, start=1):
        is_last = position == len(scores)
        if not is_last and (position + 1) / wanted - recall < recall - position / wanted:
            continue
        results = [match(truth, found, name, level, least, score) for truth, found in frames]
        hits, false = sum(len(hits) for hits, _ in results), sum(false for _, false in results)
        curve.append(hits / (hits + false))
        recall += 1 / 40
    curve = [max(curve[k:]) for k in range(len(curve))]
    return curve + [0.0] * (41 - len(curve))
