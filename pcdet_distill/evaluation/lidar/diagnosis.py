"""Why detections near the objects do not match them: another height, another heading, other sizes.

The detections that lie near an object on the ground are compared with it by medians. A median that
is wrong by much names the cause, which is most often a convention of the labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...config import LidarEvalOptions
from ...ops.boxes import limit_period
from .matching import Criterion

if TYPE_CHECKING:
    from .evaluate import ClassRows
    from .result import ClassResult

LOW_SHARE = 0.25  # of the objects that have a detection near them, the share that must match
MIN_NEAR = 3  # medians of fewer pairs say nothing, unless no detection matches at all
WRONG_HEIGHT = 0.3  # of an object's height
WRONG_TURN_RAD = np.pi / 4
WRONG_RATIO = 1.4


def why_no_match(rows: ClassRows, entry: ClassResult, options: LidarEvalOptions) -> list[str]:
    """A sentence where few of the objects with a detection near them are matched in 3D."""
    if entry.num_objects == 0 or entry.num_detections == 0:
        return []
    strict = next(iter(entry.figures))
    num_right = int(rows.match(strict).is_right.sum())
    reach_m = max(options.center_distances_m)
    found, truth = rows.matched_boxes(Criterion("center", reach_m))
    num_near = len(found)
    if num_near == 0:
        return [
            f"no detection of {entry.name} lies within {reach_m:g} m of an object: AP is 0 "
            "because positions differ, not sizes or headings"
        ]
    is_low = num_right < LOW_SHARE * num_near and num_near >= MIN_NEAR
    if num_right and not is_low:
        return []
    causes = causes_of_misfit(found, truth) or ["their boxes fit too badly"]
    return [
        f"{num_near} detections of {entry.name} lie within {reach_m:g} m of an object, but "
        f"{num_right} overlap it by more than {strict.label} in 3D: {'; '.join(causes)} (medians)"
    ]


def causes_of_misfit(found: np.ndarray, truth: np.ndarray) -> list[str]:
    """What is wrong with boxes (M, 9) that lie near the boxes (M, 9) of their objects."""
    candidates = (
        _height_cause(found, truth),
        _exchange_cause(found, truth),
        _turn_cause(found, truth),
        _size_cause(found, truth),
        _position_cause(found, truth),
    )
    return [cause for cause in candidates if cause]


def _height_cause(found: np.ndarray, truth: np.ndarray) -> str:
    offset_m = float(np.median(found[:, 2] - truth[:, 2]))
    if abs(offset_m) <= WRONG_HEIGHT * float(np.median(truth[:, 5])):
        return ""
    word = "higher" if offset_m > 0 else "lower"
    return f"they lie {abs(offset_m):.2f} m {word} than the labels, whose z must be the centre"


def _exchange_cause(found: np.ndarray, truth: np.ndarray) -> str:
    ratio = _median_ratio(found[:, [3, 4]], truth[:, [3, 4]])
    exchanged = _median_ratio(found[:, [4, 3]], truth[:, [3, 4]])
    if ratio < WRONG_RATIO or exchanged >= ratio / WRONG_RATIO:
        return ""
    return "length and width look exchanged"


def _turn_cause(found: np.ndarray, truth: np.ndarray) -> str:
    """A turn by half a circle does not change the overlap."""
    turn_rad = np.abs(limit_period(found[:, 6] - truth[:, 6], 0.5, np.pi))
    median_rad = float(np.median(turn_rad))
    if median_rad <= WRONG_TURN_RAD:
        return ""
    return f"headings differ by {np.degrees(median_rad):.0f} degrees"


def _size_cause(found: np.ndarray, truth: np.ndarray) -> str:
    if _exchange_cause(found, truth):
        return ""
    ratios = np.median(found[:, 3:6] / truth[:, 3:6], axis=0)
    if max(ratios.max(), 1 / max(ratios.min(), 1e-6)) < WRONG_RATIO:
        return ""
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"length, width and height are {listed} times those of the labels"


def _position_cause(found: np.ndarray, truth: np.ndarray) -> str:
    distance_m = np.hypot(*(found[:, :2] - truth[:, :2]).T)
    median_m = float(np.median(distance_m))
    if median_m <= float(np.median(truth[:, [3, 4]].min(axis=1))) / 2:
        return ""
    return f"their centres are {median_m:.2f} m apart on the ground"


def _median_ratio(sizes: np.ndarray, others: np.ndarray) -> float:
    """How much two sets of sizes (M, 2) differ: 1 for equal ones, larger for others."""
    safe = np.maximum(sizes, 1e-6)
    return float(np.exp(np.median(np.abs(np.log(safe / others)).max(axis=1))))
