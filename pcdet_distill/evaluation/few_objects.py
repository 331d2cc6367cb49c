"""What few objects do to average precision: how high KITTI's can get, and how far one moves it."""

from __future__ import annotations

NUM_RECALL_POINTS = 41  # 0, 1/40, ... 1


def highest_possible(num_objects: int) -> dict[str, float]:
    """AP in percent of perfect detections, by ``area``, ``R40`` and ``R11``.

    KITTI reads the precision at most once for each right detection. So few objects leave some of
    its recall points at 0, whatever the detections are.
    """
    if num_objects == 0:
        return {"area": 0.0, "R40": 0.0, "R11": 0.0}
    num_read = min(num_objects, NUM_RECALL_POINTS)
    # R40 leaves out the first point; R11 takes every fourth, the first one included.
    return {
        "area": 100.0,
        "R40": 100 * (num_read - 1) / (NUM_RECALL_POINTS - 1),
        "R11": 100 * ((num_read - 1) // 4 + 1) / 11,
    }


def few_objects(what: str, num_objects: int) -> str:
    """A sentence for people: how far a single object moves the figures, what KITTI's AP can reach.

    Args:
        what: the objects, such as ``Car``.
        num_objects: how many there are, at least one.
    """
    noun = "object" if num_objects == 1 else "objects"
    sentence = (
        f"{what} has {num_objects} {noun}, so one found or missed changes recall by "
        f"{100 / num_objects:.1f} points"
    )
    if num_objects >= NUM_RECALL_POINTS:
        return sentence
    highest = highest_possible(num_objects)
    return (
        f"{sentence}; perfect detections reach AP R40 {highest['R40']:.2f} and R11 "
        f"{highest['R11']:.2f}, as KITTI's rule needs {NUM_RECALL_POINTS} objects to reach 100"
    )
