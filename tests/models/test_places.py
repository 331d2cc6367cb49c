"""Rows of masks, found with one wait of the host."""

from __future__ import annotations

import torch
from pretend_gpu import pretended

from pcdet_distill.models.model_utils.places import rows_of_masks


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
