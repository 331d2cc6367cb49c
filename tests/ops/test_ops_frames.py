"""Rows of a batch by frame."""

from __future__ import annotations

import torch
from pretend_gpu import pretended

from pcdet_distill.ops.frames import (
    best_rows,
    frames_of,
    rows_by_frame,
    rows_of_masks,
    split_by_frame,
    stack_frames,
)


def test_frames_of_any_order() -> None:
    frames = frames_of(torch.tensor([2, 0, 2, 0, 5]))
    assert [rows.tolist() for rows in frames] == [[1, 3], [0, 2], [4]]


def test_best_rows_are_sorted_by_their_score() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    rows = torch.tensor([0, 2, 3])
    assert best_rows(scores, rows, 2).tolist() == [3, 2]


def test_best_rows_are_all_where_there_are_fewer() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5])
    assert best_rows(scores, torch.tensor([2, 0]), 5).tolist() == [2, 0]
    assert best_rows(scores, torch.zeros(0, dtype=torch.long), 5).tolist() == []


def test_rows_are_split_by_frame_in_their_order() -> None:
    frame = torch.tensor([2, 0, 2, 0, 0])
    assert [rows.tolist() for rows in split_by_frame(frame, 4)] == [[1, 3, 4], [], [0, 2], []]
    assert rows_by_frame(frame, 4) == [3, 0, 2, 0]


def test_columns_are_stacked_by_frame() -> None:
    frame = torch.tensor([1, 0, 1])
    counts, (values, names) = stack_frames(frame, 2, torch.arange(3), frame * 10)
    assert counts == [1, 2]
    assert values.tolist() == [1, 0, 2]
    assert names.tolist() == [0, 10, 10]


def test_rows_of_masks_are_those_of_nonzero() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(count, generator=generator) > 0.5 for count in (7, 0, 300, 1)]
    masks.append(torch.zeros(5, dtype=torch.bool))
    found = rows_of_masks(masks)
    assert [rows.tolist() for rows in found] == [mask.nonzero()[:, 0].tolist() for mask in masks]
    assert rows_of_masks([]) == []


def test_the_host_waits_once_for_all_masks() -> None:
    with pretended("cuda") as waits:
        masks = [torch.ones(4, device="cuda") > 0, torch.zeros(9, device="cuda") > 0]
        assert [len(rows) for rows in rows_of_masks(masks)] == [4, 0]
    assert waits.total == 1, waits.table()
