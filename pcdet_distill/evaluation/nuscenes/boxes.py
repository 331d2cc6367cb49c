"""Boxes of nuScenes' evaluation, labelled or detected, as arrays in global coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .protocol import check_names

NO_ATTRIBUTE = ""
Sample = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class EvalBoxes:
    """N boxes of several samples, in the order in which ties between scores are broken.

    Attributes:
        sample: number of the sample (N,).
        name: class (N,).
        translation: centre in metres (N, 3).
        size: width, length, height in metres (N, 3).
        rotation: quaternion (N, 4).
        velocity: along global x and y in m/s (N, 2); NaN where it is unknown.
        attribute: name (N,), empty where the object has none.
        score: of detections (N,).
        num_points: LiDAR and radar points in a labelled box (N,); -1 for detections.
    """

    sample: np.ndarray
    name: np.ndarray
    translation: np.ndarray
    size: np.ndarray
    rotation: np.ndarray
    velocity: np.ndarray
    attribute: np.ndarray
    score: np.ndarray
    num_points: np.ndarray

    def __len__(self) -> int:
        return len(self.sample)

    def select(self, rows: np.ndarray) -> EvalBoxes:
        """The boxes of a mask (N,) or of row numbers."""
        chosen = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return EvalBoxes(**chosen)


def boxes_of_samples(samples: Sequence[Sample]) -> EvalBoxes:
    """Boxes of dicts with the field names of nuScenes' result files, one list for each sample."""
    flat = list(itertools.chain.from_iterable(samples))
    counts = [len(sample) for sample in samples]
    names = _texts(box["detection_name"] for box in flat)
    check_names(np.unique(names), "results")
    return EvalBoxes(
        sample=np.repeat(np.arange(len(counts)), counts),
        name=names,
        translation=_numbers([box["translation"] for box in flat], 3),
        size=_numbers([box["size"] for box in flat], 3),
        rotation=_numbers([box["rotation"] for box in flat], 4),
        velocity=_numbers([box["velocity"] for box in flat], 2),
        attribute=_texts(box["attribute_name"] for box in flat),
        score=np.array([box.get("detection_score", -1.0) for box in flat], dtype=np.float64),
        num_points=np.array([box.get("num_pts", -1) for box in flat], dtype=np.int64),
    )


def _texts(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=str)


def _numbers(rows: list[Any], width: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, width)
