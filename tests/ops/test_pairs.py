"""Pairs of rows as lists and as maps: each form gives the other one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pcdet_distill.ops.pairs import NO_ROW, MappedRulebook, Rulebook
from pcdet_distill.ops.rulebook import Kernel, strided_rulebook_plain, submanifold_rulebook_plain

SHAPE = (5, 6)
KERNEL = Kernel((3, 3), (2, 2), (1, 1), (1, 1))


def some_cells(count: int) -> Tensor:
    """Different cells (count, 3) int32 of two frames, in random order."""
    every = torch.cartesian_prod(*(torch.arange(extent) for extent in (2, *SHAPE)))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(count))
    return every[order[:count]].int()


def rulebook_of(kind: str, count: int) -> Rulebook:
    cells = some_cells(count)
    if kind == "submanifold":
        return submanifold_rulebook_plain(cells, SHAPE, KERNEL).listed
    return strided_rulebook_plain(cells, SHAPE, KERNEL)[0].listed


@pytest.mark.parametrize("kind", ["submanifold", "strided"])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_lists_and_maps_give_each_other(kind: str, count: int) -> None:
    rulebook = rulebook_of(kind, count)
    again = rulebook.mapped.listed
    assert torch.equal(again.in_rows, rulebook.in_rows)
    assert torch.equal(again.out_rows, rulebook.out_rows)
    assert again.counts == rulebook.counts == rulebook.mapped.counts
    assert (again.num_in, again.num_out) == (rulebook.num_in, rulebook.num_out)
    assert again.identity == rulebook.identity
    assert again.in_rows.dtype == again.out_rows.dtype == torch.int64


def test_a_map_by_hand() -> None:
    """Two offsets: at 0 row 1 reads row 0; at 1 row 0 reads row 2."""
    rulebook = Rulebook(
        in_rows=torch.tensor([0, 2]),
        out_rows=torch.tensor([1, 0]),
        counts=(1, 1),
        num_in=3,
        num_out=2,
    )
    assert rulebook.mapped.sources.tolist() == [[NO_ROW, 0], [2, NO_ROW]]
    assert rulebook.mapped.targets.tolist() == [[1, NO_ROW, NO_ROW], [NO_ROW, NO_ROW, 0]]


def test_maps_hold_the_pairs_of_identity() -> None:
    """A cell alone is its own neighbour in the middle, and lists leave that pair out."""
    rulebook = rulebook_of("submanifold", 1)
    assert rulebook.counts == (0,) * 9
    assert rulebook.mapped.sources.flatten().tolist() == [NO_ROW] * 4 + [0] + [NO_ROW] * 4


def test_rows_of_one_pattern_follow_each_other() -> None:
    """Each row once, also with more offsets than a pattern has bits."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(-1, 1, (125, 3), generator=generator, dtype=torch.int32)
    rows = patterns.repeat(1, 7)
    order = MappedRulebook(sources=rows, targets=rows).output_order.long()
    assert sorted(order.tolist()) == list(range(21))
    assert ((order % 3).diff() != 0).sum() == 2
