"""Frames of a split, read as the dataset reads them, without augmentation and without filters."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...datasets import DatasetTemplate, build_dataset
from ...datasets.facts import spread
from ...datasets.item import Item
from ...datasets.labelled_objects import Labelled, label_objects
from ...errors import UserError
from ...types import ConfigDict

SPLITS = {"train": "train", "val": "test"}  # our name -> the key of the yaml's pairs
KEPT_CLOUDS = 24  # clouds of a split that stay in memory, for checks of the whole scene
CELL_M = 0.5  # of the signature
CELLS = 256  # along one side of the signature, so 128 m
PAIR = frozenset({"train", "test"})


@dataclass
class Frame:
    """One frame as the dataset loads it.

    Attributes:
        split: ``train`` or ``val``.
        index: in the split.
        name: of the frame.
        points: (N, C); only the kept clouds have them, else None.
        num_points: N.
        objects: labelled boxes with the points around each; None for a frame without labels.
        digest: hash of the points, equal for equal files.
        signature: which cells of the ground plane hold points, as packed bits.
        columns: per column lowest, 1 %, median, 99 %, highest, and share of non-finite values;
            (6, C).
    """

    split: str
    index: int
    name: str
    points: np.ndarray | None
    num_points: int
    objects: Labelled | None
    digest: str
    signature: np.ndarray
    columns: np.ndarray


@dataclass
class Split:
    """The frames of a split that were looked at.

    Attributes:
        name: ``train`` or ``val``.
        dataset: the dataset without augmentation.
        frames: those that could be read.
        unreadable: name of a frame -> why it cannot be read.
        all_names: names of all frames of the split.
    """

    name: str
    dataset: DatasetTemplate
    frames: list[Frame] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    all_names: list[str] = field(default_factory=list)

    @property
    def clouds(self) -> list[Frame]:
        """The frames whose points are in memory."""
        return [frame for frame in self.frames if frame.points is not None]

    def load(self, index: int, *, whole: bool = False) -> Item | None:
        """The raw item of a frame once more; None where it cannot be read.

        Args:
            whole: with the points too that training leaves out.
        """
        try:
            return self.dataset.whole_frame(index) if whole else self.dataset.load_frame(index)
        except Exception:  # noqa: BLE001 (a dataset of the user's can raise anything)
            return None


def dataset_of_split(
    data_cfg: ConfigDict, class_names: list[str], root_dir: Path, split: str
) -> DatasetTemplate:
    """The dataset of a split without augmentation and filters, so in test mode."""
    plain = dict(copy.deepcopy(dict(data_cfg)))
    key = SPLITS[split]
    for name, value in plain.items():
        if isinstance(value, Mapping) and set(value) == PAIR:
            plain[name] = {"train": value[key], "test": value[key]}
    quiet = logging.getLogger("pcdet_distill.doctor.quiet")
    quiet.setLevel(logging.ERROR)
    return build_dataset(
        plain, class_names, root_dir=root_dir, training=False, seed=0, logger=quiet
    )


def read_split(name: str, dataset: DatasetTemplate, num_frames: int) -> Split:
    """Look at ``num_frames`` frames, evenly spread over the split."""
    split = Split(name, dataset)
    total = dataset.num_frames
    split.all_names = [dataset.frame_name(index) for index in range(total)]
    chosen = spread(total, num_frames)
    kept = {chosen[position] for position in spread(len(chosen), KEPT_CLOUDS)}
    for index in chosen:
        frame_name = split.all_names[index]
        try:
            item = dataset.load_frame(index)
            frame = make_frame(name, index, frame_name, item, keep_points=index in kept)
        except UserError as error:
            split.unreadable[frame_name] = str(error)
        except Exception as error:  # noqa: BLE001 (a dataset of the user's can raise anything)
            split.unreadable[frame_name] = f"{type(error).__name__}: {error}"
        else:
            split.frames.append(frame)
    return split


def make_frame(split: str, index: int, name: str, item: Item, *, keep_points: bool) -> Frame:
    """What is kept of a raw item."""
    points = np.asarray(item["points"])
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"points have the shape {points.shape}, expected (N, 3 or more)")
    objects = None
    if item.get("gt_boxes") is not None:
        boxes = np.asarray(item["gt_boxes"], dtype=np.float64)
        names = np.asarray(item["gt_names"], dtype=str)
        if boxes.ndim != 2 or boxes.shape[1] < 7 or len(names) != len(boxes):
            raise ValueError(
                f"gt_boxes have the shape {boxes.shape} and there are {len(names)} names, "
                "expected (M, 7 or more) and M"
            )
        objects = label_objects(points, boxes, names)
    return Frame(
        split=split,
        index=index,
        name=name,
        points=points if keep_points else None,
        num_points=len(points),
        objects=objects,
        digest=digest_of(points),
        signature=signature_of(points),
        columns=column_statistics(points),
    )


def digest_of(points: np.ndarray) -> str:
    """Hash of the places of the points."""
    places = np.ascontiguousarray(points[:, :3], dtype=np.float32)
    return hashlib.blake2b(places.tobytes(), digest_size=16).hexdigest()


def signature_of(points: np.ndarray) -> np.ndarray:
    """Which cells of the ground plane hold points: packed bits, the same for any order."""
    with np.errstate(invalid="ignore"):
        cells = np.floor(points[:, :2] / CELL_M) + CELLS // 2
        inside = ((cells >= 0) & (cells < CELLS)).all(axis=1)
    cells = cells[inside].astype(np.int64)
    occupied = np.zeros(CELLS * CELLS, dtype=bool)
    occupied[cells[:, 0] * CELLS + cells[:, 1]] = True
    return np.packbits(occupied)


def column_statistics(points: np.ndarray) -> np.ndarray:
    """(6, C): lowest, 1 %, median, 99 % and highest of each column, and its non-finite share."""
    if len(points) == 0:
        return np.zeros((6, points.shape[1]))
    statistics = np.zeros((6, points.shape[1]))
    for column in range(points.shape[1]):
        values = points[:, column].astype(np.float64)
        finite = values[np.isfinite(values)]
        statistics[5, column] = 1 - len(finite) / len(values)
        if len(finite):
            low, middle, high = np.percentile(finite, [1, 50, 99])
            statistics[:5, column] = finite.min(), low, middle, high, finite.max()
    return statistics


def frames_of(splits: Mapping[str, Split]) -> Iterator[Frame]:
    """The frames of all splits."""
    for split in splits.values():
        yield from split.frames
