"""Which detection found which object: the best score chooses first.

A detection takes the free object that it fits best, if it fits well enough. So the matches of the
detections above a score do not depend on those below it, and one pass gives the whole curve of
precision and recall. KITTI lets the objects choose, once for each score; the counts are the same
where no detection fits two objects, as with IoU thresholds of 0.5 and objects apart.

An object that does not count, such as one outside the range, may be taken as well, but only by a
detection that fits no free object that counts. That detection is then neither right nor wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .frames import Detections, Objects
from .overlaps import Pairs

NO_MATCH = -1
KINDS = ("3d", "bev", "center")


class Criterion(NamedTuple):
    """What a match is: an IoU above ``threshold``, or centres nearer than ``threshold`` metres."""

    kind: str
    threshold: float

    @property
    def label(self) -> str:
        """``IoU 0.70`` or ``2 m``."""
        return f"{self.threshold:g} m" if self.kind == "center" else f"IoU {self.threshold:.2f}"

    @property
    def key(self) -> str:
        """``iou0.7`` or ``2m``, for the names of numbers."""
        return f"{self.threshold:g}m" if self.kind == "center" else f"iou{self.threshold:g}"


def match(
    criterion: Criterion,
    pairs: Pairs,
    detections: Detections,
    objects: Objects,
    counts: np.ndarray,
) -> np.ndarray:
    """The row (D,) int64 of the object that each detection found, or NO_MATCH.

    Args:
        pairs: of these detections with these objects.
        counts: mask (G,) of the objects that count.
    """
    closeness, least = _closeness(criterion, pairs)
    return _match(detections.start, objects.start, pairs.start, closeness, least, counts)


def _closeness(criterion: Criterion, pairs: Pairs) -> tuple[np.ndarray, float]:
    """A measure (P,) that is larger for a better fit, and what a match must exceed."""
    if criterion.kind == "center":
        return -pairs.distance_m, -criterion.threshold
    return pairs.volume if criterion.kind == "3d" else pairs.bev, criterion.threshold


@numba.njit(cache=True)
def _match(dt_start, gt_start, pair_start, closeness, least, counts):
    found = np.full(dt_start[-1], NO_MATCH)
    taken = np.zeros(gt_start[-1], np.bool_)
    for frame in range(len(gt_start) - 1):
        first = gt_start[frame]
        width = gt_start[frame + 1] - first
        for d in range(dt_start[frame], dt_start[frame + 1]):
            row = pair_start[frame] + (d - dt_start[frame]) * width
            best = NO_MATCH
            best_closeness = least
            for wants_counted in (True, False):
                if best != NO_MATCH:
                    break
                for g in range(first, first + width):
                    if taken[g] or counts[g] != wants_counted:
                        continue
                    if closeness[row + g - first] > best_closeness:
                        best = g
                        best_closeness = closeness[row + g - first]
            if best != NO_MATCH:
                taken[best] = True
                found[d] = best
    return found
