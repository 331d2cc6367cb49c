"""Rows of a batch by frame."""

from __future__ import annotations

import torch

from pcdet_distill.ops.frames import best_rows, frames_of


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
