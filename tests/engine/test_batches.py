"""Leaving batches out changes no other; the parts of processes make the whole; worker errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import toy_engine
from hypothesis import given
from hypothesis import strategies as st

from pcdet_distill.engine.batches import (
    TrainingBatches,
    batches_of,
    first_batch,
    interleave,
    part_of,
)
from pcdet_distill.errors import DataError
from pcdet_distill.types import BatchDict


def toy_batches(workers: int = 0, merged: int = 1) -> TrainingBatches:
    """Batches of 5 toy samples, ``merged`` epochs in one pass."""
    _, loader, sampler = toy_engine.build_toy_dataloader(
        None,
        None,
        5,
        seed=3,
        workers=workers,
        total_epochs=merged,
        merge_all_iters_to_one_epoch=merged > 1,
    )
    return TrainingBatches(loader, sampler, merged)


def values(batches: Iterator[BatchDict]) -> list[np.ndarray]:
    return [batch["values"] for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_from_the_middle_is_the_rest_of_it(workers: int) -> None:
    whole = values(toy_batches().epoch(1))
    rest = values(toy_batches(workers).epoch(1, first=1))
    assert len(whole) == 3
    assert len(rest) == 2
    for expected, found in zip(whole[1:], rest):
        np.testing.assert_array_equal(found, expected)


def test_epochs_differ() -> None:
    batches = toy_batches()
    first = next(batches.epoch(0))["values"]
    second = next(batches.epoch(1))["values"]
    assert not np.array_equal(first, second)


def test_merged_epochs_are_one_pass() -> None:
    """24 samples in batches of 5, of which the last one is left out: two batches an epoch."""
    batches = toy_batches(merged=2)
    found = values(batches.epoch(0)) + values(batches.epoch(1))
    assert batches.per_epoch == 2
    assert len(found) == 4
    resumed = values(toy_batches(merged=2).epoch(1, first=1))
    np.testing.assert_array_equal(resumed[0], found[3])


def test_starting_an_iterator_draws_no_random_number() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(toy_batches(workers=1).epoch(0, first=1))
    first_batch(toy_batches().loader)
    assert torch.equal(torch.rand(1), expected)


@given(st.integers(0, 40), st.integers(1, 7))
def test_interleaved_parts_are_the_whole(count: int, size: int) -> None:
    whole = list(range(count))
    parts = [whole[rank::size] for rank in range(size)]
    assert interleave(parts) == whole


def test_parts_hold_every_sample_once() -> None:
    loader = toy_engine.eval_loader(batch_size=5)
    parts = []
    for rank in range(2):
        parts.append([batch["frame_id"].tolist() for batch in part_of(loader, rank, 2)])
    names = []
    for batch in interleave(parts):
        names += batch
    assert names == [f"{index:06d}" for index in range(12)]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_frame_is_one_sentence(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BAD_FRAME", "7")
    loader = toy_engine.eval_loader(batch_size=5, workers=workers)
    with pytest.raises(DataError) as error:
        list(batches_of(loader))
    assert str(error.value) == "velodyne/000007.bin: 7 bytes, expected a multiple of 16"


def test_an_empty_training_split_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_samples(sampler: toy_engine.ToySampler, *_: object) -> None:
        sampler.rounds = 1

    monkeypatch.setattr(toy_engine, "FRAMES", 0)
    monkeypatch.setattr(toy_engine.ToySampler, "__init__", no_samples)  # torch refuses an empty one
    with pytest.raises(DataError, match="0 batches"):
        toy_batches()
