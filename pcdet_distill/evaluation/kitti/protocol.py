"""The constants of the KITTI object benchmark, as OpenPCDet applies them.

Difficulties are easy, moderate and hard. ``strict`` overlaps are the official ones; ``loose`` ones
are OpenPCDet's second set, with lower BEV and 3D overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...config import nearest
from ...errors import DataError

DIFFICULTIES = ("easy", "moderate", "hard")
METRICS = ("bbox", "bev", "3d")
OVERLAP_SETS = ("strict", "loose")
MIN_HEIGHT_PX = (40, 25, 25)
MAX_OCCLUSION = (0, 1, 2)
MAX_TRUNCATION = (0.15, 0.3, 0.5)
NUM_RECALL_POINTS = 41

# A match overlaps by more than this, per class and overlap set, in the order of METRICS.
MIN_OVERLAP = {
    "Car": {"strict": (0.7, 0.7, 0.7), "loose": (0.7, 0.5, 0.5)},
    "Pedestrian": {"strict": (0.5, 0.5, 0.5), "loose": (0.5, 0.25, 0.25)},
    "Cyclist": {"strict": (0.5, 0.5, 0.5), "loose": (0.5, 0.25, 0.25)},
    "Van": {"strict": (0.7, 0.7, 0.7), "loose": (0.7, 0.5, 0.5)},
    "Person_sitting": {"strict": (0.5, 0.5, 0.5), "loose": (0.5, 0.25, 0.25)},
    "Truck": {"strict": (0.7, 0.7, 0.7), "loose": (0.5, 0.5, 0.5)},
}
# An object of the second class looks like the first: to detect it is neither right nor wrong.
NEUTRAL = {"Car": "Van", "Pedestrian": "Person_sitting"}


def check_classes(classes: Sequence[str]) -> list[str]:
    """The class names as a list, or a DataError that names one the benchmark does not have."""
    for name in classes:
        if name not in MIN_OVERLAP:
            hint = nearest(name, MIN_OVERLAP)
            known = f" (known: {', '.join(MIN_OVERLAP)})" if "known" not in hint else ""
            raise DataError(f"KITTI evaluation: unknown class '{name}'{hint}{known}")
    return list(classes)
