"""Nodes written by hand, for tests of the losses that see them."""

from __future__ import annotations

import dataclasses

import torch

from pcdet_distill.distill.node_converters import bev_nodes
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
