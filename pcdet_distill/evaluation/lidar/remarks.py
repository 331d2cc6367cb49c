"""Warnings beside the figures: few objects, none at all, names that are not evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...config import LidarEvalOptions, nearest
from ..few_objects import few_objects
from .frames import PairedFrames, names_left_out

if TYPE_CHECKING:
    from .result import ClassResult

SHOWN_NAMES = 5
MIN_MATCHES = 10
MANY_TURNED = 30.0  # percent


def remarks_on_class(entry: ClassResult, options: LidarEvalOptions) -> list[str]:
    """What makes the figures of one class meaningless, or easy to misread."""
    if entry.num_objects == 0:
        return [_no_objects(entry)]
    remarks = []
    if entry.num_objects < options.min_objects:
        remarks.append(few_objects(entry.name, entry.num_objects))
    if entry.num_detections == 0:
        remarks.append(f"no detection of {entry.name} in any frame, so its AP is 0")
    turned = entry.errors.turned
    if turned is not None and entry.errors.num_matches >= MIN_MATCHES and turned > MANY_TURNED:
        remarks.append(
            f"{turned:.0f} % of the matched {entry.name} point backwards; the overlap does not see "
            "it, but other uses of the heading do: look at the headings of the labels, or at the "
            "direction classifier"
        )
    return remarks


def _no_objects(entry: ClassResult) -> str:
    if entry.num_left_out:
        return (
            f"all {entry.num_left_out} objects of {entry.name} have too few points or lie out of "
            "the evaluated range, so it has no AP"
        )
    return f"no object of {entry.name} in the labels of these frames, so it has no AP"


def remarks_on_frames(frames: PairedFrames, class_names: Sequence[str]) -> list[str]:
    """What concerns all classes."""
    remarks = _remarks_on_names(frames, class_names)
    if frames.num_not_finite:
        remarks.append(
            f"{frames.num_not_finite} detections hold NaN or infinity and are left out; the model "
            "has diverged, or its input is not finite"
        )
    return remarks


def _remarks_on_names(frames: PairedFrames, class_names: Sequence[str]) -> list[str]:
    """Labels of no evaluated class, where a class has no object: perhaps it is misspelt."""
    labelled = set(frames.objects.name.tolist())
    missing = [name for name in class_names if name not in labelled]
    others = names_left_out(frames.objects, class_names)
    if not missing or not others:
        return []
    listed = ", ".join(f"{count} {name}" for name, count in others.most_common(SHOWN_NAMES))
    hint = nearest(missing[0], others)
    return [
        f"the labels hold no {' / '.join(missing)}, but {listed}, which is no evaluated class"
        f"{hint if 'did you mean' in hint else ''}"
    ]
