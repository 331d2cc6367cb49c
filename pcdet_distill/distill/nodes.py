"""Nodes: one form for every kind of feature, so that a distillation loss need not know where it comes from.

A pillar, a voxel or a BEV cell becomes a row with a feature, a frame, a place and a saliency. Teacher and student rows
are brought together by place (``match_nodes``), never by row number: row order is an accident of voxelizer and device.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..ops.knn import knn

PLACE_MARGIN_M = 1e-4


@dataclasses.dataclass(frozen=True)
class NodeGrid:
    """A regular grid in metres; all triples are x, y, z."""

    cell_size_m: tuple[float, float, float]
    origin_m: tuple[float, float, float]
    size: tuple[int, int, int]

    def coarsen(self, stride: int) -> NodeGrid:
        """The grid of a BEV map with ``stride``: larger cells on the ground, one cell high."""
        cell = (self.cell_size_m[0] * stride, self.cell_size_m[1] * stride, self.cell_size_m[2] * self.size[2])
        return NodeGrid(cell, self.origin_m, (-(-self.size[0] // stride), -(-self.size[1] // stride), 1))

    def centres(self, cells: Tensor) -> Tensor:
        """Metres (N, 3) x, y, z of the centres of ``cells`` (N, 3) z, y, x."""
        size, origin = (torch.tensor(triple, dtype=torch.float32, device=cells.device)
                        for triple in (self.cell_size_m, self.origin_m))
        return (cells.flip(1) + 0.5) * size + origin


@dataclasses.dataclass(frozen=True)
class NodeFeatures:
    """N nodes of a batch.

    Attributes:
        features: (N, C).
        batch_index: (N,) int64, the frame of each node.
        coords: (N, 3) x, y, z in metres.
        saliency: (N,) how much stands there: points in a voxel, the channel maximum of a BEV cell.
        cells: (N, 3) int64 z, y, x in ``grid``; None for nodes without a grid.
        grid: the grid of ``cells``.
    """

    features: Tensor
    batch_index: Tensor
    coords: Tensor
    saliency: Tensor
    cells: Tensor | None = None
    grid: NodeGrid | None = None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, rows: Tensor) -> NodeFeatures:
        """The nodes in ``rows`` (M,), in that order."""
        cells = None if self.cells is None else self.cells[rows]
        return NodeFeatures(self.features[rows], self.batch_index[rows], self.coords[rows], self.saliency[rows], cells,
                            self.grid)


def grid_of(spec: Any) -> NodeGrid | None:
    """The voxel grid of a DataSpec or dataset; None when it has no voxels."""
    if spec.voxel_size is None or spec.grid_size is None:
        return None
    triples = (spec.voxel_size, spec.point_cloud_range[:3])
    cell, origin = (tuple(round(float(number), 6) for number in triple) for triple in triples)
    return NodeGrid(cell, origin, tuple(int(number) for number in spec.grid_size))  # type: ignore[arg-type]


def voxel_nodes(feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid) -> NodeFeatures:
    """Voxel or pillar features (N, C), row i standing at ``voxel_coords[i]`` (b, z, y, x)."""
    coords = batch_dict["voxel_coords"].long()
    if len(coords) != len(feature):
        raise DataError(f"a voxel tap delivered {len(feature)} rows, but voxel_coords has {len(coords)}")
    cells = coords[:, 1:]
    return NodeFeatures(feature, coords[:, 0], grid.centres(cells), batch_dict["voxel_num_points"], cells, grid)


def bev_nodes(feature: Tensor, batch_dict: Mapping[str, Any], grid: NodeGrid) -> NodeFeatures:
    """Every cell of a BEV map (B, C, H, W), empty ones too."""
    frames, channels, height, width = feature.shape
    features = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    axes = [torch.arange(extent, device=feature.device) for extent in (frames, 1, height, width)]
    place = torch.cartesian_prod(*axes)
    cells = place[:, 1:]
    return NodeFeatures(features, place[:, 0], grid.centres(cells), features.detach().amax(dim=1), cells, grid)


NODE_CONVERTERS: dict[str, Callable[[Tensor, Mapping[str, Any], NodeGrid], NodeFeatures]] = {
    "voxel": voxel_nodes,
    "bev": bev_nodes,
}


def match_nodes(student: NodeFeatures, teacher: NodeFeatures) -> tuple[NodeFeatures, NodeFeatures]:
    """The nodes of both that stand at the same place of the same frame; row i of one belongs to row i of the other.

    On one common grid two nodes match when their cells are equal. On different grids a student node takes the nearest
    teacher node whose centre lies within half of the larger cell, along every axis.
    """
    if student.grid is not None and student.grid == teacher.grid:
        student_keys, teacher_keys = _cell_keys(student), _cell_keys(teacher)
        if torch.equal(student_keys, teacher_keys):
            return student, teacher
        student_rows, teacher_rows = _match_keys(student_keys, teacher_keys)
    else:
        student_rows, teacher_rows = _match_metres(student, teacher)
    if len(student_rows) == 0 and len(student) and len(teacher):
        raise DataError("distillation: no node of the student stands where one of the teacher stands; "
                        "do their ranges overlap?")
    return student.select(student_rows), teacher.select(teacher_rows)


def _cell_keys(nodes: NodeFeatures) -> Tensor:
    """One integer (N,) per frame and cell."""
    assert nodes.grid is not None and nodes.cells is not None
    width, height, depth = nodes.grid.size
    z, y, x = nodes.cells.unbind(dim=1)
    return ((nodes.batch_index * depth + z) * height + y) * width + x


def _match_keys(student_keys: Tensor, teacher_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of equal keys, in the student's order."""
    if len(teacher_keys) == 0:
        return teacher_keys, teacher_keys
    ordered, order = torch.sort(teacher_keys)
    at = torch.searchsorted(ordered, student_keys).clamp_(max=len(ordered) - 1)
    student_rows = torch.nonzero(ordered[at] == student_keys).flatten()
    return student_rows, order[at[student_rows]]


def _match_metres(student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
    """Rows of each student node with a teacher node near enough, and of that teacher node."""
    assert student.grid is not None and teacher.grid is not None, "nodes without a grid cannot be matched by place"
    shared = torch.nonzero(torch.isin(student.batch_index, teacher.batch_index)).flatten()
    nearest = knn(student.coords[shared], teacher.coords, 1, student.batch_index[shared], teacher.batch_index)[:, 0]
    cells = torch.tensor([student.grid.cell_size_m, teacher.grid.cell_size_m], device=student.coords.device)
    tolerance_m = cells.amax(dim=0) / 2 + PLACE_MARGIN_M
    near = ((student.coords[shared] - teacher.coords[nearest]).abs() <= tolerance_m).all(dim=1)
    return shared[near], nearest[near]
