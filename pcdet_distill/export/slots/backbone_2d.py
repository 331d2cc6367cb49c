"""The slot ``backbone_2d``: convolutions on the bird's eye view."""

from __future__ import annotations

from collections.abc import Sequence

from ...models.backbones_2d.base_bev_backbone import BaseBEVBackbone, BaseBEVBackboneV1
from ..graph import Graph
from .layers import add_sequence

PATH = "backbone_2d"
JOINED = "levels_joined"


def add_backbone_2d(graph: Graph, module: BaseBEVBackbone, features: str) -> str:
    """``spatial_features_2d`` of ``spatial_features`` (1, C, ny, nx)."""
    levels = []
    for number, block in enumerate(module.blocks):
        features = add_sequence(graph, features, block, f"{PATH}.blocks.{number}")
        level = features
        if len(module.deblocks):
            deblock = module.deblocks[number]
            level = add_sequence(graph, features, deblock, f"{PATH}.deblocks.{number}")
        levels.append(level)
    if len(levels) > 1:
        features = graph.add("Concat", *levels, axis=1, name=JOINED)
    elif levels:
        features = levels[0]
    number = len(module.blocks)
    if len(module.deblocks) > number:
        path = f"{PATH}.deblocks.{number}"
        features = add_sequence(graph, features, module.deblocks[number], path)
    return features


def add_backbone_2d_of_levels(
    graph: Graph, module: BaseBEVBackboneV1, levels: Sequence[str]
) -> str:
    """``spatial_features_2d`` of x_conv4 (1, C, ny, nx) and x_conv5 (1, C, ny / 2, nx / 2)."""
    upper, deeper = levels
    upper = add_sequence(graph, upper, module.deblocks[0], f"{PATH}.deblocks.0")
    deeper = add_sequence(graph, deeper, module.blocks[1], f"{PATH}.blocks.1")
    deeper = add_sequence(graph, deeper, module.deblocks[1], f"{PATH}.deblocks.1")
    joined = graph.add("Concat", upper, deeper, axis=1)
    return add_sequence(graph, joined, module.blocks[0], f"{PATH}.blocks.0")
