"""Heights of the boxes: bottoms on the ground, z of the bottom in place of the centre, frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....datasets.labelled_objects import Votes, counts_of_changes, vote
from ....texts import listed
from ..case import Case, frame_names, of_class
from ..changes import LEAST_GAINS, Objects, sampled, unchanged
from ..finding import Finding, Severity
from ..geometry import diagnose

CHECK = "heights"
LEAST_OBJECTS = 4
OFF_M = 0.3
CLOSE_M = 0.15
LEAST_SHARE = 0.7  # of the objects whose points change gain


def check_heights(case: Case) -> Iterator[Finding]:
    """Whether boxes stand on the ground beside them."""
    diagnosis = diagnose(case)
    wrong_size = {*diagnosis.too_large, *diagnosis.too_small}
    names = dict.fromkeys(labelled.name for _, labelled in case.objects())
    judged = [name for name in names if name not in wrong_size]
    off = [name for name in judged if _is_off(case, [name])]
    if not off and _is_off(case, judged):
        off = judged  # few objects of each class
    votes = [_votes_on_ground(of_class(case.objects(), name)) for name in off]
    gains = sum(vote.gains for vote in votes)
    losses = sum(vote.losses for vote in votes)
    # Objects that fly or hang hold fewer points when they are put on the ground.
    if gains < LEAST_GAINS or gains < LEAST_SHARE * (gains + losses):
        return
    what, fix = explain(gaps_of(case, off))
    frames = frame_names([pair for pair in case.objects() if pair[1].name in off])
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"class {listed(off)}, frame {listed(frames)}",
        what,
        fix=fix,
        frames=frames,
    )


def _is_off(case: Case, names: list[str]) -> bool:
    """Whether boxes of these classes do not begin at the ground."""
    gap = gaps_of(case, names)[:, 0]
    return len(gap) >= LEAST_OBJECTS and abs(float(np.median(gap))) > OFF_M


def _votes_on_ground(objects: Objects) -> Votes:
    """Whether boxes hold more points when they are put on the ground."""
    boxes = [labelled for _, labelled in sampled(objects)]
    before = counts_of_changes(boxes, [unchanged], grounded=False)[:, 0]
    after = counts_of_changes(boxes, [unchanged], grounded=True)[:, 0]
    return vote(before, after)


def gaps_of(case: Case, names: list[str]) -> np.ndarray:
    """(K, 2): bottom of a box above the ground beside it, and height of the box."""
    rows = []
    for _, labelled in case.objects():
        if labelled.name in names and np.isfinite(labelled.ground_z):
            rows.append([labelled.bottom_z - labelled.ground_z, labelled.box[5]])
    return np.array(rows).reshape(-1, 2)


def explain(heights: np.ndarray) -> tuple[str, str]:
    """What is wrong with the z of boxes, and how it is mended.

    Args:
        heights: (K, 2) gap between ground and bottom, and height of the box.
    """
    gap, dz = heights.T
    middle = float(np.median(gap))
    count = f"the bottoms of {len(gap)} boxes are {abs(middle):.2f} m "
    count += "above the ground" if middle > 0 else "below the ground"
    # z of the bottom, read as the centre, sinks a box by half its height; z of the top lifts it.
    half = -0.5 if middle < 0 else 0.5
    rest = gap - half * dz
    spread = _spread(rest)
    limit = CLOSE_M
    if spread < _spread(gap) - 0.02:
        limit = 2 * CLOSE_M  # gaps follow the heights of the boxes
    if abs(float(np.median(rest))) < limit and spread <= _spread(gap) + 0.05:
        place = "bottom" if middle < 0 else "top"
        sign = "+" if middle < 0 else "-"
        return (
            f"{count}, half their height: z seems to be that of the {place} of a box",
            f"write z {sign} dz / 2: z is the middle of the box",
        )
    return (
        f"{count}, whatever their height: their z seems to belong to another coordinate frame than "
        "the points, for example one whose origin lies on the ground and not in the sensor",
        f"add {-middle:.2f} m to the z of the boxes, or transform them into the sensor's frame",
    )


def _spread(values: np.ndarray) -> float:
    """Median distance from the median."""
    return float(np.median(np.abs(values - np.median(values))))
