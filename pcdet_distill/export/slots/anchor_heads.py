"""Anchor heads: class scores after the sigmoid, and boxes decoded from anchors and directions.

Anchors stand on a regular grid, so the file holds their positions along x and along y, not all of
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import ConfigError
from ...models.dense_heads.anchor_head_multi import AnchorHeadMulti, SingleHead
from ...models.dense_heads.anchor_head_single import AnchorHeadSingle
from ...models.dense_heads.anchor_head_template import HEADING, AnchorHeadTemplate
from ...models.dense_heads.direction_bins import DirectionBins
from ...models.model_utils.box_coders import ResidualCoder
from ..config import HeadSpec
from ..graph import Graph, columns_of
from .layers import add_sequence
from .trigonometry import add_atan2, add_limit_period

PATH = "dense_head"


def add_anchor_head_single(graph: Graph, head: AnchorHeadSingle, features: str) -> list[HeadSpec]:
    """Outputs ``boxes`` (A, 7 + C), ``scores`` (A, classes), by y, x, then anchor of a cell."""
    nx, ny = head.feature_map_size
    per_cell = sum(head.num_anchors_per_location)
    shape = (ny, nx, per_cell)
    raw = {}
    for kind, name in (("cls", "conv_cls"), ("box", "conv_box"), ("dir", "conv_dir_cls")):
        layer = getattr(head, name)
        if layer is None:
            continue
        prediction = add_sequence(graph, features, layer, f"{PATH}.{name}")
        prediction = graph.add("Transpose", prediction, perm=[0, 2, 3, 1])
        width = layer.out_channels // per_cell
        raw[kind] = graph.add("Reshape", prediction, [*shape, width])
    anchors = head.flat_anchors.reshape(*shape, -1)
    grid = AnchorGrid.of(anchors, x_axis=1, y_axis=0)
    boxes = _add_boxes(graph, head, raw["box"], raw.get("dir"), grid)
    labels = tuple(range(1, head.num_class + 1))
    return [_add_outputs(graph, boxes, raw["cls"], math.prod(shape), labels, head, "")]


def add_anchor_head_multi(graph: Graph, head: AnchorHeadMulti, features: str) -> list[HeadSpec]:
    """Outputs ``boxes_N`` and ``scores_N`` of every head N, by anchor of a cell, then y, x."""
    if head.shared_conv is not None:
        features = add_sequence(graph, features, head.shared_conv, f"{PATH}.shared_conv")
    nx, ny = head.feature_map_size
    column_labels = head.prediction_layout().head_labels
    specs = []
    first = 0
    for number, own in enumerate(head.rpn_heads):
        assert isinstance(own, SingleHead)
        raw = _add_small_head(graph, own, features, f"{PATH}.rpn_heads.{number}", (ny, nx))
        shape = (own.num_anchors, ny, nx)
        last = first + math.prod(shape)
        anchors = head.flat_anchors[first:last].reshape(*shape, -1)
        grid = AnchorGrid.of(anchors, x_axis=2, y_axis=1)
        boxes = _add_boxes(graph, head, raw["box"], raw.get("dir"), grid)
        suffix = f"_{number}" if len(head.rpn_heads) > 1 else ""
        labels = column_labels[number]
        specs.append(_add_outputs(graph, boxes, raw["cls"], last - first, labels, head, suffix))
        first = last
    return specs


def _add_small_head(
    graph: Graph, head: SingleHead, features: str, path: str, map_size: tuple[int, int]
) -> dict[str, str]:
    """Raw predictions (anchors, ny, nx, width) of one of several heads, by kind."""
    raw = {"cls": add_sequence(graph, features, head.conv_cls, f"{path}.conv_cls")}
    if isinstance(head.conv_box, torch.nn.ModuleDict):
        parts = []
        for name, branch in head.conv_box.items():
            parts.append(add_sequence(graph, features, branch, f"{path}.conv_box.{name}"))
        raw["box"] = graph.add("Concat", *parts, axis=1)
    else:
        raw["box"] = add_sequence(graph, features, head.conv_box, f"{path}.conv_box")
    if head.conv_dir_cls is not None:
        raw["dir"] = add_sequence(graph, features, head.conv_dir_cls, f"{path}.conv_dir_cls")
    widths = {"cls": head.num_class, "box": head.code_size, "dir": head.num_dir_bins}
    for kind, prediction in raw.items():
        by_anchor = [head.num_anchors, widths[kind], *map_size]
        prediction = graph.add("Reshape", prediction, by_anchor)
        raw[kind] = graph.add("Transpose", prediction, perm=[0, 2, 3, 1])
    return raw


class AnchorGrid(NamedTuple):
    """Anchors of a map: parts that broadcast to all of them.

    Attributes:
        x, y: positions; z: heights; size: dx, dy, dz; heading; further: velocities and the like.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    size: Tensor
    heading: Tensor
    further: Tensor

    @classmethod
    def of(cls, anchors: Tensor, *, x_axis: int, y_axis: int) -> AnchorGrid:
        """The parts of anchors (., ., ., 7 + C), two of whose axes are x and y.

        x differs along the x axis and between the anchors of a cell, y along the y axis and between
        them, everything else between them only.
        """
        x = anchors[..., 0:1].narrow(y_axis, 0, 1)
        y = anchors[..., 1:2].narrow(x_axis, 0, 1)
        cell = anchors.narrow(x_axis, 0, 1).narrow(y_axis, 0, 1)
        grid = cls(x, y, cell[..., 2:3], cell[..., 3:6], cell[..., 6:7], cell[..., 7:])
        shape = anchors.shape[:-1]
        again = [part.expand(*shape, part.shape[-1]) for part in grid]
        if not torch.equal(torch.cat(again, dim=-1), anchors):
            raise ConfigError(f"{PATH}: its anchors do not stand on a grid, as an export expects")
        return grid


