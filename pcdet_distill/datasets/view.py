"""Views: the augmented points of an item, processed a second time for another model.

The other model may have other voxels, another range or other point features. A dataset makes its
views in its worker processes, beside its own item. A view draws random numbers from a copy of the
item's random state. So the item is the same with and without a view, and equal processing gives
equal points.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from ..config import CloudOptions, required
from ..config.cloud_options import WHERE
from ..errors import ConfigError
from ..types import ConfigDict
from .processor import CloudColumns, DataProcessor, PointFeatureEncoder

# Keys of a processing step that change boxes only, not points.
LABEL_KEYS = frozenset({"REMOVE_OUTSIDE_BOXES", "min_num_corners", "USE_CENTER_TO_FILTER"})
MODES = frozenset({"train", "test"})


class ViewItem(dict):
    """The entries that a view adds to an item; collated to a batch within the batch."""


class PointView:
    """Another DATA_PROCESSOR for the points of a dataset.

    Args:
        dataset_cfg: the DATA_CONFIG block of the other model. Its range, point features and
            processing steps are used.
        stored_features: the columns of the dataset's points, its ``src_feature_list``.
        training: which value of ``{train, test}`` pairs applies: the dataset's mode, also where the
            other model is in eval mode.
        stored_cloud: the COMMON_CLOUD of the dataset. Of its points the view starts from those of
            the other model's own COMMON_CLOUD.
    """

    def __init__(
        self,
        dataset_cfg: ConfigDict,
        stored_features: Sequence[str],
        training: bool,
        stored_cloud: CloudOptions | None = None,
    ) -> None:
        encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
        for name in encoding["used_feature_list"]:
            if name not in stored_features:
                raise ConfigError(
                    "DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list: the points hold "
                    f"{', '.join(stored_features)}, so there is no '{name}' for this model"
                )
        self.encoder = PointFeatureEncoder({**encoding, "src_feature_list": list(stored_features)})
        limits = np.array(dataset_cfg["POINT_CLOUD_RANGE"], dtype=np.float32)
        stored_cloud = stored_cloud or CloudOptions()
        own_cloud = selections_of_cloud(CloudOptions.from_config(dataset_cfg), stored_cloud)
        self.processor = DataProcessor(
            [*own_cloud, *dataset_cfg["DATA_PROCESSOR"]],
            limits,
            training,
            self.encoder.num_point_features,
            CloudColumns(stored_features, stored_cloud.folders),
        )

    def make(self, points: np.ndarray, random: np.random.RandomState) -> ViewItem:
        """The view of ``points`` (N, stored features); neither they nor ``random`` change."""
        item = self.encoder.forward({"points": self.processor.select(points)})
        return ViewItem(self.processor.forward(item, copy.deepcopy(random)))


def selections_of_cloud(own: CloudOptions, stored: CloudOptions) -> list[ConfigDict]:
    """The steps that leave, of the stored cloud, the one that a model was made for.

    Args:
        own: COMMON_CLOUD of the model.
        stored: COMMON_CLOUD of the dataset, which must hold at least as much.
    """
    missing = [folder for folder in own.folders if folder not in stored.folders]
    if missing:
        raise ConfigError(
            f"{WHERE}.FOLDERS: this model was made for the points of {', '.join(missing)}, but the "
            f"data hold those of {', '.join(stored.folders)} alone"
        )
    if own.beams != "none" and own.beams != stored.beams:
        raise ConfigError(
            f"{WHERE}.BEAMS: this model numbers beams by {own.beams}, the data by {stored.beams}"
        )
    steps: list[ConfigDict] = []
    if len(own.folders) < len(stored.folders):
        steps.append({"NAME": "select_sensor", "SENSORS": list(own.folders)})
    if own.sweeps == stored.sweeps:
        return steps
    if own.sweeps > 1:
        raise ConfigError(
            f"{WHERE}.SWEEPS: this model was made for {own.sweeps} sweeps, the data hold "
            f"{stored.sweeps}; expected as many, or 1 for the model"
        )
    return [*steps, {"NAME": "select_sweeps", "MAX_AGE_S": 0.0}]


def processing_of(dataset_cfg: ConfigDict, training: bool) -> Hashable:
    """Everything that decides how points are processed, in a form that can be compared.

    Two models can share their points when this is equal for their DATA_CONFIG blocks.
    """
    encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
    mode = "train" if training else "test"
    steps = required(dataset_cfg, "DATA_PROCESSOR", "DATA_CONFIG")
    cloud = CloudOptions.from_config(dataset_cfg)
    parts = (
        [list(cloud.folders), cloud.sweeps, cloud.beams],
        required(dataset_cfg, "POINT_CLOUD_RANGE", "DATA_CONFIG"),
        encoding["encoding_type"],
        encoding["used_feature_list"],
        [_point_settings(step, mode) for step in steps],
    )
    return _comparable(parts)


def _point_settings(step: ConfigDict, mode: str) -> ConfigDict:
    """The settings of a processing step for points, with the value of ``mode`` of each pair."""
    settings = {}
    for key, value in step.items():
        is_pair = isinstance(value, Mapping) and set(value) == MODES
        if key not in LABEL_KEYS:
            settings[key] = value[mode] if is_pair else value
    return settings


def _comparable(value: object) -> Hashable:
    """Nested tuples without the order of keys, in which 4 equals 4.0."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _comparable(inner)) for key, inner in value.items()))
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_comparable(inner) for inner in value)
    if isinstance(value, (int, float)):
        return round(float(value), 6)
    return value  # text, or None
