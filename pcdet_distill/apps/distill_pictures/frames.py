"""Which frames are shown, and the frames from which statistics are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from easydict import EasyDict

from ...config import nearest
from ...datasets import DatasetTemplate, build_dataset
from ...errors import DataError
from ...models import load_data_to_device
from ...types import BatchDict
from ..doctor.frames import dataset_of_split, spread

SHOWN = 2  # frames, if none are named
CANDIDATES = 16  # evenly spread frames, of which those with the most objects are shown
FITTED = 8  # further frames, from which means, components and linear maps are taken


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of a split."""

    name: str
    index: int
    dataset: DatasetTemplate

    def batch(self, device: torch.device) -> BatchDict:
        """The frame alone as a batch, without augmentation."""
        batch = self.dataset.collate_batch([self.dataset[self.index]])
        load_data_to_device(batch, device)
        # Terms on objects find none in a frame without labels: a row of zeros is padding.
        width = len(self.dataset.box_fields) + 1
        batch.setdefault("gt_boxes", torch.zeros(1, 1, width, device=device))
        # Terms for unlabelled frames ask which frames are labelled; the shown ones count as such.
        batch.setdefault("is_labelled", torch.ones(1, device=device))
        return batch


def test_frames(cfg: EasyDict) -> DatasetTemplate:
    """The frames of DATA_SPLIT.test."""
    return build_dataset(
        cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.get("ROOT_DIR"), training=False, seed=0
    )


def named_frames(cfg: EasyDict, dataset: DatasetTemplate, names: Sequence[str]) -> list[Frame]:
    """The frames called ``names``, of the test split or else of the training split."""
    known = names_of(dataset)
    found = []
    training: DatasetTemplate | None = None
    for name in names:
        if name in known:
            found.append(Frame(name, known[name], dataset))
            continue
        if training is None:
            training = dataset_of_split(
                cfg.DATA_CONFIG, cfg.CLASS_NAMES, cfg.get("ROOT_DIR"), "train"
            )
            # The teacher may process the points differently.
            training.views.update(dataset.views)
        known_training = names_of(training)
        if name not in known_training:
            hint = nearest(name, [*known, *known_training])
            raise DataError(
                f"--frames {name}: no such frame in the test split ({len(known)} frames) or in the "
                f"training split ({len(known_training)}){hint}"
            )
        found.append(Frame(name, known_training[name], training))
    return found


def names_of(dataset: DatasetTemplate) -> dict[str, int]:
    """Name -> number of every frame."""
    return {dataset.frame_name(index): index for index in range(dataset.num_frames)}


def busiest_frames(dataset: DatasetTemplate) -> list[Frame]:
    """Of evenly spread frames the SHOWN ones with the most labelled objects."""
    indices = spread(dataset.num_frames, CANDIDATES)
    if not indices:
        raise DataError("--distill: the test split has no frames to show")
    by_objects = sorted(indices, key=lambda index: -number_of_objects(dataset, index))
    return [Frame(dataset.frame_name(i), i, dataset) for i in sorted(by_objects[:SHOWN])]


def number_of_objects(dataset: DatasetTemplate, index: int) -> int:
    """Labelled boxes of the trained classes in the range."""
    return len(dataset[index].get("gt_boxes", ()))


def other_frames(dataset: DatasetTemplate, shown: Sequence[Frame]) -> list[Frame]:
    """Evenly spread frames that are not shown; the shown ones if there are no others."""
    taken = {frame.index for frame in shown if frame.dataset is dataset}
    free = [index for index in range(dataset.num_frames) if index not in taken]
    if not free:
        return list(shown)
    chosen = [free[position] for position in spread(len(free), FITTED)]
    return [Frame(dataset.frame_name(index), index, dataset) for index in chosen]
