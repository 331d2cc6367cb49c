"""The loader: an order that does not depend on workers or processes, and errors of one sentence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed

from ..errors import UserError
from ..processes import available_cores, die_with_parent
from ..seeds import draw_seed
from ..types import BatchDict
from .dataset import DatasetTemplate


class EpochSampler(torch.utils.data.Sampler):
    """The order of an epoch, from (seed, epoch) alone, split among processes.

    Every process gets the same number of indices; where the division leaves a rest, the first ones
    come again. Process r of W takes the places r, r + W, r + 2W ... of the order.

    Args:
        num_items: length of the dataset.
        seed: seed of the order.
        shuffle: draw a new order each epoch.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self, num_items: int, *, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_items = num_items
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_items // self.world_size)  # rounded up

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.num_items)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_items)
        filled = np.resize(order, len(self) * self.world_size)
        return iter(filled[self.rank :: self.world_size].tolist())


class FrameLoader(torch.utils.data.DataLoader):
    """A DataLoader whose workers' errors arrive as they were raised, without their traceback."""

    def __iter__(self) -> Iterator[BatchDict]:  # type: ignore[override]
        # The workers start here and not at the first batch: starting them draws random numbers.
        return _with_plain_errors(super().__iter__())


def _with_plain_errors(batches: Iterator[BatchDict]) -> Iterator[BatchDict]:
    try:
        yield from batches
    except UserError as error:
        raise without_worker_traceback(error) from None


def without_worker_traceback(error: UserError) -> UserError:
    """``error`` without the traceback that a DataLoader worker puts before its sentence."""
    marker = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, sentence = str(error).rpartition("\n" + marker)
    return type(error)(sentence.strip()) if found else error


def make_loader(
    dataset: DatasetTemplate, batch_size: int, *, workers: int, seed: int, shuffle: bool, dist: bool
) -> tuple[FrameLoader, EpochSampler]:
    """Loader and sampler of a dataset.

    No more workers are started than there are cores. The batches are the same, and more workers
    would only wait for each other.

    Args:
        batch_size: frames of a batch of one process.
        workers: processes that load frames; 0 loads them in this process.
        seed: seed of the order.
        shuffle: draw a new order each epoch.
        dist: split the frames among the processes of torch.distributed.
    """
    rank, world_size = _place_among_processes(dist)
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
    if _is_distributed(dist):
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def _is_distributed(dist: bool) -> bool:
    return dist and distributed.is_available() and distributed.is_initialized()


def _place_among_processes(dist: bool) -> tuple[int, int]:
    """Number of this process, and number of processes."""
    if not _is_distributed(dist):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _prepare_worker(_number: int) -> None:
    """Give a worker one thread, and let it end with the training that started it.

    Several threads in each of several workers would compete for the same cores.
    """
    torch.set_num_threads(1)
    die_with_parent()
