"""What every source of frames gives, and the boxes of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...datasets.kitti.calibration import Calibration
from ...datasets.readers import PointCloud


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of one frame.

    Attributes:
        boxes: (M, 7) or, with velocities, (M, 9), in LiDAR coordinates.
        names: (M,) class of each.
        scores: (M,); None for labels.
    """

    boxes: np.ndarray
    names: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class LoadedFrame:
    """A frame as it was read.

    Attributes:
        cloud: its points.
        labels: its ground truth; None for a frame without labels.
        file: the point file, for a detector that reads its columns otherwise; None for points of a
            recording or of a data set.
        calib: KITTI's calibration of the frame, for results in camera coordinates; None where the
            source knows none.
    """

    cloud: PointCloud
    labels: FrameBoxes | None = None
    file: Path | None = None
    calib: Calibration | None = None


class FrameSource(Protocol):
    """Frames by number.

    Attributes:
        title: what the page is called.
        names: of all frames, in order.
    """

    title: str
    names: list[str]

    def choose(self, numbers: Sequence[int]) -> list[str]:
        """Prepare to load these frames; returns what to tell the user, a sentence each."""

    def load(self, number: int) -> LoadedFrame:
        """One frame.

        Raises:
            DataError: it cannot be read.
        """
