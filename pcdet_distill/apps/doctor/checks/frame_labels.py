"""Labels that fit the points of another frame, and frames with axes of their own.

``scene_frame`` looks at all frames together. Here the frames are compared with each other. Boxes of
another frame often hold a few points, of the ground or of a wall. So it counts, as there, the boxes
that lie where the points show an object that stands free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent
from .scene_frame import (
    BETTER,
    FITS_WELL,
    LEAST_FITTING,
    OWN_AXES,
    Scene,
    best_axes,
    fitting,
    raised_points,
    scenes_of,
)

CHECK = "frame_labels"
NEIGHBOURS = (-1, 1)
LEAST_SHARE = 0.3  # of the boxes that fit the neighbour: splits tear some neighbours apart
SOME_FIT = 0.25  # of the boxes of a frame: with fewer its labels are doubted


def check_frame_labels(case: Case) -> Iterator[Finding]:
    """Whether the labels are those of their own frame."""
    scenes = scenes_of(case)
    own, number = fitting(scenes)
    if number < LEAST_FITTING:
        return
    if own < FITS_WELL * number:
        yield from _of_neighbours(scenes, own, number)
    doubted = [scene for scene in scenes if _share_that_fits(scene) < SOME_FIT]
    if 0 < len(doubted) < len(scenes):
        yield from _other_axes_of(doubted, len(scenes))


def _share_that_fits(scene: Scene) -> float:
    fit, number = fitting([scene])
    return fit / number


def _of_neighbours(scenes: Sequence[Scene], own: int, number: int) -> Iterator[Finding]:
    """Labels that fit the cloud before or after theirs."""
    for shift in NEIGHBOURS:
        fit, tried = fitting(_with_other_points(scenes, shift))
        if fit < max(BETTER * own, LEAST_FITTING) or fit < LEAST_SHARE * tried:
            continue
        names = tuple(scene.frame.name for scene in scenes)
        side = "later" if shift > 0 else "earlier"
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"labels, frame {listed(names)}",
            f"only {percent(own / number)} of {number} boxes lie where the points show an object, "
            f"but {percent(fit / tried)} do in the cloud of the frame 1 {side} in the list: the "
            "pairing of labels and clouds is shifted",
            fix="pair each label file with the cloud of the same moment",
            frames=names[:4],
        )
        return


def _with_other_points(scenes: Sequence[Scene], shift: int) -> list[Scene]:
    """The boxes of each scene in the cloud of the frame ``shift`` further in its split."""
    shifted = []
    for scene in scenes:
        index = scene.frame.index + shift
        if not 0 <= index < len(scene.split.all_names):
            continue
        item = scene.split.load(index)
        if item is not None:
            points = np.asarray(item["points"])
            shifted.append(scene._replace(raised=raised_points(points)))
    return shifted


def _other_axes_of(doubted: Sequence[Scene], num_scenes: int) -> Iterator[Finding]:
    """Some frames whose boxes fit in other axes than those of the other frames."""
    axes, _ = best_axes(doubted)
    # A frame can be doubted for another reason, such as few objects that stand free.
    doubted = [scene for scene in doubted if fitting([scene], axes.move) > fitting([scene])]
    own, number = fitting(doubted)
    fit, _ = fitting(doubted, axes.move)
    if fit < max(BETTER * own, LEAST_FITTING) or fit < FITS_WELL * number:
        return
    names = tuple(scene.frame.name for scene in doubted)
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"labels, frame {listed(names)}",
        f"in {len(doubted)} of {num_scenes} frames only {percent(own / number)} of {number} boxes "
        f"lie where the points show an object, but {percent(fit / number)} do if {axes.name}: "
        "points and labels of these frames have different axes, those of the others have not",
        fix=OWN_AXES,
        frames=names[:4],
    )
