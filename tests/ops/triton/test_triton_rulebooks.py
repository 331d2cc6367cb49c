"""Rulebooks by Triton against the plain versions: the same pairs, cells and numbers of rows."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from pcdet_distill.ops.pairs import MappedRulebook
from pcdet_distill.ops.rulebook import (
    STRIDED_RULEBOOK,
    SUBMANIFOLD_RULEBOOK,
    Kernel,
    strided_rulebook_plain,
    submanifold_rulebook_plain,
)


def geometry(
    size: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    padding: tuple[int, ...] | None = None,
    dilation: tuple[int, ...] | None = None,
) -> Kernel:
    ones = (1,) * len(size)
    return Kernel(size, stride or ones, padding or (0,) * len(size), dilation or ones)


KERNELS = {
    "3x3x3": geometry((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "3x3x3, other padding": geometry((3, 3, 3), (2, 2, 2), (0, 1, 1)),
    "only z": geometry((3, 1, 1), (2, 1, 1)),
    "one cell": geometry((1, 1, 1)),
    "dilated": geometry((3, 3, 1), (2, 1, 3), (2, 0, 0), (2, 3, 1)),
    "even, 2D": geometry((2, 4), (2, 3), (0, 2)),
    "5x5, 2D": geometry((5, 5), (1, 1), (2, 2)),
}


def cells_of(
    seed: int, count: int, shape: tuple[int, ...], device: torch.device, frames: int = 3
) -> Tensor:
    """Different cells of all frames but the second, in random order; a view of a wider tensor."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, extent, (count,), generator=generator) for extent in shape]
    frame = torch.randint(0, frames, (count,), generator=generator)
    frame[frame == 1] = 0
    cells = torch.stack([frame, *columns], dim=1).unique(dim=0)
    cells = cells[torch.randperm(len(cells), generator=generator)]
    wide = torch.cat([cells, cells], dim=1).int().to(device)
    return wide[:, : 1 + len(shape)]


def shape_for(kernel: Kernel) -> tuple[int, ...]:
    return (9, 8, 10)[-len(kernel.size) :]


def assert_same_rulebook(found: MappedRulebook, expected: object) -> None:
    assert isinstance(found, MappedRulebook)
    listed = found.listed
    for field in dataclasses.fields(expected):
        one = getattr(listed, field.name)
        other = getattr(expected, field.name)
        if isinstance(one, Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        else:
            assert one == other, field.name
    for name in ("sources", "targets"):
        assert torch.equal(getattr(found, name), getattr(expected.mapped, name)), name


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("count", [0, 1, 60, 700])
def test_strided_rulebooks(name: str, count: int, device: torch.device) -> None:
    kernel = KERNELS[name]
    shape = shape_for(kernel)
    cells = cells_of(1, count, shape, device)
    found, found_cells = STRIDED_RULEBOOK.triton_form()(cells, shape, kernel)
    expected, expected_cells = strided_rulebook_plain(cells, shape, kernel)
    assert_same_rulebook(found, expected)
    torch.testing.assert_close(found_cells, expected_cells, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in KERNELS if "even" not in name])
@pytest.mark.parametrize("count", [0, 1, 60, 700])
def test_submanifold_rulebooks(name: str, count: int, device: torch.device) -> None:
    kernel = KERNELS[name]
    shape = shape_for(kernel)
    cells = cells_of(2, count, shape, device)
    found = SUBMANIFOLD_RULEBOOK.triton_form()(cells, shape, kernel)
    assert_same_rulebook(found, submanifold_rulebook_plain(cells, shape, kernel))


def test_every_cell_of_a_full_grid(device: torch.device) -> None:
    """The table is as full as it may be, and every inner cell has all neighbours."""
    kernel = KERNELS["3x3x3"]
    shape = (6, 7, 8)
    cells = torch.cartesian_prod(*(torch.arange(extent) for extent in (2, *shape)))
    cells = cells.int().to(device)
    found = SUBMANIFOLD_RULEBOOK.triton_form()(cells, shape, kernel)
    assert_same_rulebook(found, submanifold_rulebook_plain(cells, shape, kernel))
    strided, out_cells = STRIDED_RULEBOOK.triton_form()(cells, shape, kernel)
    expected, expected_cells = strided_rulebook_plain(cells, shape, kernel)
    assert_same_rulebook(strided, expected)
    assert torch.equal(out_cells, expected_cells)


def test_numbers_of_cells_above_32_bits(device: torch.device) -> None:
    """A grid of 2000 x 2000 x 3000 cells: keys of frame 2 are above 2^34."""
    shape = (2000, 2000, 3000)
    corners = torch.tensor([[2, 1999, 1999, 2999], [0, 0, 0, 0], [2, 1998, 1998, 2998]])
    inner = torch.tensor([[1, 1000, 1000, 1500], [1, 1000, 1000, 1501], [1, 999, 1001, 1500]])
    cells = torch.cat([corners, inner]).int().to(device)
    kernel = KERNELS["3x3x3"]
    found = SUBMANIFOLD_RULEBOOK.triton_form()(cells, shape, kernel)
    assert found.counts != (0,) * 27
    assert_same_rulebook(found, submanifold_rulebook_plain(cells, shape, kernel))
    strided, out_cells = STRIDED_RULEBOOK.triton_form()(cells, shape, kernel)
    expected, expected_cells = strided_rulebook_plain(cells, shape, kernel)
    assert_same_rulebook(strided, expected)
    assert torch.equal(out_cells, expected_cells)
