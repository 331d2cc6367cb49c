"""Numbers of keys by Triton's hash table against sorting."""

from __future__ import annotations

import pytest
import torch

from pcdet_distill.ops.occurrences import FIRST_OCCURRENCES, first_occurrences_plain


@pytest.mark.parametrize("count", [0, 1, 255, 900])
@pytest.mark.parametrize("distinct", [1, 40, 10**15])
def test_first_occurrences(count: int, distinct: int, device: torch.device) -> None:
    """Keys far above 32 bits, many of them equal; every second number of a wider tensor."""
    generator = torch.Generator().manual_seed(count)
    wide = torch.randint(-1, distinct, (2 * count,), generator=generator) * 4096
    keys = wide.to(device)[::2]
    found = FIRST_OCCURRENCES.triton_form()(keys, count)
    expected = first_occurrences_plain(keys, count)
    assert torch.equal(found.is_first, expected.is_first)
    is_key = keys >= 0
    assert torch.equal(found.numbers[is_key], expected.numbers[is_key])


def test_a_table_that_is_as_full_as_allowed(device: torch.device) -> None:
    """Neighbouring keys, as many as the bound says, from the last to the first."""
    keys = torch.arange(511, -1, -1, device=device)
    found = FIRST_OCCURRENCES.triton_form()(keys, 512)
    assert found.is_first.all()
    assert torch.equal(found.numbers, torch.arange(512, device=device))
