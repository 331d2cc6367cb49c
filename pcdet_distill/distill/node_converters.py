"""From a captured feature to nodes, for every kind of tap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..errors import DataError
from ..types import BatchDict
from .node_matching import points_in_cells
from .nodes import NodeFeatures, NodeGrid

# Cells of two proposals for one car may be half a cell apart.
ROI_REACH_M = 0.3

# Kinds of taps whose places are given in metres.
GRIDLESS_KINDS = ("point", "roi")


class SparseTensor(Protocol):
    """The sparse tensor of this package, or spconv's.

    Attributes:
        features: (N, C).
        indices: (N, 4) frame, z, y, x, or (N, 3) frame, y, x.
        spatial_shape: cells along z, y, x, or y, x.
    """

    features: Tensor
    indices: Tensor
    spatial_shape: Sequence[int]


def voxel_nodes(feature: Tensor, batch_dict: BatchDict, grid: NodeGrid) -> NodeFeatures:
    """Voxel or pillar features (N, C), row i standing at ``voxel_coords[i]`` (b, z, y, x).

    The saliency is ``voxel_num_points``. Without it, as in OpenPCDet's dynamic pillars, the
    ``points`` are counted.
    """
    coords = batch_dict["voxel_coords"].long()
    _check_rows(feature, coords, "voxel", "voxel_coords")
    frame = coords[:, 0]
    cells = coords[:, 1:]
    nodes = NodeFeatures(feature, frame, grid.centres(cells), frame, cells, grid)
    counts = batch_dict.get("voxel_num_points")
    if counts is None or len(counts) != len(coords):
        counts = points_in_cells(nodes, batch_dict["points"])
    return dataclasses.replace(nodes, saliency=counts)


def bev_nodes(feature: Tensor, batch_dict: BatchDict, grid: NodeGrid) -> NodeFeatures:
    """Every cell of a map (B, C, H, W), empty ones too. The saliency is the channel maximum."""
    frames, channels, height, width = feature.shape
    features = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    axes = [torch.arange(extent, device=feature.device) for extent in (frames, 1, height, width)]
    indices = torch.cartesian_prod(*axes)  # (B * H * W, 4) b, z, y, x
    cells = indices[:, 1:]
    saliency = features.detach().amax(dim=1)
    return NodeFeatures(features, indices[:, 0], grid.centres(cells), saliency, cells, grid)


def sparse_nodes(tensor: SparseTensor, batch_dict: BatchDict, grid: NodeGrid) -> NodeFeatures:
    """The active cells of a sparse tensor. The saliency is the number of ``points`` in a cell.

    ``grid`` has the tensor's stride along x and y, and the height of the voxels. The height of the
    tensor decides how high its cells are.
    """
    indices = tensor.indices.long()
    shape = [int(extent) for extent in tensor.spatial_shape]
    if indices.shape[1] == 3:
        frame, places = indices.split((1, 2), dim=1)
        indices = torch.cat([frame, torch.zeros_like(frame), places], dim=1)
        shape = [1, *shape]
    # An encoder may pad its grid by a layer or two at the top. Its cells are then still as high as
    # a voxel.
    if shape[0] < grid.size[2]:
        grid = grid.coarsen(1, layers=shape[0])
    grid = dataclasses.replace(grid, size=(shape[2], shape[1], shape[0]))
    frame = indices[:, 0]
    cells = indices[:, 1:]
    nodes = NodeFeatures(tensor.features, frame, grid.centres(cells), frame, cells, grid)
    return dataclasses.replace(nodes, saliency=points_in_cells(nodes, batch_dict["points"]))


def point_nodes(feature: Tensor, batch_dict: BatchDict, grid: NodeGrid | None) -> NodeFeatures:
    """Point features (N, C), row i standing at ``point_coords[i]`` (b, x, y, z) in metres."""
    coords = batch_dict["point_coords"]
    _check_rows(feature, coords, "point", "point_coords")
    saliency = feature.detach().amax(dim=1)
    return NodeFeatures(feature, coords[:, 0].long(), coords[:, 1:4], saliency)


def roi_nodes(feature: Tensor, batch_dict: BatchDict, grid: NodeGrid | None) -> NodeFeatures:
    """Features (N, C) inside proposals, row i at ``roi_point_coords[i]`` (b, x, y, z) in metres.

    Rows with frame -1 are padding, and are left out.
    """
    coords = batch_dict["roi_point_coords"]
    _check_rows(feature, coords, "roi", "roi_point_coords")
    nodes = NodeFeatures(
        features=feature,
        batch_index=coords[:, 0].long(),
        coords=coords[:, 1:4],
        saliency=feature.detach().amax(dim=1),
        reach_m=ROI_REACH_M,
        may_miss=True,
    )
    return nodes.select(torch.nonzero(nodes.batch_index >= 0).flatten())


def _check_rows(feature: Tensor, coords: Tensor, kind: str, key: str) -> None:
    if len(coords) != len(feature):
        raise DataError(f"a {kind} tap delivered {len(feature)} rows, but {key} has {len(coords)}")


# By the kind of the tap: feature, batch_dict and grid to nodes.
NODE_CONVERTERS: Mapping[str, Callable[..., NodeFeatures]] = {
    "voxel": voxel_nodes,
    "bev": bev_nodes,
    "sparse": sparse_nodes,
    "point": point_nodes,
    "roi": roi_nodes,
}
