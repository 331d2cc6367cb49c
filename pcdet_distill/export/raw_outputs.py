"""Raw outputs of a network beside those of the checkpoint: how far they are apart.

Two numbers agree when they differ by no more than ``TOLERANCE``, or that share of the expected
number where it is greater than 1: a box at 70 m, or a logit of 20, has fewer digits behind the
point.

Two things jump, and are compared in a form that does not:

* A heading is a circle, and a direction classifier turns it by whole bins. Where two bins are equal
  to the last digit either may win. A heading may also be the angle of a cosine and a sine that are
  both almost zero. So headings are compared apart, and a share of ``MAX_TURNED`` may differ.
* The best K cells of a heatmap: of two scores that are equal to the last digit either may come
  first, or the last of them drop out. So boxes are matched by label and place, and those within the
  tolerance of the last score need no partner.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from .boxes import Arrays
from .config import HeadSpec

TOLERANCE = 1e-4
MAX_TURNED = 1e-3  # share of the boxes whose heading may be another
HEADING = 6
FULL_CIRCLE = 2 * math.pi


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a tensor is farthest from what it should be.

    Attributes:
        tensor: its name.
        error: the difference, divided by the expected number where that is greater than 1.
        place: index of the number in the tensor.
        expected, found: the two numbers.
    """

    tensor: str
    error: float
    place: tuple[int, ...]
    expected: float
    found: float

    @property
    def is_large(self) -> bool:
        """Whether it is more than rounding. Numbers that are not finite are."""
        return not self.error <= TOLERANCE

    @property
    def amount(self) -> str:
        """By how much, and where."""
        place = ", ".join(str(index) for index in self.place)
        return f"{self.error:.2g} at [{place}] ({self.found:.6g}, expected {self.expected:.6g})"


def raw_difference(
    expected: Arrays, found: Mapping[str, np.ndarray], heads: Sequence[HeadSpec]
) -> Difference:
    """The largest difference of all outputs of a frame.

    Args:
        expected: outputs of the checkpoint.
        found: of the network.
        heads: what the outputs mean.
    """
    differences = []
    for head in heads:
        if head.labels is None:
            differences += _of_boxes(head.boxes, expected[head.boxes], found[head.boxes])
            scores = tensor_difference(head.scores, expected[head.scores], found[head.scores])
            differences.append(scores)
        else:
            differences.append(_of_best_cells(expected, found, head))
    return worst(differences)


def worst(differences: Sequence[Difference]) -> Difference:
    """The one with the largest error; one that is not a number counts as larger than all."""
    return max(differences, key=lambda one: math.inf if math.isnan(one.error) else one.error)


def tensor_difference(
    name: str, expected: np.ndarray, found: np.ndarray, least: float = 1.0
) -> Difference:
    """The largest difference of one tensor; another shape is infinitely far.

    Args:
        name: of the tensor.
        expected, found: of any shape.
        least: differences are divided by the expected number, or by this where that is smaller.
    """
    if expected.shape != found.shape:
        return Difference(name, math.inf, (), math.prod(expected.shape), math.prod(found.shape))
    if expected.size == 0:
        return Difference(name, 0.0, (), 0.0, 0.0)
    expected = np.asarray(expected, dtype=np.float64)
    found = np.asarray(found, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected) / np.maximum(np.abs(expected), least)
    # Two equal numbers agree also where their difference is none, as that of infinities.
    error[(found == expected) | (np.isnan(found) & np.isnan(expected))] = 0.0
    error[np.isnan(error)] = math.inf
    index = np.unravel_index(int(error.argmax()), error.shape)
    place = tuple(int(number) for number in index)
    return Difference(name, float(error[index]), place, float(expected[index]), float(found[index]))


def _of_boxes(name: str, expected: np.ndarray, found: np.ndarray) -> list[Difference]:
    """The differences of boxes (A, 7 + C): of their headings, and of all else."""
    if expected.shape != found.shape or len(expected) == 0:
        return [tensor_difference(name, expected, found)]
    nearest = with_nearest_heading(found, expected)
    heading = np.abs(nearest[:, HEADING] - expected[:, HEADING])
    # Not "greater": what is not a number is no heading.
    turned = np.flatnonzero(~(heading <= TOLERANCE * FULL_CIRCLE))
    differences = []
    if len(turned) > math.ceil(MAX_TURNED * len(expected)):
        row = int(turned[0])
        of_row = (float(expected[row, HEADING]), float(found[row, HEADING]))
        label = f"{name}: {len(turned)} of {len(expected)} headings"
        differences.append(Difference(label, float(heading[row]), (row, HEADING), *of_row))
    nearest[:, HEADING] = expected[:, HEADING]
    differences.append(tensor_difference(name, expected, nearest))
    return differences


def with_nearest_heading(boxes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Boxes with their headings shifted by full circles to the expected ones."""
    shifted = boxes.copy()
    with np.errstate(invalid="ignore"):
        circles = np.round((expected[:, HEADING] - boxes[:, HEADING]) / FULL_CIRCLE)
    shifted[:, HEADING] += (circles * FULL_CIRCLE).astype(boxes.dtype)
    return shifted


def _of_best_cells(expected: Arrays, found: Mapping[str, np.ndarray], head: HeadSpec) -> Difference:
    """The largest difference between boxes that both sides must have."""
    assert head.labels is not None
    ranked_by = head.filter_scores or head.scores
    lowest = max(expected[ranked_by].min(initial=1.0), found[ranked_by].min(initial=1.0))
    names = [name for name in (head.boxes, head.scores, head.filter_scores) if name is not None]
    differences = []
    for own, other in ((expected, found), (found, expected)):
        sure = np.flatnonzero(own[ranked_by] > lowest + TOLERANCE)
        partner = _nearest_boxes(own, other, sure, head)
        if (partner < 0).any():
            row = int(sure[partner < 0][0])
            label = float(own[head.labels][row])
            return Difference(f"{head.labels}: boxes of a class", math.inf, (row,), label, 0.0)
        for name in names:
            mine, theirs = own[name][sure], other[name][partner]
            if name == head.boxes:
                differences += _of_boxes(name, mine, theirs)
            else:
                differences.append(tensor_difference(name, mine, theirs))
    return worst(differences)


def _nearest_boxes(
    own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], rows: np.ndarray, head: HeadSpec
) -> np.ndarray:
    """For each of ``rows`` the row of the other side with the same label and the nearest box.

    -1 where the other side has no box of that label.
    """
    assert head.labels is not None
    offset = own[head.boxes][rows][:, None, :3] - other[head.boxes][None, :, :3]
    distance = np.square(offset.astype(np.float64)).sum(axis=-1)
    # Cells of different classes may propose the same box; the score tells them apart.
    of_score = own[head.scores][rows][:, None] - other[head.scores][None]
    distance = distance + np.abs(of_score)
    same_label = own[head.labels][rows][:, None] == other[head.labels][None]
    distance = np.where(same_label, distance, np.inf)
    if distance.size == 0:
        return np.full(len(rows), -1)
    nearest = distance.argmin(axis=1)
    is_found = np.isfinite(distance[np.arange(len(rows)), nearest])
    return np.where(is_found, nearest, -1)
