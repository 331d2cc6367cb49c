"""KITTI's 2D benchmark from its rules, in plain loops over objects: the oracle of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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
        _, top, _, bottom = self.box
        return bottom - top

    @property
    def area(self) -> float:
        left, _, right, _ = self.box
        return (right - left) * self.height


class Candidate(NamedTuple):
    """An object or a detection that takes part; one that does not count is ignored if matched."""

    thing: Thing
    counts: bool


Frame = tuple[list[Thing], list[Thing]]  # objects, detections


def common_area(a: Thing, b: Thing) -> float:
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return max(width, 0.0) * max(height, 0.0)


def iou(a: Thing, b: Thing) -> float:
    return common_area(a, b) / (a.area + b.area - common_area(a, b))


def is_too_hard(thing: Thing, level: str) -> bool:
    return (
        thing.occluded > MAX_OCCLUSION[level]
        or thing.truncated > MAX_TRUNCATION[level]
        or thing.height <= MIN_HEIGHT[level]
    )


def candidate_objects(truth: list[Thing], name: str, level: str) -> list[Candidate]:
    """Objects of the class and of its neutral class; those that are too hard do not count."""
    candidates = []
    for thing in truth:
        if thing.name == name:
            candidates.append(Candidate(thing, counts=not is_too_hard(thing, level)))
        elif thing.name == NEUTRAL.get(name):
            candidates.append(Candidate(thing, counts=False))
    return candidates


def candidate_detections(found: list[Thing], name: str, level: str) -> list[Candidate]:
    """Detections of the class, and those of any class that are too low, which do not count."""
    candidates = []
    for thing in found:
        if thing.height < MIN_HEIGHT[level]:
            candidates.append(Candidate(thing, counts=False))
        elif thing.name == name:
            candidates.append(Candidate(thing, counts=True))
    return candidates


def match(
    truth: list[Thing], found: list[Thing], name: str, level: str, least: float, floor: float | None
) -> tuple[list[float], int]:
    """Scores of the true positives, and number of false positives, of a frame.

    Args:
        least: a match overlaps by more than this.
        floor: only detections with this score or a better one take part, and objects take the one
            of the best overlap. None: all take part, and objects take the one of the best score.
    """
    free = candidate_detections(found, name, level)
    if floor is not None:
        free = [detection for detection in free if detection.thing.score >= floor]
    hits: list[float] = []
    for wanted in candidate_objects(truth, name, level):
        near = [detection for detection in free if iou(wanted.thing, detection.thing) > least]
        if not near:
            continue
        best = best_of(wanted.thing, near, by_score=floor is None)
        free.remove(best)
        if wanted.counts and best.counts:
            hits.append(best.thing.score)
    regions = [thing for thing in truth if thing.name == "DontCare"]
    num_false = 0
    for detection in free:
        if detection.counts and not is_excused(detection.thing, regions, least):
            num_false += 1
    return hits, num_false


def is_excused(thing: Thing, regions: list[Thing], least: float) -> bool:
    """A DontCare region covers more than the share ``least`` of the detection."""
    shares = [common_area(thing, region) / thing.area for region in regions]
    return max(shares, default=0.0) > least


def best_of(thing: Thing, near: list[Candidate], by_score: bool) -> Candidate:
    """The detection that an object takes; one that counts goes before an ignored one."""
    if by_score:
        return max(near, key=lambda detection: detection.thing.score)
    counting = [detection for detection in near if detection.counts]
    if counting:
        return max(counting, key=lambda detection: iou(thing, detection.thing))
    return near[0]


def precision_curve(frames: list[Frame], name: str, level: str, least: float) -> list[float]:
    """Precision at the 41 recall points.

    A recall point is set at the score of the hit whose recall is nearest to it. Each then gets the
    best precision of this and of all higher recalls.
    """
    num_wanted = 0
    scores: list[float] = []
    for truth, found in frames:
        num_wanted += sum(wanted.counts for wanted in candidate_objects(truth, name, level))
        hits, _ = match(truth, found, name, level, least, floor=None)
        scores += hits
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
    best_from_here = [max(curve[point:]) for point in range(len(curve))]
    return best_from_here + [0.0] * (41 - len(curve))


def precision(
    frames: list[Frame],
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
