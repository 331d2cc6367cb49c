"""Doubts about a data set: what no reader refuses, and no model can learn from.

Each is counted on the sample of ``facts``, and comes with its remedy. A training reports them once
before it starts. ``pcdet-distill doctor`` looks closer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .dataset import DatasetTemplate
from .facts import DataFacts, FrameFacts, ObjectFacts
from .labelled_objects import is_clearly_more

UNIT_INTENSITY = 1.5  # a higher one is not on a scale of 0 to 1
BYTE_INTENSITY = 255.5
NEGATIVE_INTENSITY = -1e-3
MIXED_SCALES = 20.0  # factor between the intensities of frames of different scales
# Data sets whose files, and the published weights of which, have intensities from 0 to 1.
UNIT_DATASETS = ("KittiDataset",)
SMALL_CLOUD = 0.1  # of the usual number of points
LEAST_FRAMES = 5
IN_RANGE = 0.01  # of the points of a frame
LEAST_IMAGE = 16  # pixels
LEAST_OBJECTS = 8
NEAR_M = 40.0  # farther objects may show no point
EMPTY_BOXES = 0.5
OFF_GROUND_M = 0.4
MORE_ON_GROUND = 0.7  # of the objects whose number of points changes
SHOWN_FRAMES = 3


@dataclass(frozen=True)
class Doubt:
    """One kind of fault.

    Attributes:
        name: one or two words.
        what: how often it was found, where, and the numbers.
        remedy: what to do.
    """

    name: str
    what: str
    remedy: str


Check = Callable[[DataFacts, DatasetTemplate], Iterator[Doubt]]


def find_doubts(facts: DataFacts, dataset: DatasetTemplate) -> list[Doubt]:
    """All doubts that the sample gives reason for."""
    doubts: list[Doubt] = []
    for check in CHECKS:
        doubts += check(facts, dataset)
    return doubts


def _unreadable(facts: DataFacts, _dataset: DatasetTemplate) -> Iterator[Doubt]:
    if facts.unreadable:
        tried = len(facts.frames) + len(facts.unreadable)
        name, reason = next(iter(facts.unreadable.items()))
        yield Doubt(
            "unreadable",
            f"{_count(facts.unreadable, tried)}; {name}: {reason}",
            "mend these frames or take them from the split; --skip_bad_frames trains without them",
        )


def _cut_off(facts: DataFacts, _dataset: DatasetTemplate) -> Iterator[Doubt]:
    if facts.other_sizes:
        first = next(iter(facts.other_sizes.values()))
        yield Doubt(
            "file size",
            f"{_count(facts.other_sizes, facts.num_sizes)} have point files of another size than "
            f"when their infos were made; {first}",
            "copy these files again, or make the info files again if the new files are right",
        )


def _empty_clouds(facts: DataFacts, _dataset: DatasetTemplate) -> Iterator[Doubt]:
    empty = [frame.name for frame in facts.frames if frame.num_points == 0]
    if empty:
        yield Doubt(
            "empty clouds",
            f"{_count(empty, len(facts.frames))} have no points",
            "copy their point files again, or take them from the split",
        )
    small, usual = small_clouds([(frame.name, frame.num_points) for frame in facts.frames])
    if small:
        yield Doubt(
            "small clouds",
            f"{_count(small, len(facts.frames))} have less than a tenth of the usual {usual:.0f} "
            "points",
            "compare the sizes of their point files with the others: they may be cut off",
        )


def small_clouds(clouds: Sequence[tuple[str, int]]) -> tuple[list[str], float]:
    """Frames with far fewer points than usual, none in a small sample; the usual number of points.

    Args:
        clouds: name and number of points of each frame.
    """
    if len(clouds) < LEAST_FRAMES:
        return [], 0.0
    usual = float(np.median([number for _, number in clouds]))
    fewest = max(SMALL_CLOUD * usual, 10)
    return [name for name, number in clouds if 0 < number < fewest], usual


def _intensities(facts: DataFacts, dataset: DatasetTemplate) -> Iterator[Doubt]:
    known = [frame for frame in facts.frames if frame.intensity is not None]
    ranges = np.array([frame.intensity for frame in known]).reshape(-1, 2)
    lowest, highest = ranges.T
    outside = (lowest < NEGATIVE_INTENSITY) | (highest > BYTE_INTENSITY)
    if outside.any():
        yield Doubt(
            "intensity",
            f"{_count(_names(known, outside), len(known))} have intensities from "
            f"{lowest[outside].min():.4g} to {highest[outside].max():.4g}, outside 0 to 255",
            "check the order of the columns; scale intensities to 0 to 1 in the files",
        )
        return
    is_byte = highest > UNIT_INTENSITY
    if not is_byte.any():
        return
    if dataset.dataset_cfg.get("DATASET") in UNIT_DATASETS:
        yield Doubt(
            "intensity",
            f"{_count(_names(known, is_byte), len(known))} have intensities up to "
            f"{highest.max():.4g}, outside 0 to 1, which this data set and its published weights "
            "have",
            "divide the intensities by 255 in the files, and make the info files again",
        )
    elif not is_byte.all() and _differ(highest[is_byte], highest[~is_byte]):
        rarer = is_byte if is_byte.sum() <= len(known) / 2 else ~is_byte
        yield Doubt(
            "intensity",
            f"{_count(_names(known, rarer), len(known))} have intensities on another scale than "
            "the rest: 0 to 1 in some and 0 to 255 in others",
            "divide the intensities of 0 to 255 by 255 in the files",
        )


def _differ(large: np.ndarray, small: np.ndarray) -> bool:
    return bool(np.median(large) > MIXED_SCALES * max(np.median(small), 1e-6))


def _out_of_range(facts: DataFacts, dataset: DatasetTemplate) -> Iterator[Doubt]:
    outside = [
        frame
        for frame in facts.frames
        if frame.num_points and frame.num_in_range < IN_RANGE * frame.num_points
    ]
    if not outside:
        return
    x, y, z = np.median([frame.centre for frame in outside], axis=0)
    limits = [round(float(value), 2) for value in dataset.point_cloud_range]
    behind = "; they lie behind the sensor" if x < min(limits[0], limits[3]) else ""
    yield Doubt(
        "points",
        f"{_count([frame.name for frame in outside], len(facts.frames))} have no points in "
        f"POINT_CLOUD_RANGE {limits}: the middle of their points is ({x:.1f}, {y:.1f}, {z:.1f})"
        f"{behind}",
        "write x forward, y left, z up in metres from the sensor, or mend POINT_CLOUD_RANGE",
    )


def _boxes(facts: DataFacts, _dataset: DatasetTemplate) -> Iterator[Doubt]:
    pairs = [(frame, one) for frame in facts.frames for one in frame.objects]
    near = [(frame, one) for frame, one in pairs if one.distance_m < NEAR_M and frame.num_points]
    empty = [frame.name for frame, one in near if max(one.held, one.held_on_ground) == 0]
    if len(near) >= LEAST_OBJECTS and len(empty) > EMPTY_BOXES * len(near):
        yield Doubt(
            "boxes",
            f"{len(empty)} of {len(near)} boxes within {NEAR_M:.0f} m hold no point above the "
            f"ground ({_listed(list(dict.fromkeys(empty)))})",
            "check that labels and clouds have the same frame, axes and units",
        )
        return
    yield from _heights([one for _, one in pairs])


def _heights(objects: Sequence[ObjectFacts]) -> Iterator[Doubt]:
    shown = [one for one in objects if np.isfinite(one.gap_m)]
    if len(shown) < LEAST_OBJECTS:
        return
    gap_m = float(np.median([one.gap_m for one in shown]))
    # On a slope a box may be off the ground and right. It then holds no more points on the ground.
    held = np.array([one.held for one in shown])
    on_ground = np.array([one.held_on_ground for one in shown])
    gains = int(is_clearly_more(on_ground, held).sum())
    losses = int(is_clearly_more(held, on_ground).sum())
    if abs(gap_m) < OFF_GROUND_M or gains <= MORE_ON_GROUND * (gains + losses):
        return
    where = "above" if gap_m > 0 else "below"
    yield Doubt(
        "heights",
        f"the bottoms of {len(shown)} boxes are {abs(gap_m):.2f} m {where} the ground beside them "
        f"in the median, and {gains} of them hold more points on it",
        f"write z as the middle of a box, in the frame of the points (add {-gap_m:.2f} m?)",
    )


def _images(facts: DataFacts, _dataset: DatasetTemplate) -> Iterator[Doubt]:
    tiny = [
        frame
        for frame in facts.frames
        if frame.image_shape is not None and frame.image_shape.min() < LEAST_IMAGE
    ]
    if tiny:
        height, width = tiny[0].image_shape  # type: ignore[misc]
        yield Doubt(
            "images",
            f"{_count([frame.name for frame in tiny], len(facts.frames))} have an image of "
            f"{width} x {height} pixels, so the camera would see no points",
            "copy the images again and make the info files again, or set FOV_POINTS_ONLY to False",
        )


CHECKS: tuple[Check, ...] = (
    _unreadable,
    _cut_off,
    _empty_clouds,
    _intensities,
    _out_of_range,
    _boxes,
    _images,
)


def _names(frames: Sequence[FrameFacts], chosen: np.ndarray) -> list[str]:
    return [frame.name for frame, is_chosen in zip(frames, chosen) if is_chosen]


def _count(names: object, total: int) -> str:
    """``3 of 200 frames (000001, 000004, 000007)``"""
    listed = list(names)  # type: ignore[call-overload]
    return f"{len(listed)} of {total} frames ({_listed(listed)})"


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN_FRAMES else ""
    return ", ".join(names[:SHOWN_FRAMES]) + more
