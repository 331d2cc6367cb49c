"""The batches of one process: of a training epoch from any place in it, and its part of a test set.

Order and augmentation depend on (seed, epoch, index) alone (see datasets). So leaving batches out
changes no other batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar, cast

from torch.utils.data import DataLoader

from ..datasets import DatasetTemplate
from ..datasets.loader import without_worker_traceback
from ..errors import DataError, UserError
from ..moved import forward_names
from ..types import BatchDict
from .checkpoints import preserve_randomness

T = TypeVar("T")


class EpochSetter(Protocol):
    """A sampler whose order changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``."""


class TrainingBatches:
    """The batches of each epoch, from any place in it.

    Args:
        loader: of a dataset that gives the same batches for the same epoch.
        sampler: the sampler of ``loader``.
        epochs_merged: above 1 the loader holds that many epochs in a row
            (--merge_all_iters_to_one_epoch). One pass then serves them all, and workers start once.
        accumulate: batches of one iteration, whose gradients are added up (--accumulate).
    """

    def __init__(
        self,
        loader: DataLoader,
        sampler: EpochSetter,
        epochs_merged: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.loader = loader
        self.dataset = cast(DatasetTemplate, loader.dataset)
        self.sampler = sampler
        self.merged = epochs_merged > 1
        self.accumulate = accumulate
        self._batches_per_epoch = len(loader) // max(epochs_merged, 1)
        if self._batches_per_epoch == 0:
            raise DataError(
                f"the training split gives {len(loader)} batches; "
                "expected one or more for each epoch"
            )
        self._merged_pass: Iterator[BatchDict] | None = None

    @property
    def per_epoch(self) -> int:
        """Iterations of an epoch; the last one may have fewer batches than the others."""
        return -(-self._batches_per_epoch // self.accumulate)

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the dataset's classes."""
        return self.dataset.class_names

    def iterations(self, epoch: int, first: int = 0) -> Iterator[list[BatchDict]]:
        """The batches of each iteration of ``epoch``, from iteration ``first`` on."""
        batches = self.epoch(epoch, first * self.accumulate)
        while iteration := list(islice(batches, self.accumulate)):
            yield iteration

    def epoch(self, epoch: int, first: int = 0) -> Iterator[BatchDict]:
        """The batches of ``epoch`` from number ``first`` on."""
        if not self.merged:
            yield from self._pass(epoch, first)
            return
        if self._merged_pass is None:
            self._merged_pass = self._pass(0, epoch * self._batches_per_epoch + first)
        yield from islice(self._merged_pass, self._batches_per_epoch - first)

    def _pass(self, epoch: int, first: int) -> Iterator[BatchDict]:
        """The batches of the loader in ``epoch`` from number ``first`` on."""
        self._set_epoch(epoch)
        loader = self.loader
        if first:
            loader = with_batches(loader, sample_numbers(loader)[first:])
        return batches_of(loader)

    def _set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of ``epoch``.

        Merged epochs share one order, because the sampler sees a single long epoch.
        """
        self.sampler.set_epoch(epoch // self.dataset.epochs_per_draw)
        self.dataset.set_epoch(epoch)

    def sample(self) -> BatchDict:
        """The first batch of the first epoch."""
        self._set_epoch(0)
        return first_batch(self.loader)

    def first_frames(self, count: int) -> list[BatchDict]:
        """The first ``count`` frames of the first epoch (or all, if there are fewer) in batches.

        This process loads them, not the workers.
        """
        self._set_epoch(0)
        batches = []
        missing = count
        with preserve_randomness():
            for numbers in sample_numbers(self.loader):
                if missing <= 0:
                    break
                batches.append(_load(self.loader, numbers[:missing]))
                missing -= len(numbers)
        return batches


def first_batch(loader: DataLoader) -> BatchDict:
    """The first batch of ``loader``, loaded by this process and not by the workers."""
    with preserve_randomness():
        return _load(loader, sample_numbers(loader)[0])


def _load(loader: DataLoader, numbers: list[int]) -> BatchDict:
    """A batch of the samples ``numbers``."""
    samples = [loader.dataset[number] for number in numbers]
    return loader.collate_fn(samples)


def sample_numbers(loader: DataLoader) -> list[list[int]]:
    """The sample numbers of every batch of ``loader``, in the order of its current epoch."""
    assert loader.batch_sampler is not None
    return list(loader.batch_sampler)


def with_batches(loader: DataLoader, batches: Sequence[list[int]]) -> DataLoader:
    """A loader like ``loader`` that gives exactly ``batches`` (lists of sample numbers)."""
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
    )


def part_of(loader: DataLoader, rank: int, size: int) -> DataLoader:
    """The batches ``rank``, ``rank + size``, ... of ``loader``: none twice, and none padded."""
    if size == 1:
        return loader
    return with_batches(loader, sample_numbers(loader)[rank::size])


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """Undo ``part_of``: the first item of every part, then the second of every part, and so on."""
    longest = max(len(part) for part in parts)
    items = []
    for place in range(longest):
        items += [part[place] for part in parts if place < len(part)]
    return items


def batches_of(loader: DataLoader) -> Iterator[BatchDict]:
    """The batches of ``loader``. A frame that cannot be read is one sentence, also in a worker."""
    with preserve_randomness():
        iterator = iter(loader)
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except UserError as error:
            raise without_worker_traceback(error) from None


# Old names, for one more version.
__getattr__ = forward_names(__name__, __name__, {"in_turn": "interleave", "share_of": "part_of"})