def _add_boxes(
    graph: Graph, head: AnchorHeadTemplate, codes: str, directions: str | None, grid: AnchorGrid
) -> str:
    """Boxes (., ., ., 7 + C) of codes: ``ResidualCoder.decode_torch`` and ``DirectionBins``."""
    coder = head.box_coder
    assert isinstance(coder, ResidualCoder)
    diagonal = torch.sqrt(grid.size[..., 0:1] ** 2 + grid.size[..., 1:2] ** 2)
    x = _scaled(graph, columns_of(graph, codes, 0, 1), diagonal, grid.x)
    y = _scaled(graph, columns_of(graph, codes, 1, 2), diagonal, grid.y)
    z = _scaled(graph, columns_of(graph, codes, 2, 3), grid.size[..., 2:3], grid.z)
    size = graph.add("Mul", graph.add("Exp", columns_of(graph, codes, 3, 6)), grid.size)
    angle = columns_of(graph, codes, HEADING, HEADING + 1)
    if coder.encode_angle_by_sincos:
        sine = columns_of(graph, codes, HEADING + 1, HEADING + 2)
        cosine = graph.add("Add", angle, grid.heading.cos())
        heading = add_atan2(graph, graph.add("Add", sine, grid.heading.sin()), cosine)
    else:
        heading = graph.add("Add", angle, grid.heading)
    if directions is not None and head.directions is not None:
        heading = _add_direction(graph, head.directions, heading, directions)
    parts = [x, y, z, size, heading]
    num_further = coder.box_size - 7
    if num_further:
        further = columns_of(graph, codes, coder.code_size - num_further, coder.code_size)
        parts.append(graph.add("Add", further, grid.further))
    return graph.add("Concat", *parts, axis=3)


def _scaled(graph: Graph, value: str, scale: Tensor, start: Tensor) -> str:
    return graph.add("Add", graph.add("Mul", value, scale), start)


def _add_direction(graph: Graph, bins: DirectionBins, heading: str, logits: str) -> str:
    """Headings turned into the bin with the highest of the logits (..., bins)."""
    from_offset = graph.add("Sub", heading, bins.offset_rad)
    within_bin = add_limit_period(graph, from_offset, bins.limit_offset, bins.width_rad)
    best_bin = graph.add("ArgMax", logits, axis=-1, keepdims=1)
    turn = graph.add("Mul", graph.add("Cast", best_bin, to=graph.FLOAT), bins.width_rad)
    return graph.add("Add", graph.add("Add", within_bin, bins.offset_rad), turn)


def _add_outputs(
    graph: Graph,
    boxes: str,
    logits: str,
    num_anchors: int,
    labels: Sequence[int],
    head: AnchorHeadTemplate,
    suffix: str,
) -> HeadSpec:
    """Declare the outputs of one head."""
    box_size = head.box_coder.box_size
    boxes = graph.add("Reshape", boxes, [num_anchors, box_size], name=f"boxes{suffix}")
    logits = graph.add("Reshape", logits, [num_anchors, len(labels)])
    scores = graph.add("Sigmoid", logits, name=f"scores{suffix}")
    graph.add_output(boxes, "float32", (num_anchors, box_size))
    graph.add_output(scores, "float32", (num_anchors, len(labels)))
    return HeadSpec(
        boxes=boxes, scores=scores, labels=None, column_labels=tuple(labels), filter_scores=None
    )
