"""Numbers in the order of first occurrence, by hand and against a dictionary."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.ops.occurrences import first_occurrences


def test_by_hand(device: torch.device) -> None:
    """-1 is no key: it has no number and opens none."""
    keys = torch.tensor([7, -1, 3, 7, 9, 3], device=device)
    first = first_occurrences(keys, 3)
    assert first.is_first.tolist() == [True, False, True, False, True, False]
    assert first.numbers[keys >= 0].tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("count", [0, 1, 500])
def test_against_a_dictionary(count: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(count)
    keys = torch.randint(-5, 100, (count,), generator=generator) * 2**40
    number_of: dict[int, int] = {}
    for key in keys.tolist():
        if key >= 0:
            number_of.setdefault(key, len(number_of))
    first = first_occurrences(keys.to(device), max(count, 1))
    assert int(first.is_first.sum()) == len(number_of)
    assert keys[first.is_first.cpu()].tolist() == list(number_of)
    is_key = keys >= 0
    expected = [number_of[key] for key in keys[is_key].tolist()]
    assert first.numbers.cpu()[is_key].tolist() == expected
