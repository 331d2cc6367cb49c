"""Neighbouring voxels of a place (Voxel R-CNN, AAAI 2021), by the rules of OpenPCDet's CUDA op.

A ball query over all voxels would compare every place with every voxel. Voxels lie on a grid, so
only the cells within reach of the place are looked up. Which voxels are neighbours has no gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .accelerated import point_kernels
from .constants import constant
from .dispatch import Operator
from .rows import fill_with_first, first_true
from .rulebook import cell_keys
from .stacks import PAIRS_PER_CHUNK, squared_distances


@dataclasses.dataclass(frozen=True)
class VoxelPlaces:
    """Places on a grid of voxels.

    Attributes:
        centres: (N, 3) float32 x, y, z in metres, without a graph.
        coords: (N, 4) int64 frame, z, y, x of the voxels they lie in.
    """

    centres: Tensor
    coords: Tensor

    def __len__(self) -> int:
        """Number of places."""
        return len(self.centres)

    @classmethod
    def of(cls, centres: Tensor, coords: Tensor) -> VoxelPlaces:
        """From centres (N, 3+) and coordinates (N, 4) of any type."""
        return cls(centres.detach()[:, :3].float(), coords.long())


@dataclasses.dataclass(frozen=True)
class SearchRange:
    """Which voxels are neighbours.

    Attributes:
        reach: cells to search on either side along z, y, x.
        radius_squared: largest squared distance, in float32 as the reference computes it.
        num_neighbors: voxels per place, K.
    """

    reach: Sequence[int]
    radius_squared: np.float32
    num_neighbors: int


def voxel_query(
    reach: Sequence[int],
    radius_m: float,
    num_neighbors: int,
    voxels: Tensor,
    voxel_coords: Tensor,
    spatial_shape: Sequence[int],
    centres: Tensor,
    centre_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """The first voxels around each place, in ascending z, y, x.

    Args:
        reach: cells to search on either side along z, y, x.
        radius_m: largest distance of a voxel's centre, itself included.
        num_neighbors: voxels per place, K.
        voxels: (N, 3) centres in metres.
        voxel_coords: (N, 4) frame, z, y, x.
        spatial_shape: cells of the grid along z, y, x.
        centres: (M, 3) places in metres.
        centre_coords: (M, 4) the cells they lie in; may be outside the grid.

    Returns:
        rows (M, K) int64 of ``voxels``, unused places repeat the first row, all 0 without any; and
        how many were found (M,) int64.
    """
    searched = VoxelPlaces.of(voxels, voxel_coords)
    queries = VoxelPlaces.of(centres, centre_coords)
    within = SearchRange(reach, np.float32(radius_m) * np.float32(radius_m), num_neighbors)
    search = VOXEL_QUERY.on(voxels.device)
    rows, found = search(searched, spatial_shape, queries, within)
    return fill_with_first(rows, found), found


def _voxel_query_numba(
    voxels: VoxelPlaces, spatial_shape: Sequence[int], queries: VoxelPlaces, within: SearchRange
) -> tuple[Tensor, Tensor]:
    """``voxel_query_plain``, compiled for the CPU; unused places are 0."""
    rows, found = point_kernels.voxel_neighbours(
        _sort_into_lines(voxels, spatial_shape, _num_frames(voxels, queries)),
        queries.centres.contiguous().numpy(),
        queries.coords.contiguous().numpy(),
        np.array(within.reach, np.int64),
        within.radius_squared,
        within.num_neighbors,
    )
    return torch.from_numpy(rows), torch.from_numpy(found)


def _num_frames(voxels: VoxelPlaces, queries: VoxelPlaces) -> int:
    """Frames that have a voxel or a query, and those before them."""
    frames = torch.cat([voxels.coords[:, 0], queries.coords[:, 0]])
    return int(frames.max()) + 1 if len(frames) else 0


def _sort_into_lines(
    voxels: VoxelPlaces, spatial_shape: Sequence[int], num_frames: int
) -> point_kernels.VoxelLines:
    """The voxels by line along x, so that those within reach follow each other."""
    depth, height, width = (int(cells) for cells in spatial_shape)
    frame, z, y, x = voxels.coords.unbind(dim=1)
    line = (frame * depth + z) * height + y
    order = torch.argsort(line * width + x)
    ends = torch.bincount(line, minlength=num_frames * depth * height).cumsum(0)
    starts = torch.nn.functional.pad(ends, (1, 0))
    return point_kernels.VoxelLines(
        starts=starts.numpy(),
        x=x[order].numpy(),
        rows=order.numpy(),
        centres=voxels.centres.contiguous().numpy(),
        shape=np.array([depth, height, width], np.int64),
    )


def voxel_query_plain(
    voxels: VoxelPlaces, spatial_shape: Sequence[int], queries: VoxelPlaces, within: SearchRange
) -> tuple[Tensor, Tensor]:
    """``voxel_query`` in plain torch, any device: looks up every cell in the sorted voxels."""
    device = queries.centres.device
    rows = torch.zeros((len(queries), within.num_neighbors), dtype=torch.int64, device=device)
    found = torch.zeros(len(queries), dtype=torch.int64, device=device)
    if len(voxels) == 0:
        return rows, found
    sorted_keys, order = torch.sort(cell_keys(voxels.coords, spatial_shape))
    steps = _steps_within(within.reach, device)
    queries_per_chunk = max(1, PAIRS_PER_CHUNK // len(steps))
    for start in range(0, len(queries), queries_per_chunk):
        part = slice(start, start + queries_per_chunk)
        keys, on_grid = _keys_around(queries.coords[part], steps, spatial_shape)
        position = torch.searchsorted(sorted_keys, keys).clamp_max(len(sorted_keys) - 1)
        exists = on_grid & (sorted_keys[position] == keys)
        candidates = order[position]
        place = queries.centres[part].unsqueeze(1)
        distances = squared_distances(voxels.centres[candidates], place)
        near = distances <= float(within.radius_squared)
        columns, count = first_true(exists & near, within.num_neighbors)
        rows[part] = torch.where(count.unsqueeze(1) > 0, candidates.gather(1, columns), 0)
        found[part] = count
    return rows, found


VOXEL_QUERY = Operator(
    "voxel query",
    plain=voxel_query_plain,
    numba=_voxel_query_numba,
    triton="voxel_query:voxel_query",
)


def _steps_within(reach: Sequence[int], device: torch.device) -> Tensor:
    """All steps (S, 3) int64 along z, y, x that are within reach, in ascending order."""
    along_axes = [torch.arange(-cells, cells + 1, device=device) for cells in reach]
    return torch.cartesian_prod(*along_axes).view(-1, 3)


def _keys_around(
    coords: Tensor, steps: Tensor, spatial_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Keys (M, S) of the cells at ``steps`` (S, 3) from ``coords`` (M, 4), and which exist."""
    limits = constant([int(cells) for cells in spatial_shape], coords.device)
    cells = coords[:, None, 1:] + steps
    on_grid = ((cells >= 0) & (cells < limits)).all(dim=2)
    frames = coords[:, None, :1].expand(-1, len(steps), 1)
    keys = cell_keys(torch.cat([frames, cells], dim=2), spatial_shape)
    return keys, on_grid
