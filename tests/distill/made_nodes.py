"""Nodes written by hand, for tests of the losses that see them."""

from __future__ import annotations

import dataclasses

import torch

from pcdet_distill.distill.node_converters import bev_nodes, point_nodes, voxel_nodes
from pcdet_distill.distill.nodes import NodeFeatures, NodeGrid
from pcdet_distill.models.taps import TapInfo

BEV = "backbone_2d@spatial_features_2d"


def nodes(features, batch_index=None, coords=None, saliency=None, objectness=None):
    """Rows of features (N, C)."""
    features = torch.as_tensor(features, dtype=torch.float32)
    index = (
        torch.zeros(len(features), dtype=torch.long)
        if batch_index is None
        else torch.tensor(batch_index)
    )
    coords = (
        torch.zeros(len(features), 3)
        if coords is None
        else torch.as_tensor(coords, dtype=torch.float32)
    )
    saliency = features.detach().amax(dim=1) if saliency is None else torch.as_tensor(saliency)
    return NodeFeatures(
        features,
        index,
        coords,
        saliency,
        objectness=None if objectness is None else torch.as_tensor(objectness),
    )


def map_nodes(feature, cell_m=1.0):
    """Every cell of a map (B, C, H, W)."""
    feature = torch.as_tensor(feature, dtype=torch.float32)
    grid = NodeGrid(
        (cell_m, cell_m, 4.0), (0.0, 0.0, -3.0), (feature.shape[3], feature.shape[2], 1)
    )
    return bev_nodes(feature, {}, grid)


def nodes_of_kind(kind, features, frames, side):
    """Rows (N, C) as the nodes of ``frames`` squares of ``side`` by ``side`` metres.

    A pillar or point stands in every cell of a metre; pillars hold 1 to 31 points.
    """
    grid = NodeGrid((1.0, 1.0, 4.0), (0.0, 0.0, -3.0), (side, side, 1))
    if kind == "bev":
        maps = features.view(frames, side, side, -1).permute(0, 3, 1, 2)
        return bev_nodes(maps, {}, grid)
    cells = torch.cartesian_prod(torch.arange(frames), torch.arange(side), torch.arange(side))
    frame, y, x = cells.unbind(dim=1)
    none = torch.zeros_like(x)
    if kind == "point":
        coords = torch.stack([frame, x + 0.5, y + 0.5, none], dim=1)
        return point_nodes(features, {"point_coords": coords}, None)
    points = torch.arange(len(features)) * 7 % 31 + 1
    batch = {
        "voxel_coords": torch.stack([frame, none, y, x], dim=1),
        "voxel_num_points": points.float(),
    }
    return voxel_nodes(features, batch, grid)


def tap(channels, kind="bev"):
    return TapInfo(BEV, channels, None if kind == "point" else 1, kind)


def choices_of(options_class):
    """The accepted words of every option that has a list of them, by field name."""
    choices = {}
    for field in dataclasses.fields(options_class):
        if field.metadata["option"].choices:
            choices[field.name] = field.metadata["option"].choices
    return choices


def identity(linear):
    """Make an adapter pass on the first channels as they are."""
    with torch.no_grad():
        linear.weight.zero_()
        for channel in range(min(linear.weight.shape[:2])):
            linear.weight[channel, channel] = 1
        if linear.bias is not None:
            linear.bias.zero_()
