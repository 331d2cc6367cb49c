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
from ..graph import Graph
from .layers import add_sequence
from .trigonometry import add_atan2, add_limit_period

PATH = "dense_head"


def add_anchor_head_single(graph: Graph, head: AnchorHeadSingle, features: str) -> list[HeadSpec]:
    """Outputs ``boxes`` (A, 7 + C), ``scores`` (A, classes), by y, x, then anchor of a cell."""
    nx, ny = head.feature_map_size
    per_cell = sum(head.num_anchors_per_location)
    raw = {}
    for kind, name in (("cls", "conv_cls"), ("box", "conv_box"), ("dir", "conv_dir_cls")):
        layer = getattr(head, name)
        if layer is None:
            continue
        prediction = add_sequence(graph, features, layer, f"{PATH}.{name}")
        by_anchor = [per_cell, layer.out_channels // per_cell, ny, nx]
        raw[kind] = graph.add("Reshape", prediction, by_anchor)
    anchors = head.flat_anchors.reshape(ny, nx, per_cell, -1).permute(2, 0, 1, 3)
    boxes = _add_boxes(graph, head, raw["box"], raw.get("dir"), AnchorGrid.of(anchors))
    labels = tuple(range(1, head.num_class + 1))
    order = AnchorOrder(per_cell, ny * nx, cells_first=True)
    return [_add_outputs(graph, boxes, raw["cls"], order, labels, head, "")]


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
        boxes = _add_boxes(graph, head, raw["box"], raw.get("dir"), AnchorGrid.of(anchors))
        suffix = f"_{number}" if len(head.rpn_heads) > 1 else ""
        labels = column_labels[number]
        order = AnchorOrder(own.num_anchors, ny * nx, cells_first=False)
        specs.append(_add_outputs(graph, boxes, raw["cls"], order, labels, head, suffix))
        first = last
    return specs


def _add_small_head(
    graph: Graph, head: SingleHead, features: str, path: str, map_size: tuple[int, int]
) -> dict[str, str]:
    """Raw predictions (anchors, width, ny, nx) of one of several heads, by kind."""
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
        raw[kind] = graph.add("Reshape", prediction, by_anchor)
    return raw


class AnchorGrid(NamedTuple):
    """Anchors of a map: parts that broadcast to (anchors, width, ny, nx).

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
    def of(cls, anchors: Tensor) -> AnchorGrid:
        """The parts of anchors (anchors of a cell, ny, nx, 7 + C).

        x differs along the x axis and between the anchors of a cell, y along the y axis and between
        them, everything else between them only.
        """
        planes = anchors.movedim(-1, 1)
        x = planes[:, 0:1, :1]
        y = planes[:, 1:2, :, :1]
        cell = planes[:, :, :1, :1]
        grid = cls(x, y, cell[:, 2:3], cell[:, 3:6], cell[:, 6:7], cell[:, 7:])
        again = [part.expand(-1, -1, *planes.shape[2:]) for part in grid]
        if not torch.equal(torch.cat(again, dim=1), planes):
            raise ConfigError(f"{PATH}: its anchors do not stand on a grid, as an export expects")
        return grid


class AnchorOrder(NamedTuple):
    """The rows of the outputs.

    Attributes:
        per_cell: anchors of a cell.
        num_cells: of the map.
        cells_first: the anchors of a cell follow each other, else the cells of an anchor.
    """

    per_cell: int
    num_cells: int
    cells_first: bool


def _add_boxes(
    graph: Graph, head: AnchorHeadTemplate, codes: str, directions: str | None, grid: AnchorGrid
) -> str:
    """Boxes (., 7 + C, ny, nx) of codes: ``ResidualCoder.decode_torch`` and ``DirectionBins``.

    Maps stay whole until the boxes are finished: runtimes compute on long rows of equal kind, and
    number by number where the seven numbers of a box are neighbours.
    """
    coder = head.box_coder
    assert isinstance(coder, ResidualCoder)
    diagonal = torch.sqrt(grid.size[:, 0:1] ** 2 + grid.size[:, 1:2] ** 2)
    x = _scaled(graph, _planes_of(graph, codes, 0, 1), diagonal, grid.x)
    y = _scaled(graph, _planes_of(graph, codes, 1, 2), diagonal, grid.y)
    z = _scaled(graph, _planes_of(graph, codes, 2, 3), grid.size[:, 2:3], grid.z)
    size = graph.add("Mul", graph.add("Exp", _planes_of(graph, codes, 3, 6)), grid.size)
    angle = _planes_of(graph, codes, HEADING, HEADING + 1)
    if coder.encode_angle_by_sincos:
        sine = _planes_of(graph, codes, HEADING + 1, HEADING + 2)
        cosine = graph.add("Add", angle, grid.heading.cos())
        heading = add_atan2(graph, graph.add("Add", sine, grid.heading.sin()), cosine)
    else:
        heading = graph.add("Add", angle, grid.heading)
    if directions is not None and head.directions is not None:
        heading = _add_direction(graph, head.directions, heading, directions)
    parts = [x, y, z, size, heading]
    num_further = coder.box_size - 7
    if num_further:
        further = _planes_of(graph, codes, coder.code_size - num_further, coder.code_size)
        parts.append(graph.add("Add", further, grid.further))
    return graph.add("Concat", *parts, axis=1)


def _planes_of(graph: Graph, tensor: str, start: int, end: int) -> str:
    """Planes ``start`` to ``end`` (exclusive) of the second axis."""
    return graph.add("Slice", tensor, [start], [end], [1])


def _scaled(graph: Graph, value: str, scale: Tensor, start: Tensor) -> str:
    return graph.add("Add", graph.add("Mul", value, scale), start)


def _add_direction(graph: Graph, bins: DirectionBins, heading: str, logits: str) -> str:
    """Headings turned into the bin with the highest of the logits (., bins, ny, nx)."""
    from_offset = graph.add("Sub", heading, bins.offset_rad)
    within_bin = add_limit_period(graph, from_offset, bins.limit_offset, bins.width_rad)
    best_bin = graph.add("ArgMax", logits, axis=1, keepdims=1)
    turn = graph.add("Mul", graph.add("Cast", best_bin, to=graph.FLOAT), bins.width_rad)
    return graph.add("Add", graph.add("Add", within_bin, bins.offset_rad), turn)


def _add_outputs(
    graph: Graph,
    boxes: str,
    logits: str,
    order: AnchorOrder,
    labels: Sequence[int],
    head: AnchorHeadTemplate,
    suffix: str,
) -> HeadSpec:
    """Declare the outputs of one head."""
    box_size = head.box_coder.box_size
    num_anchors = order.per_cell * order.num_cells
    boxes = _by_anchor(graph, boxes, order, box_size, f"boxes{suffix}")
    scores = graph.add("Sigmoid", logits)
    scores = _by_anchor(graph, scores, order, len(labels), f"scores{suffix}")
    graph.add_output(boxes, "float32", (num_anchors, box_size))
    graph.add_output(scores, "float32", (num_anchors, len(labels)))
    return HeadSpec(
        boxes=boxes, scores=scores, labels=None, column_labels=tuple(labels), filter_scores=None
    )


def _by_anchor(graph: Graph, planes: str, order: AnchorOrder, width: int, name: str) -> str:
    """Planes (anchors of a cell, width, ny, nx) to rows (A, width)."""
    if order.cells_first:
        flat = graph.add("Reshape", planes, [order.per_cell * width, order.num_cells])
        rows = graph.add("Transpose", flat, perm=[1, 0])
    else:
        flat = graph.add("Reshape", planes, [order.per_cell, width, order.num_cells])
        rows = graph.add("Transpose", flat, perm=[0, 2, 1])
    return graph.add("Reshape", rows, [order.per_cell * order.num_cells, width], name=name)
