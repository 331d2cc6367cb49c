"""What this package uses of OpenPCDet's datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..distill.tap_source import VoxelData
from ..types import BatchDict


class OpenPCDetDataset(VoxelData, Protocol):
    """OpenPCDet's DatasetTemplate, as far as it is used here."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def collate_batch(self, batch_list: list[dict[str, Any]]) -> BatchDict:
        """Frames as one batch of numpy arrays."""


class DatasetOfTeacher:
    """A dataset with the class names of the teacher; all else is that of the student's dataset.

    Args:
        dataset: the student's.
        class_names: the teacher's.
    """

    def __init__(self, dataset: OpenPCDetDataset, class_names: Sequence[str]) -> None:
        self._dataset = dataset
        self.class_names = list(class_names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


def sample_batch(dataset: OpenPCDetDataset, most_frames: int) -> BatchDict:
    """A few frames, spread evenly over the dataset, as one batch."""
    count = min(most_frames, len(dataset))
    frames = [dataset[number * len(dataset) // count] for number in range(count)]
    return dataset.collate_batch(frames)
