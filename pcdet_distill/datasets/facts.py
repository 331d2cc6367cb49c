"""What the frames of a data set hold, measured on a sample of them before a training.

The sample is spread over the split and taken in mixed order, so that a time limit ends it anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from .dataset import DatasetTemplate
from .item import Item
from .labelled_objects import LabelledObject, has_size, label_objects

INTENSITY_NAMES = ("intensity", "i", "reflectance", "reflectivity")
SIZES_S = 1.0  # of the time limit are for the sizes of all files


@dataclass(frozen=True)
class ObjectFacts:
    """A labelled object.

    Attributes:
        held: points above the ground inside its box.
        held_on_ground: the same with the box put on the ground beside it.
        gap_m: bottom of the box above the ground; NaN where too few points show the ground.
        distance_m: from the sensor.
    """

    held: int
    held_on_ground: int
    gap_m: float
    distance_m: float


@dataclass(frozen=True)
class FrameFacts:
    """A frame, with all its points, also those that training leaves out.

    Attributes:
        name: of the frame.
        num_points: of its cloud.
        num_in_range: those of them in POINT_CLOUD_RANGE.
        centre: (3,) median of the points; None of an empty cloud.
        intensity: lowest and highest; None where there is no such column, or no point.
        image_shape: (2,) height and width of the camera's image; None without a camera.
        objects: of the trained classes.
    """

    name: str
    num_points: int
    num_in_range: int
    centre: np.ndarray | None
    intensity: tuple[float, float] | None
    image_shape: np.ndarray | None
    objects: list[ObjectFacts]


@dataclass
class DataFacts:
    """The sample.

    Attributes:
        num_frames: of the split.
        frames: those of the sample that could be read.
        unreadable: name of a frame -> why it could not be read.
        other_sizes: name of a frame -> what its file holds and what its info says.
        num_sizes: files whose size was compared.
        seconds: that it took.
    """

    num_frames: int
    frames: list[FrameFacts] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    other_sizes: dict[str, str] = field(default_factory=dict)
    num_sizes: int = 0
    seconds: float = 0.0


def spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers below ``total``, evenly spread, with both ends."""
    if count >= total:
        return list(range(total))
    return sorted(set(np.linspace(0, total - 1, count).round().astype(int).tolist()))


def gather_facts(dataset: DatasetTemplate, num_frames: int, limit_s: float) -> DataFacts:
    """Look at ``num_frames`` frames, or at as many as the time allows."""
    start = time.monotonic()
    facts = DataFacts(dataset.num_frames)
    for index in _mixed(list(range(dataset.num_frames))):
        if time.monotonic() - start > min(SIZES_S, limit_s):
            break
        problem = size_problem(dataset, index)
        facts.num_sizes += problem is not None
        if problem:
            facts.other_sizes[dataset.frame_name(index)] = problem
    for index in _mixed(spread(dataset.num_frames, num_frames)):
        if time.monotonic() - start > limit_s:
            break
        name = dataset.frame_name(index)
        try:
            facts.frames.append(frame_facts(dataset, name, dataset.whole_frame(index)))
        except DataError as error:
            facts.unreadable[name] = str(error)
    facts.seconds = time.monotonic() - start
    return facts


def _mixed(indices: Sequence[int]) -> Iterator[int]:
    """The numbers in an order that is the same each time."""
    order = np.random.RandomState(0).permutation(len(indices))
    return (indices[place] for place in order)


def size_problem(dataset: DatasetTemplate, index: int) -> str | None:
    """How a point file of a frame differs from its record, empty where not; None if unknown."""
    problem = None
    for path, expected in dataset.recorded_sizes(index).items():
        try:
            found = path.stat().st_size
        except OSError:
            continue  # whoever reads it says what is wrong
        if found != expected:
            return f"{path.name} has {found} bytes and not {expected}"
        problem = ""
    return problem


def frame_facts(dataset: DatasetTemplate, name: str, item: Item) -> FrameFacts:
    """The facts of a raw item."""
    points = np.asarray(item["points"])
    low, high = np.split(np.asarray(dataset.point_cloud_range, dtype=np.float32), 2)
    in_range = ((points[:, :3] >= low) & (points[:, :3] <= high)).all(axis=1)
    shape = item.get("image_shape")
    has_camera = shape is not None and np.any(shape)
    return FrameFacts(
        name=name,
        num_points=len(points),
        num_in_range=int(in_range.sum()),
        centre=np.median(points[:, :3], axis=0) if len(points) else None,
        intensity=_intensity(points, dataset.point_feature_encoder.src_feature_list),
        image_shape=np.asarray(shape) if has_camera else None,
        objects=_objects(points, item, dataset.class_names),
    )


def _intensity(points: np.ndarray, features: Sequence[str]) -> tuple[float, float] | None:
    for name in INTENSITY_NAMES:
        if name in features and len(points):
            values = points[:, list(features).index(name)]
            return float(values.min()), float(values.max())
    return None


def _objects(points: np.ndarray, item: Item, class_names: Sequence[str]) -> list[ObjectFacts]:
    if item.get("gt_boxes") is None:
        return []
    names = np.asarray(item["gt_names"], dtype=str)
    trained = np.isin(names, list(class_names))
    boxes = np.asarray(item["gt_boxes"], dtype=np.float64)[trained]
    labelled = label_objects(points, boxes, names[trained])
    return [object_facts(one) for one in labelled.objects if has_size(one)]


def object_facts(labelled: LabelledObject) -> ObjectFacts:
    """The facts of a labelled object with the points around it."""
    box = labelled.box[:7].astype(np.float32)
    on_ground = box.copy()
    if np.isfinite(labelled.ground_z):
        on_ground[2] = labelled.ground_z + box[5] / 2
    held, held_on_ground = labelled.counts(np.stack([box, on_ground]))
    return ObjectFacts(
        held=int(held),
        held_on_ground=int(held_on_ground),
        gap_m=labelled.bottom_z - labelled.ground_z,
        distance_m=labelled.distance_m,
    )
