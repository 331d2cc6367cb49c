"""Leaving batches out changes no other; shares of processes make up the whole; worker errors are sentences."""

from __future__ import annotations

from typing import Any

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


def make(workers: int = 0, merged: int = 1) -> TrainingBatches:
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


def values(batches: Any) -> list[np.ndarray]:
    return [batch["values"] for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_from_the_middle_is_the_rest_of_it(workers: int) -> None:
    whole = values(make().epoch(1))
    rest = values(make(workers).epoch(1, first=1))
    assert len(whole) == 3 and len(rest) == 2
    for expected, found in zip(whole[1:], rest):
        np.testing.assert_array_equal(found, expected)


def test_epochs_differ() -> None:
    batches = make()
    assert not np.array_equal(
        next(iter(batches.epoch(0)))["values"], next(iter(batches.epoch(1)))["values"]
    )


def test_merged_epochs_are_one_pass() -> None:
    through = make(merged=2)
    found = values(through.epoch(0)) + values(through.epoch(1))
    assert through.per_epoch == 2 and len(found) == 4  # 24 samples in batches of 5, less the rest
    resumed = values(make(merged=2).epoch(1, first=1))
    np.testing.assert_array_equal(resumed[0], found[3])


def test_starting_an_iterator_draws_no_random_number() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(make(workers=1).epoch(0, first=1))
    first_batch(make().loader)
    assert torch.equal(torch.rand(1), expected)


@given(st.integers(0, 40), st.integers(1, 7))
def test_shares_interleave_are_the_whole(count: int, size: int) -> None:
    whole = list(range(count))
    assert interleave([whole[rank::size] for rank in range(size)]) == whole


def test_shares_hold_every_sample_once() -> None:
    _, loader, _ = toy_engine.build_toy_dataloader(None, None, 5, training=False)
    shares = [
        [batch["frame_id"].tolist() for batch in part_of(loader, rank, 2)] for rank in range(2)
    ]
    assert [name for batch in interleave(shares) for name in batch] == [
        f"{index:06d}" for index in range(12)
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_frame_is_one_sentence(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BAD_FRAME", "7")
    _, loader, _ = toy_engine.build_toy_dataloader(None, None, 5, training=False, workers=workers)
    with pytest.raises(DataError) as error:
        list(batches_of(loader))
    assert str(error.value) == "velodyne/000007.bin: 7 bytes, expected a multiple of 16"


def test_an_empty_training_split_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_engine, "FRAMES", 0)
    monkeypatch.setattr(
        toy_engine._SeededSampler, "__init__", lambda self, *_: self.__dict__.update(rounds=1)
    )
    with pytest.raises(DataError, match="0 batches"):
        make()
