"""Matching of detections with labelled boxes of their sample, and the errors of the matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .boxes import NO_ATTRIBUTE, EvalBoxes
from .protocol import HALF_TURN_CLASSES
from .quaternions import yaws

FREE = -1


@dataclass(frozen=True)
class Matches:
    """The detections of one class, the best score first, and what each of them found.

    Attributes:
        score: (D,).
        truth: number of the labelled box that a detection found (D,), or -1.
        errors: of each found detection, by the name of the error (number of matches,).
    """

    score: np.ndarray
    truth: np.ndarray
    errors: dict[str, np.ndarray]

    @property
    def is_match(self) -> np.ndarray:
        """Which detections found an object (D,)."""
        return self.truth != FREE


def by_score(detections: EvalBoxes) -> EvalBoxes:
    """Detections with the best score first; of equal scores the later one in the list is first."""
    order = np.argsort(detections.score, kind="stable")[::-1]
    return detections.select(order)


def match_class(
    truths: EvalBoxes, detections: EvalBoxes, name: str, distances_m: tuple[float, ...]
) -> list[Matches]:
    """The matches of the class ``name`` at each of the largest distances ``distances_m``.

    Detections are served in the order of their scores. Each takes the nearest labelled box of its
    class and sample that no better one has taken, if that is nearer than the distance. So a second
    detection of an object can take a neighbour, which is the benchmark's rule.
    """
    labelled = truths.select(truths.name == name)
    found = by_score(detections.select(detections.name == name))
    pairs = _near_pairs(labelled, found, max(distances_m))
    results = []
    for distance_m in distances_m:
        truth = _greedy(pairs, len(labelled), len(found), distance_m)
        matched = np.flatnonzero(truth != FREE)
        errors = match_errors(labelled.select(truth[matched]), found.select(matched), name)
        results.append(Matches(found.score, truth, errors))
    return results


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a detection and a labelled box of its sample, in the order of ``_greedy``."""

    detection: np.ndarray
    truth: np.ndarray
    distance_m: np.ndarray


def _near_pairs(labelled: EvalBoxes, found: EvalBoxes, limit_m: float) -> _Pairs:
    """All pairs of one sample nearer than ``limit_m``: by detection, then by distance."""
    detections = []
    truths = []
    truth_rows = _rows_by_sample(labelled.sample)
    for sample, detection_rows in _rows_by_sample(found.sample).items():
        rows = truth_rows.get(sample)
        if rows is not None:
            detections.append(np.repeat(detection_rows, len(rows)))
            truths.append(np.tile(rows, len(detection_rows)))
    if not detections:
        none = np.zeros(0, dtype=np.int64)
        return _Pairs(none, none, np.zeros(0))
    detection = np.concatenate(detections)
    truth = np.concatenate(truths)
    distance = centre_distance(labelled.select(truth), found.select(detection))
    near = distance < limit_m
    detection, truth, distance = detection[near], truth[near], distance[near]
    order = np.lexsort((truth, distance, detection))  # detection is the first key
    return _Pairs(detection[order], truth[order], distance[order])


def _rows_by_sample(samples: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of each sample, in their order."""
    order = np.argsort(samples, kind="stable")
    present, starts = np.unique(samples[order], return_index=True)
    return dict(zip(present.tolist(), np.split(order, starts[1:])))


def _greedy(pairs: _Pairs, num_truths: int, num_detections: int, limit_m: float) -> np.ndarray:
    """The labelled box of each detection (num_detections,), or -1.

    The pairs come by detection and then by distance. So the first pair whose two boxes are both
    free is the one that the benchmark's rule chooses.
    """
    near = pairs.distance_m < limit_m
    taken = [False] * num_truths
    result = [FREE] * num_detections
    for detection, truth in zip(pairs.detection[near].tolist(), pairs.truth[near].tolist()):
        if result[detection] == FREE and not taken[truth]:
            result[detection] = truth
            taken[truth] = True
    return np.array(result, dtype=np.int64)


def centre_distance(truths: EvalBoxes, detections: EvalBoxes) -> np.ndarray:
    """Distances on the ground (N,) between the centres of paired boxes."""
    return np.linalg.norm(detections.translation[:, :2] - truths.translation[:, :2], axis=1)


def match_errors(truths: EvalBoxes, detections: EvalBoxes, name: str) -> dict[str, np.ndarray]:
    """The five errors (N,) of paired boxes of the class ``name``; NaN where one is unknown."""
    return {
        "trans_err": centre_distance(truths, detections),
        "scale_err": 1 - _aligned_iou(truths.size, detections.size),
        "orient_err": _turn(truths, detections, name),
        "vel_err": np.linalg.norm(detections.velocity - truths.velocity, axis=1),
        "attr_err": _attribute_error(truths, detections),
    }


def _aligned_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (N,) of boxes of sizes (N, 3) at the same place with the same heading."""
    common = np.prod(np.minimum(first, second), axis=1)
    union = np.prod(first, axis=1) + np.prod(second, axis=1) - common
    return common / union


def _turn(truths: EvalBoxes, detections: EvalBoxes, name: str) -> np.ndarray:
    """Smallest angle (N,) in radians that turns one box into the direction of the other."""
    period = np.pi if name in HALF_TURN_CLASSES else 2 * np.pi
    difference = yaws(truths.rotation) - yaws(detections.rotation)
    return np.abs((difference + period / 2) % period - period / 2)


def _attribute_error(truths: EvalBoxes, detections: EvalBoxes) -> np.ndarray:
    """0 for the right attribute, 1 for a wrong one, NaN for an object without attribute."""
    wrong = (truths.attribute != detections.attribute).astype(np.float64)
    return np.where(truths.attribute == NO_ATTRIBUTE, np.nan, wrong)
