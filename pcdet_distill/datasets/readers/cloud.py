"""A point cloud as every reader returns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError

# Highest values of the scales on which sensors record intensities.
UNIT_SCALE = 1.0
BYTE_SCALE = 255.0
WORD_SCALE = 65535.0
FEW_OVER_ONE = 0.01  # share of values


@dataclass(frozen=True)
class PointCloud:
    """The points of one scan.

    Attributes:
        points: (N, C) float32. Rows with NaN or infinity are kept; ``without_bad`` drops them.
        features: names of the C columns: x, y, z, then ``intensity`` if there is one, then the
            other columns of the file in its order.
        note: what a user should know about the file, as sentences; empty if there is nothing.
        offset: x, y, z in metres that were subtracted; ``points + offset`` are the coordinates of
            the file. It is not zero for world coordinates, which float32 cannot hold.
    """

    points: np.ndarray
    features: tuple[str, ...]
    note: str = ""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def num_bad(self) -> int:
        """Points with NaN or infinity in any column."""
        return len(self.points) - int(self._good.sum())

    @property
    def intensity_scale(self) -> float | None:
        """1, 255 or 65535: the scale that the intensities seem to have; None without them."""
        if "intensity" not in self.features:
            return None
        values = self.points[:, self.features.index("intensity")]
        return scale_of_intensity(values)

    def without_bad(self) -> PointCloud:
        """The cloud without the points that hold NaN or infinity."""
        good = self._good
        if good.all():
            return self
        return replace(self, points=self.points[good])

    def select(self, names: Sequence[str], where: str) -> np.ndarray:
        """(N, len(names)) the columns of these names.

        Args:
            names: features of ``self.features``.
            where: begin of the message if one is missing, for example the name of the file.

        Raises:
            DataError: the cloud has no such column.
        """
        for name in names:
            if name not in self.features:
                raise DataError(
                    f"{where}: has no column '{name}'; its columns are {', '.join(self.features)}"
                )
        columns = [self.features.index(name) for name in names]
        if columns == list(range(len(self.features))):
            return self.points
        return np.ascontiguousarray(self.points[:, columns])

    @property
    def _good(self) -> np.ndarray:
        """(N,) bool: every column is finite."""
        return np.isfinite(self.points).all(axis=1)


def scale_of_intensity(values: np.ndarray) -> float:
    """1, 255 or 65535: the scale that ``values`` (N,) seem to have.

    Some values over 1 are allowed on the scale of 1, where retroreflectors exceed it. Of a cloud
    on the scale of 255 most values are over 1.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or (finite > UNIT_SCALE).mean() < FEW_OVER_ONE:
        return UNIT_SCALE
    return BYTE_SCALE if finite.max() <= BYTE_SCALE else WORD_SCALE
