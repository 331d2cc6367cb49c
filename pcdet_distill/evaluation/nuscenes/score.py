"""nuScenes' metric of labelled and detected boxes that have been filtered already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .boxes import EvalBoxes
from .matching import match_class
from .metrics import Curves, curves
from .protocol import (
    DETECTION_NAMES,
    ERRORS,
    MATCH_DISTANCES_M,
    TP_DISTANCE_M,
    UNDEFINED_ERRORS,
)
from .result import NuScenesResult


def score_boxes(
    truths: EvalBoxes, detections: EvalBoxes, classes: Sequence[str] = DETECTION_NAMES
) -> NuScenesResult:
    """APs and errors of all ten classes; ``classes`` is their order in the text."""
    ap = {}
    errors = {}
    num_objects = {}
    precision = {}
    for name in DETECTION_NAMES:
        by_distance = class_curves(truths, detections, name)
        ap[name] = {distance: item.average_precision() for distance, item in by_distance.items()}
        precision[name] = {key: item.precision for key, item in by_distance.items()}
        errors[name] = _class_errors(by_distance[TP_DISTANCE_M], name)
        num_objects[name] = int(np.sum(truths.name == name))
    return NuScenesResult(ap, errors, num_objects, tuple(classes), precision=precision)


def class_curves(truths: EvalBoxes, detections: EvalBoxes, name: str) -> dict[float, Curves]:
    """The curves of a class by matching distance in metres."""
    num_truths = int(np.sum(truths.name == name))
    matches = match_class(truths, detections, name, MATCH_DISTANCES_M)
    return {
        distance: curves(item, num_truths) for distance, item in zip(MATCH_DISTANCES_M, matches)
    }


def _class_errors(item: Curves, name: str) -> dict[str, float]:
    """The five mean errors of a class; NaN for those that it does not have."""
    undefined = UNDEFINED_ERRORS.get(name, ())
    return {
        error: float("nan") if error in undefined else item.mean_error(error) for error in ERRORS
    }
