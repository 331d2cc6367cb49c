"""The slot ``vfe`` for pillars: PillarVFE and the two encoders of dynamic pillars.

The checkpoint's modules keep one row for all empty slots of a pillar. A graph of fixed shapes has
every slot instead, with zeros in empty ones, as PointPillars describes it: the same maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

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
    if len(vfe.pfn_layers) == 1 and not vfe.with_distance:
        rows = PillarRows(vfe, num_slots, voxels, counts, coords)
        return _add_encoder_of_one_layer(graph, rows)
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


class PillarRows(NamedTuple):
    """Pillars of a fixed number of slots, for an encoder of one layer.

    Attributes:
        vfe: the encoder.
        num_slots: points that a pillar may have.
        voxels: (P, slots, features).
        counts: (P,) int32, points of each pillar.
        coords: (P, 3) int32, z, y, x.
    """

    vfe: PillarVFE
    num_slots: int
    voxels: str
    counts: str
    coords: str


def _add_encoder_of_one_layer(graph: Graph, rows: PillarRows) -> str:
    """Features (P, C) of pillars: the layer on whole rows, without a table of input features.

    With q a point relative to the centre of its pillar, own x, y, z are q + centre, and the offset
    to the mean is q - (mean - centre). So the layer is one matrix on q and one on the pillar's
    centre and mean. A row holds all slots of a pillar. Matrices of 0 and 1 repeat a value in all
    slots, because runtimes repeat short vectors slowly.
    """
    vfe, num_slots = rows.vfe, rows.num_slots
    count = graph.add("Unsqueeze", graph.add("Cast", rows.counts, to=graph.FLOAT), [1])
    point_weight, pillar_weight, bias, num_features = _weights_of_one_layer(vfe)
    width = num_slots * num_features
    flat = graph.add("Reshape", rows.voxels, [0, width])
    centre = _centres(graph, vfe, rows.coords)
    repeat = np.tile(np.eye(num_features, dtype=np.float32), num_slots)
    relative = graph.add("Sub", flat, graph.add("MatMul", centre, repeat[:3]))
    # An empty slot repeats the first point, which changes no maximum.
    slots = np.repeat(np.arange(num_slots, dtype=np.float32), num_features)
    is_point = graph.add("Less", slots, count)
    first = graph.add("MatMul", columns_of(graph, relative, 0, num_features), repeat)
    points = graph.add("Where", is_point, relative, first)
    points = graph.add("Reshape", points, [0, num_slots, num_features])
    product = graph.add("MatMul", points, point_weight)
    best = graph.add("ReduceMax", product, [1], keepdims=0)
    total = graph.add("MatMul", flat, np.ascontiguousarray(repeat[:3].T))
    mean = graph.add("Div", total, graph.add("Max", count, 1.0))
    of_pillar = graph.add("Concat", centre, graph.add("Sub", mean, centre), axis=1)
    best = graph.add("Add", best, graph.add("MatMul", of_pillar, pillar_weight))
    # All input features of an empty slot are zero, and so is their product.
    has_empty = graph.add("Less", count, float(num_slots))
    lowest = float(np.finfo(np.float32).min)
    best = graph.add("Max", best, graph.add("Where", has_empty, 0.0, lowest))
    return graph.add("Relu", graph.add("Add", best, bias), name=FEATURES)


def _weights_of_one_layer(vfe: PillarVFE) -> tuple[Tensor, Tensor, Tensor, int]:
    """Weights of a relative point (features, C) and of centre and mean (6, C), bias, features."""
    (layer,) = vfe.pfn_layers
    assert isinstance(layer, PFNLayer)
    affine = affine_of(layer.linear, layer.norm if layer.use_norm else None)
    weight = affine.weight.t()
    num_own = len(weight) - vfe.num_offsets()
    own, of_mean, of_centre = weight[:num_own], weight[num_own : num_own + 3], weight[num_own + 3 :]
    if vfe.use_absolute_xyz:
        own_xyz, further = own[:3], own[3:]
    else:
        own_xyz, further = torch.zeros_like(of_mean), own
    of_point = torch.cat([own_xyz + of_mean + of_centre, further]).contiguous()
    of_pillar = torch.cat([own_xyz, -of_mean]).contiguous()
    return of_point, of_pillar, affine.bias, len(of_point)


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
