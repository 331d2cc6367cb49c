"""Nodes: one form for every kind of feature, so that a loss need not know where it comes from.

A pillar, a voxel, a cell of a map or a point becomes a row with a feature, a frame, a place and a
saliency. ``node_converters.py`` makes the rows, ``node_matching.py`` matches those of a student
with those of its teacher.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..moved import forward_names
from ..ops.constants import constant
from ..ops.precision import at_least_float32

# Points of two samples of one cloud: the same point, or one at the same spot of a surface.
POINT_REACH_M = 0.1


class VoxelData(Protocol):
    """A dataset, a DataSpec or a VoxelSpace.

    Attributes:
        class_names: in the order of their labels; label 1 is the first.
        point_cloud_range: x, y, z minimum, then maximum, in metres.
        voxel_size: edges along x, y, z in metres; None without voxels.
        grid_size: voxels along x, y, z.
    """

    class_names: list[str]
    point_cloud_range: np.ndarray
    voxel_size: list[float] | None
    grid_size: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class NodeGrid:
    """A regular grid in metres; all triples are x, y, z.

    Attributes:
        cell_size_m: edges of a cell.
        origin_m: corner of the first cell.
        size: number of cells.
    """

    cell_size_m: tuple[float, float, float]
    origin_m: tuple[float, float, float]
    size: tuple[int, int, int]

    def coarsen(self, stride: int, layers: int = 1) -> NodeGrid:
        """The grid of a map.

        Args:
            stride: cells of this grid that one cell of the map covers along x and y. At the border
                it may cover fewer.
            layers: cells into which the map divides the whole height.
        """
        size_x, size_y, size_z = self.size
        width_m, depth_m, height_m = self.cell_size_m
        return NodeGrid(
            cell_size_m=(width_m * stride, depth_m * stride, height_m * size_z / layers),
            origin_m=self.origin_m,
            size=(_divide_up(size_x, stride), _divide_up(size_y, stride), layers),
        )

    def cells_at(self, coords: Tensor) -> Tensor:
        """Cells (N, 3) z, y, x of the places ``coords`` (N, 3) in metres; some may lie outside.

        In float64: float32 would put a point on a border into one cell or the other by chance.
        """
        size = constant(self.cell_size_m, coords.device, torch.float64)
        origin = constant(self.origin_m, coords.device, torch.float64)
        return torch.floor((coords.double() - origin) / size).long().flip(1)

    def contains(self, cells: Tensor) -> Tensor:
        """Whether each of ``cells`` (N, 3) z, y, x lies in the grid, (N,)."""
        limits = constant(self.size, cells.device).flip(0)
        return ((cells >= 0) & (cells < limits)).all(dim=1)

    def centres(self, cells: Tensor) -> Tensor:
        """Metres (N, 3) x, y, z of the centres of ``cells`` (N, 3) z, y, x."""
        size = constant(self.cell_size_m, cells.device, torch.float32)
        origin = constant(self.origin_m, cells.device, torch.float32)
        return (cells.flip(1) + 0.5) * size + origin


@dataclasses.dataclass(frozen=True)
class NodeFeatures:
    """N nodes of a batch.

    Attributes:
        features: (N, C).
        batch_index: (N,) int64, the frame of each node.
        coords: (N, 3) x, y, z in metres.
        saliency: (N,) how much a node matters: the number of points in a voxel, the channel maximum
            of a map cell or of a point.
        cells: (N, 3) int64 z, y, x in ``grid``; None for nodes without a grid.
        grid: the grid of ``cells``.
        reach_m: without a grid, how far along every axis a node may stand from its match.
        may_miss: the places are a model's own choice, so that two models may have none in common.
        objectness: (N,) the largest class score, 0..1, of the detector's head at the place; None if
            no loss needs it.
    """

    features: Tensor
    batch_index: Tensor
    coords: Tensor
    saliency: Tensor
    cells: Tensor | None = None
    grid: NodeGrid | None = None
    reach_m: float = POINT_REACH_M
    may_miss: bool = False
    objectness: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def detach(self) -> NodeFeatures:
        """The same nodes, whose features pass no gradient on."""
        return dataclasses.replace(self, features=self.features.detach())

    def at_least_float32(self) -> NodeFeatures:
        """The same nodes; what is half precision becomes float32."""
        objectness = self.objectness
        return dataclasses.replace(
            self,
            features=at_least_float32(self.features),
            saliency=at_least_float32(self.saliency),
            objectness=None if objectness is None else at_least_float32(objectness),
        )

    def at_cells_of(self, other: NodeFeatures) -> NodeFeatures:
        """The same features, at the cells of ``other``: row i of both belongs together."""
        return dataclasses.replace(self, cells=other.cells, grid=other.grid)

    def select(self, rows: Tensor) -> NodeFeatures:
        """The nodes in ``rows`` (M,), in that order."""
        return dataclasses.replace(
            self,
            features=self.features[rows],
            batch_index=self.batch_index[rows],
            coords=self.coords[rows],
            saliency=self.saliency[rows],
            cells=None if self.cells is None else self.cells[rows],
            objectness=None if self.objectness is None else self.objectness[rows],
        )


def as_map(nodes: NodeFeatures) -> Tensor:
    """The map (B, C, H, W) of nodes on a grid with one layer; a cell without a node is zero."""
    assert nodes.cells is not None and nodes.grid is not None
    width, height, _ = nodes.grid.size
    frames = int(nodes.batch_index[-1]) + 1 if len(nodes) else 0
    features = nodes.features
    places = frames * height * width
    if len(nodes) < places:
        place = (nodes.batch_index * height + nodes.cells[:, 1]) * width + nodes.cells[:, 2]
        features = features.new_zeros(places, features.shape[1]).index_copy(0, place, features)
    return features.view(frames, height, width, features.shape[1]).permute(0, 3, 1, 2)


def grid_of(data: VoxelData) -> NodeGrid | None:
    """The voxel grid of a dataset or its description; None when it has no voxels."""
    if data.voxel_size is None or data.grid_size is None:
        return None
    size_x, size_y, size_z = (int(number) for number in data.grid_size)
    return NodeGrid(
        cell_size_m=_rounded_triple(data.voxel_size),
        origin_m=_rounded_triple(data.point_cloud_range[:3]),
        size=(size_x, size_y, size_z),
    )


def _rounded_triple(numbers: list[float] | np.ndarray) -> tuple[float, float, float]:
    """Without the noise of float32: equal grids must have equal numbers."""
    x, y, z = (round(float(number), 6) for number in numbers)
    return x, y, z


def _divide_up(cells: int, stride: int) -> int:
    """Number of strides that cover ``cells``."""
    return -(-cells // stride)


# Old names, for one more version.
__getattr__ = forward_names(
    __name__,
    ("pcdet_distill.distill.node_matching", "pcdet_distill.distill.node_converters"),
    [
        "NODE_CONVERTERS",
        "bev_nodes",
        "match_nodes",
        "point_nodes",
        "roi_nodes",
        "sparse_nodes",
        "voxel_nodes",
        "with_objectness",
    ],
)
