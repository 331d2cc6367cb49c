"""Views: the same augmented points of an item, processed once more for another model with other voxels or range.

A dataset makes its views in its worker processes, beside its own item. A view draws its random numbers from a copy of
the item's random state: the item is the same with and without it, and equal processing gives equal points.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..config import required
from ..errors import ConfigError
from .processor import DataProcessor, PointFeatureEncoder

LABEL_KEYS = frozenset(
    {"REMOVE_OUTSIDE_BOXES", "min_num_corners", "USE_CENTER_TO_FILTER"}
)  # they change boxes only
MODES = frozenset({"train", "test"})


class ViewItem(dict):
    """The entries that a view adds to an item; collated to a batch within the batch."""


class PointView:
    """Another DATA_PROCESSOR for the points of a dataset.

    Args:
        dataset_cfg: the DATA_CONFIG block of the other model; its range, features and processing steps count.
        stored_features: what the dataset's points hold, its ``src_feature_list``.
        training: which entry of ``{train, test}`` pairs holds: that of the dataset, whatever mode the model is in.
    """

    def __init__(
        self, dataset_cfg: Mapping[str, Any], stored_features: Sequence[str], training: bool
    ) -> None:
        encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
        unknown = [name for name in encoding["used_feature_list"] if name not in stored_features]
        if unknown:
            raise ConfigError(
                f"DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list: the points hold "
                f"{', '.join(stored_features)}, so there is no '{unknown[0]}' for this model"
            )
        self.encoder = PointFeatureEncoder({**encoding, "src_feature_list": list(stored_features)})
        limits = np.array(dataset_cfg["POINT_CLOUD_RANGE"], dtype=np.float32)
        self.processor = DataProcessor(
            dataset_cfg["DATA_PROCESSOR"], limits, training, self.encoder.num_point_features
        )

    def make(self, points: np.ndarray, random: np.random.RandomState) -> ViewItem:
        """The view of ``points`` (N, stored features); neither they nor ``random`` change."""
        item = self.encoder.forward({"points": points})
        return ViewItem(self.processor.forward(item, copy.deepcopy(random)))


def processing_of(dataset_cfg: Mapping[str, Any], training: bool) -> tuple[Any, ...]:
    """What decides how points are processed; equal for two DATA_CONFIG blocks whose models can share their points."""
    encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
    mode = "train" if training else "test"
    steps = [
        _of_mode({key: value for key, value in step.items() if key not in LABEL_KEYS}, mode)
        for step in required(dataset_cfg, "DATA_PROCESSOR", "DATA_CONFIG")
    ]
    features = (encoding["encoding_type"], encoding["used_feature_list"])
    return _plain((required(dataset_cfg, "POINT_CLOUD_RANGE", "DATA_CONFIG"), features, steps))


def _of_mode(step: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """A processing step with only the entry of ``mode`` of each pair."""
    return {
        key: value[mode] if isinstance(value, Mapping) and set(value) == MODES else value
        for key, value in step.items()
    }


def _plain(value: Any) -> Any:
    """Comparable: whatever the order of the keys, and 4 equal to 4.0."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _plain(inner)) for key, inner in value.items()))
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(inner) for inner in value)
    return round(float(value), 6) if isinstance(value, (int, float)) else value
