"""The slot ``vfe`` for pillars: PillarVFE and the two encoders of dynamic pillars.

The checkpoint's modules keep one row for all empty slots of a pillar. A graph of fixed shapes has
every slot instead, with zeros in empty ones, as PointPillars describes it: the same maximum.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from ...models.backbones_3d.vfe.dynamic_pillar_vfe import (
    DynamicPillarEncoder,
    DynamicPillarVFE,
)
from ...models.backbones_3d.vfe.pillar_vfe import PFNLayer, PillarEncoder, PillarVFE
from ..graph import Graph, columns_of
from .layers import affine_of

FEATURES = "vfe@pillar_features"


def add_pillar_encoder(
    graph: Graph, vfe: PillarVFE, *, num_slots: int, voxels: str, counts: str, coords: str
) -> str:
    """Features (P, C) of pillars.

    Args:
        num_slots: points that a pillar may have.
        voxels: (P, slots, features).
        counts: (P,) int32, points of each pillar.
        coords: (P, 3) int32, z, y, x.
    """
    count = graph.add("Cast", counts, to=graph.FLOAT)
    divisor = graph.add("Unsqueeze", graph.add("Max", count, 1.0), [1, 2])
    xyz = columns_of(graph, voxels, 0, 3)
    total = graph.add("ReduceSum", xyz, [1], keepdims=1)
    to_mean = graph.add("Sub", xyz, graph.add("Div", total, divisor))
    centre = graph.add("Unsqueeze", _centres(graph, vfe, coords), [1])
    to_centre = graph.add("Sub", xyz, centre)
    parts = [_own_features(graph, vfe, voxels), to_mean, to_centre, *_distances(graph, vfe, xyz)]
    decorated = graph.add("Concat", *parts, axis=2)
    slots = np.arange(num_slots, dtype=np.float32)
    is_point = graph.add("Less", slots, graph.add("Unsqueeze", count, [1]))
    is_point = graph.add("Cast", graph.add("Unsqueeze", is_point, [2]), to=graph.FLOAT)
    features = graph.add("Mul", decorated, is_point)
    for layer in vfe.pfn_layers:
        assert isinstance(layer, PFNLayer)
        features = _add_fixed_layer(graph, features, layer, num_slots)
    return features


def _add_fixed_layer(graph: Graph, features: str, layer: PFNLayer, num_slots: int) -> str:
    """(P, slots, C_in) -> (P, slots, C_out), or (P, C_out) for the last layer."""
    affine = affine_of(layer.linear, layer.norm if layer.use_norm else None)
    product = graph.add("MatMul", features, affine.weight.t().contiguous())
    if layer.last_vfe:
        # Adding a number and ReLU keep the order of numbers. So the maximum may come first, and
        # both have one row for each pillar instead of one for each slot.
        best = graph.add("ReduceMax", product, [1], keepdims=0)
        return graph.add("Relu", graph.add("Add", best, affine.bias), name=FEATURES)
    own = graph.add("Relu", graph.add("Add", product, affine.bias))
    best = graph.add("ReduceMax", own, [1], keepdims=1)
    best_everywhere = graph.add("Tile", best, [1, num_slots, 1])
    return graph.add("Concat", own, best_everywhere, axis=2)


def add_dynamic_pillar_encoder(
    graph: Graph, vfe: DynamicPillarEncoder, *, points: str, pillar: str, coords: str
) -> tuple[str, str]:
    """Features (P, C) of pillars that hold any number of points, and which (P,) hold one at all.

    Args:
        points: (N, features).
        pillar: (N,) int32, the row of ``coords`` that each point belongs to.
        coords: (P, 3) int32, z, y, x.
    """
    place = graph.add("Unsqueeze", graph.add("Cast", pillar, to=graph.INT64), [1])
    num_pillars = graph.add("Shape", coords, start=0, end=1)
    rows = PillarsOfPoints(graph, place, num_pillars)
    xyz = columns_of(graph, points, 0, 3)
    to_mean = graph.add("Sub", xyz, rows.spread(rows.mean(xyz)))
    to_centre = graph.add("Sub", xyz, rows.spread(_centres(graph, vfe, coords)))
    own = _own_features(graph, vfe, points)
    if isinstance(vfe, DynamicPillarVFE):
        parts = [own, to_mean, to_centre]
    else:
        uses_mean = vfe.num_offsets() == 6
        parts = [to_centre, own, *([to_mean] if uses_mean else [])]
    features = graph.add("Concat", *parts, *_distances(graph, vfe, xyz), axis=1)
    for layer in vfe.pfn_layers:
        assert isinstance(layer, PFNLayer)
        affine = affine_of(layer.linear, layer.norm if layer.use_norm else None)
        product = graph.add("MatMul", features, affine.weight.t().contiguous())
        own = graph.add("Relu", graph.add("Add", product, affine.bias))
        name = FEATURES if layer.last_vfe else ""
        # ReLU leaves nothing below zero, so zero is where a maximum can start.
        best = rows.reduce(own, "max", channels=len(affine.bias), start=0.0, name=name)
        if layer.last_vfe:
            return best, rows.are_filled()
        features = graph.add("Concat", own, rows.spread(best), axis=1)
    raise AssertionError("the last layer of a pillar encoder is its last")


class PillarsOfPoints:
    """Values of points gathered by pillar, and values of pillars spread to their points.

    Args:
        place: (N, 1) int64, the pillar of each point.
        num_pillars: (1,) int64.
    """

    def __init__(self, graph: Graph, place: str, num_pillars: str) -> None:
        self.graph = graph
        self.place = place
        self.num_pillars = num_pillars
        one = graph.add("Expand", 1.0, graph.add("Shape", place))
        self.count = self.reduce(one, "add", channels=1, start=0.0)

    def reduce(self, values: str, how: str, *, channels: int, start: float, name: str = "") -> str:
        """(N, channels) -> (P, channels): ``add`` or ``max`` over the points of each pillar."""
        graph = self.graph
        shape = graph.add("Concat", self.num_pillars, [channels], axis=0)
        first = graph.add("Expand", start, shape)
        return graph.add("ScatterND", first, self.place, values, reduction=how, name=name)

    def mean(self, values: str) -> str:
        """(N, 3) -> (P, 3)."""
        total = self.reduce(values, "add", channels=3, start=0.0)
        return self.graph.add("Div", total, self.graph.add("Max", self.count, 1.0))

    def are_filled(self) -> str:
        """(P,) bool: pillars with a point."""
        return self.graph.add("Reshape", self.graph.add("Greater", self.count, 0.0), [-1])

    def spread(self, values: str) -> str:
        """(P, C) -> (N, C)."""
        return self.graph.add("GatherND", values, self.place)


def _centres(graph: Graph, vfe: nn.Module, coords: str) -> str:
    """Centres (P, 3) x, y, z of the pillars; the height is that of the first voxel's centre."""
    cells = graph.add("Cast", graph.add("Gather", coords, [2, 1, 0], axis=1), to=graph.FLOAT)
    if isinstance(vfe, DynamicPillarEncoder):
        first = vfe.voxel_size / 2 + vfe.origin
    else:
        assert isinstance(vfe, PillarVFE)
        first = vfe.first_centre
    return graph.add("Add", graph.add("Mul", cells, vfe.voxel_size), first)


def _own_features(graph: Graph, vfe: PillarEncoder, points: str) -> str:
    """The features of a point as the data has them, without x, y, z unless configured."""
    if vfe.use_absolute_xyz:
        return points
    return columns_of(graph, points, 3, int(np.iinfo(np.int64).max))


def _distances(graph: Graph, vfe: PillarEncoder, xyz: str) -> list[str]:
    """The distance from the sensor, with WITH_DISTANCE only."""
    if not vfe.with_distance:
        return []
    squares = graph.add("ReduceSum", graph.add("Mul", xyz, xyz), [-1], keepdims=1)
    return [graph.add("Sqrt", squares)]
