"""The loader: reproducible order for any number of workers and processes, and errors that stay one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import distributed

from ..errors import DataError
from ..processes import available_cores, die_with_parent
from ..seeds import draw_seed
from .dataset import DatasetTemplate


class EpochSampler(torch.utils.data.Sampler):
    """The order of an epoch, from (seed, epoch) alone, split among processes.

    Every process gets as many indices; the first ones fill up where the division leaves a rest. Process r of W takes
    the places r, r + W, r + 2W ... of the order.

    Args:
        num_items: length of the dataset.
        shuffle: draw a new order each epoch.
    """

    def __init__(
        self, num_items: int, *, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_items, self.seed, self.shuffle = num_items, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_items // self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.num_items)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_items)
        filled = np.resize(order, len(self) * self.world_size)
        return iter(filled[self.rank :: self.world_size].tolist())


class FrameLoader(torch.utils.data.DataLoader):
    """A DataLoader whose workers' DataErrors arrive as they were raised, without the text of a traceback."""

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        return _with_plain_errors(super().__iter__())


def _with_plain_errors(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same batches; a DataError keeps its last line, which is its own sentence."""
    try:
        yield from batches
    except DataError as error:
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from None


def make_loader(
    dataset: DatasetTemplate, batch_size: int, *, workers: int, seed: int, shuffle: bool, dist: bool
) -> tuple[FrameLoader, EpochSampler]:
    """Loader and sampler of a dataset; ``batch_size`` is that of one process.

    No more workers are started than there are cores: the batches are the same, and they would only wait for each other.
    """
    spread = dist and distributed.is_available() and distributed.is_initialized()
    rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if spread else (0, 1)
    sampler = EpochSampler(
        len(dataset), seed=seed, shuffle=shuffle, rank=rank, world_size=world_size
    )
    workers = min(workers, available_cores())
    loader = FrameLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.collate_batch,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_prepare_worker,
        generator=torch.Generator().manual_seed(seed),
    )
    return loader, sampler


def draw_shared_seed(dist: bool) -> int:
    """A seed from the machine's entropy, the same in every process."""
    box = [draw_seed()]
    if dist and distributed.is_available() and distributed.is_initialized():
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def _prepare_worker(_number: int) -> None:
    """One thread a worker: several would only fight over the cores. No worker outlives a training that is killed."""
    torch.set_num_threads(1)
    die_with_parent()
