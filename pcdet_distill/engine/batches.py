"""From a DataLoader to the batches of one process: skip what was seen, share out what is to be tested.

Order and augmentation depend on (seed, epoch, index) alone (see datasets), so leaving batches out changes no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from torch.utils.data import DataLoader

from ..datasets import DatasetTemplate
from ..errors import DataError, UserError
from .checkpoints.randomness import randomness_kept


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


def sample_numbers(loader: DataLoader) -> list[list[int]]:
    """The sample numbers of every batch of ``loader``, in the order of now."""
    assert loader.batch_sampler is not None
    return list(loader.batch_sampler)


def share_of(loader: DataLoader, rank: int, size: int) -> DataLoader:
    """Every ``size``-th batch from ``rank`` on: no batch twice and none padded."""
    return loader if size == 1 else with_batches(loader, sample_numbers(loader)[rank::size])


def in_turn(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Undo ``share_of``: item 0 of every share, then item 1 of every share, ..."""
    longest = max(map(len, shares))
    return [share[k] for k in range(longest) for share in shares if k < len(share)]


def user_error(error: UserError) -> UserError:
    """``error`` without the traceback that a DataLoader worker wraps around its sentence."""
    marker = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, sentence = str(error).rpartition("\n" + marker)
    return type(error)(sentence.strip()) if found else error


def batches_of(loader: DataLoader) -> Iterator[Any]:
    """The batches of ``loader``; a frame that cannot be read is one sentence, also from within a worker."""
    with randomness_kept():
        running = iter(loader)
    while True:
        try:
            yield next(running)
        except StopIteration:
            return
        except UserError as error:
            raise user_error(error) from None


def first_batch(loader: DataLoader) -> Any:
    """The first batch of ``loader``, made here and not by the workers."""
    with randomness_kept():
        indices = sample_numbers(loader)[0]
        return loader.collate_fn([loader.dataset[index] for index in indices])


class TrainingBatches:
    """The batches of each epoch, from any place in it.

    With ``epochs_merged`` > 1 the loader holds that many epochs in a row (--merge_all_iters_to_one_epoch) and one
    pass serves them all, so that workers start once.
    """

    def __init__(self, loader: DataLoader, sampler: Any, epochs_merged: int = 1) -> None:
        self.loader = loader
        self.dataset = cast(DatasetTemplate, loader.dataset)
        self.sampler = sampler
        self.merged = epochs_merged > 1
        self.per_epoch = len(loader) // max(epochs_merged, 1)
        if self.per_epoch == 0:
            raise DataError(
                f"the training split gives {len(loader)} batches; expected one or more for each epoch"
            )
        self._running: Iterator[Any] | None = None

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the dataset's classes."""
        return self.dataset.class_names

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Batches ``first`` .. ``per_epoch`` of ``epoch``."""
        if not self.merged:
            self._running = self._start(epoch, first)
        elif self._running is None:
            self._running = self._start(0, epoch * self.per_epoch + first)
        yield from islice(self._running, self.per_epoch - first)

    def sample(self) -> Any:
        """The first batch of the first epoch."""
        self._set_epoch(0)
        return first_batch(self.loader)

    def first_frames(self, count: int) -> list[Any]:
        """The first ``count`` frames of the first epoch (all, if there are fewer) in batches, made here."""
        self._set_epoch(0)
        wanted, batches = count, []
        with randomness_kept():
            for numbers in sample_numbers(self.loader):
                if wanted > 0:
                    samples = [self.loader.dataset[number] for number in numbers[:wanted]]
                    batches.append(self.loader.collate_fn(samples))
                    wanted -= len(samples)
        return batches

    def _set_epoch(self, epoch: int) -> None:
        """Tell sampler and dataset which permutation and augmentation to use; a dataset may repeat its draws."""
        self.sampler.set_epoch(epoch // self.dataset.epochs_per_draw)
        self.dataset.set_epoch(epoch)

    def _start(self, epoch: int, first: int) -> Iterator[Any]:
        """An iterator over batches ``first`` ... of the loader in ``epoch``."""
        self._set_epoch(epoch)
        loader = self.loader
        if first:
            loader = with_batches(loader, sample_numbers(loader)[first:])
        return batches_of(loader)
