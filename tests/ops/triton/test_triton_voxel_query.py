"""Voxel query by Triton against its plain version."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pcdet_distill.ops.rows import fill_with_first
from pcdet_distill.ops.voxel_query import (
    VOXEL_QUERY,
    SearchRange,
    VoxelPlaces,
    voxel_query_plain,
)

SHAPE = (4, 5, 6)
VOXEL_M = 0.5


def voxels_of(seed: int, count: int, device: torch.device) -> VoxelPlaces:
    """So many different cells of three frames, the middle one empty, in random order."""
    rng = np.random.default_rng(seed)
    cells = np.array(list(itertools.product((0, 2), *map(range, SHAPE))))
    cells = rng.permutation(cells)[:count]
    centres = (cells[:, :0:-1] + 0.5) * VOXEL_M
    return VoxelPlaces.of(
        torch.from_numpy(centres.astype(np.float32)).to(device),
        torch.from_numpy(cells).to(device),
    )


def places_of(seed: int, count: int, device: torch.device) -> VoxelPlaces:
    """Places inside and a little outside the grid, in all three frames."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-1, 3.5, (count, 3)).astype(np.float32)
    cells = np.floor(centres[:, ::-1] / VOXEL_M)
    frames = rng.integers(0, 3, (count, 1))
    coords = np.concatenate([frames, cells.astype(np.int64)], axis=1)
    return VoxelPlaces.of(torch.from_numpy(centres).to(device), torch.from_numpy(coords).to(device))


@pytest.mark.parametrize("num_voxels", [0, 1, 2, 63, 64, 240])
@pytest.mark.parametrize("num_places", [0, 70])
@pytest.mark.parametrize(("reach", "limit"), [((1, 2, 2), 5), ((0, 0, 0), 1), ((3, 1, 4), 50)])
def test_voxels_near_places(
    num_voxels: int,
    num_places: int,
    reach: tuple[int, int, int],
    limit: int,
    device: torch.device,
) -> None:
    """A radius of two edges: the surface of the ball, where many centres lie, is inside."""
    voxels = voxels_of(1, num_voxels, device)
    queries = places_of(2, num_places, device)
    within = SearchRange(reach, np.float32(1.0), limit)
    rows, found = VOXEL_QUERY.triton_form()(voxels, SHAPE, queries, within)
    plain_rows, plain_found = voxel_query_plain(voxels, SHAPE, queries, within)
    assert torch.equal(found, plain_found)
    assert torch.equal(fill_with_first(rows, found), plain_rows)


def test_places_at_the_centres_of_voxels(device: torch.device) -> None:
    """Distances of exactly the radius are frequent."""
    voxels = voxels_of(3, 150, device)
    within = SearchRange((1, 1, 1), np.float32(VOXEL_M) * np.float32(VOXEL_M), 9)
    rows, found = VOXEL_QUERY.triton_form()(voxels, SHAPE, voxels, within)
    plain_rows, plain_found = voxel_query_plain(voxels, SHAPE, voxels, within)
    assert found.max() > 3
    assert torch.equal(found, plain_found)
    assert torch.equal(fill_with_first(rows, found), plain_rows)
