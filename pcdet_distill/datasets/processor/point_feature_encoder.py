"""Which columns of a stored point the model sees: the POINT_FEATURE_ENCODING block."""

from __future__ import annotations

import numpy as np

from ...config import lookup, nearest, required
from ...errors import ConfigError
from ...types import ConfigDict
from ..item import Item

WHERE = "DATA_CONFIG.POINT_FEATURE_ENCODING"
PLACE = ["x", "y", "z"]


def _absolute_coordinates(points: np.ndarray, columns: list[int]) -> np.ndarray:
    """The chosen columns as they are stored."""
    if columns == list(range(points.shape[1])):
        return points
    return points[:, columns]


ENCODINGS = {"absolute_coordinates_encoding": _absolute_coordinates}


class PointFeatureEncoder:
    """Chooses the ``used_feature_list`` columns out of the ``src_feature_list`` columns."""

    def __init__(self, config: ConfigDict) -> None:
        self.used_feature_list = list(required(config, "used_feature_list", WHERE))
        self.src_feature_list = list(required(config, "src_feature_list", WHERE))
        encoding = required(config, "encoding_type", WHERE)
        self._encode = lookup(ENCODINGS, encoding, f"{WHERE}.encoding_type")
        for name in self.used_feature_list:
            if name not in self.src_feature_list:
                hint = nearest(name, self.src_feature_list)
                raise ConfigError(
                    f"{WHERE}.used_feature_list: '{name}' is not in src_feature_list{hint}"
                )
        if self.used_feature_list[:3] != PLACE or self.src_feature_list[:3] != PLACE:
            raise ConfigError(f"{WHERE}: both feature lists must begin with x, y, z")
        self._columns = [self.src_feature_list.index(name) for name in self.used_feature_list]

    @property
    def num_point_features(self) -> int:
        """Columns of a point in the model."""
        return len(self.used_feature_list)

    def forward(self, data_dict: Item) -> Item:
        """Replace ``points`` (N, src) by (N, used), which begin with x, y, z."""
        data_dict["points"] = self._encode(data_dict["points"], self._columns)
        data_dict["use_lead_xyz"] = True
        return data_dict
