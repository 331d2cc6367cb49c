"""KITTI's 2D benchmark from its rules, in plain loops over objects: the oracle of the tests."""

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
    """Scores of the true positives, and number of false positives, of a frame.

    Args:
        least: a match overlaps by more than this.
        floor: only detections with this score or a better one take part, and objects take the one
            of the best overlap. None: all take part, and objects take the one of the best score.
    """
    free = sort_detections(found, name, level)
    if floor is not None:
        free = [pair for pair in free if pair[0].score >= floor]
    hits: list[float] = []
    for thing, wanted in sort_objects(truth, name, level):
        near = [pair for pair in free if iou(thing, pair[0]) > least]
        if not near:
            continue
        best = best_of(thing, near, by_score=floor is None)
        free.remove(best)
        if wanted and best[1]:
            hits.append(best[0].score)
    regions = [thing for thing in truth if thing.name == "DontCare"]
    num_false = 0
    for thing, counts in free:
        shares = [common_area(thing, region) / thing.area for region in regions]
        if counts and max(shares, default=0.0) <= least:
            num_false += 1
    return hits, num_false


def best_of(thing: Thing, near: list[tuple[Thing, bool]], by_score: bool) -> tuple[Thing, bool]:
    """The detection that an object takes; one that counts goes before an ignored one."""
    if by_score:
        return max(near, key=lambda pair: pair[0].score)
    counting = [pair for pair in near if pair[1]]
    if counting:
        return max(counting, key=lambda pair: iou(thing, pair[0]))
    return near[0]


def precision_curve(
    frames: list[tuple[list[Thing], list[Thing]]], name: str, level: str, least: float
) -> list[float]:
    """Precision at the 41 recall points."""
    num_wanted = 0
    scores: list[float] = []
    for truth, found in frames:
        num_wanted += sum(wanted for _, wanted in sort_objects(truth, name, level))
        scores += match(truth, found, name, level, least, None)[0]
    scores.sort(reverse=True)
    curve: list[float] = []
    recall = 0.0
    for position, score in enumerate(scores, start=1):
        is_last = position == len(scores)
        here = position / num_wanted
        after = (position + 1) / num_wanted
        if not is_last and after - recall < recall - here:
            continue
        curve.append(precision(frames, name, level, least, score))
        recall += 1 / 40
    curve = [max(curve[k:]) for k in range(len(curve))]
    return curve + [0.0] * (41 - len(curve))


def precision(
    frames: list[tuple[list[Thing], list[Thing]]],
    name: str,
    level: str,
    least: float,
    floor: float,
) -> float:
    """Share of true positives among the detections with the score ``floor`` or a better one."""
    num_hits = 0
    num_false = 0
    for truth, found in frames:
        hits, false = match(truth, found, name, level, least, floor)
        num_hits += len(hits)
        num_false += false
    return num_hits / (num_hits + num_false)
