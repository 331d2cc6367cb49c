"""PredictionLayout: what the raw predictions of a head mean.

A distillation loss reads the predictions of two detectors and matches them box by box. Each head
describes its own predictions with one of the classes below. The reader then needs no knowledge of
the head that made them.

A layout is a snapshot: its tensors are on the device that the head was on when it made them.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from ..model_utils.box_coders import PointResidualCoder, ResidualCoder
from .direction_bins import DirectionBins


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionLayout:
    """Base of the layouts.

    Attributes:
        kind: name of the layout; a reader is chosen by it.
        modules: paths, relative to the head, of the modules whose outputs are the raw predictions.
        num_class: number of classes that the head predicts.
    """

    kind: ClassVar[str]

    modules: tuple[str, ...]
    num_class: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorLayout(PredictionLayout):
    """Predictions for every anchor, from convolutions that predict all anchors of a cell together.

    ``modules`` are the convolutions of class logits, box codes and, with ``directions``, direction
    logits. Each gives (B, anchors of a cell * width, ny, nx). With the channels moved last they
    reshape to (B, A, width) in the order of ``anchors``.

    Attributes:
        anchors: (A, 7 + C) boxes, to which the codes are relative.
        anchor_classes: (A,) int64, the class of each anchor as an index of ``class_names``.
        class_names: classes of the anchors, in the order of ANCHOR_GENERATOR_CONFIG.
        box_coder: turns codes into boxes and back.
        directions: None when the codes hold the full heading.
    """

    kind: ClassVar[str] = "anchor"

    anchors: Tensor
    anchor_classes: Tensor
    class_names: tuple[str, ...]
    box_coder: ResidualCoder
    directions: DirectionBins | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiAnchorLayout(AnchorLayout):
    """Predictions for every anchor, from several heads with anchors of their own.

    Each of ``modules`` gives a dict with ``cls_preds`` (B, A of the head, classes of the head),
    ``box_preds`` and, with ``directions``, ``dir_cls_preds``. Concatenated along the anchors they
    are in the order of ``anchors``.

    Attributes:
        head_labels: for each module the labels (from 1) of its class columns.
    """

    kind: ClassVar[str] = "multihead_anchor"

    head_labels: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenterLayout(PredictionLayout):
    """Predictions for every cell of a bird's eye view map, from several heads.

    Each of ``modules`` gives a dict: heatmap logits ``hm`` (B, classes of the head, ny, nx) and,
    for each of ``code_names``, (B, channels, ny, nx). ``center_targets.decode_centers`` turns the
    concatenated codes into boxes.

    Attributes:
        head_labels: for each module the labels (from 1) of its heatmaps.
        code_names: which outputs form the code of a box, in the order of its channels.
        map_size: (nx, ny) cells.
        cell_size_m: edges of a cell along x and y.
        origin_m: x and y of the corner of the first cell.
    """

    kind: ClassVar[str] = "center"

    head_labels: tuple[tuple[int, ...], ...]
    code_names: tuple[str, ...]
    map_size: tuple[int, int]
    cell_size_m: tuple[float, float]
    origin_m: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointLayout(PredictionLayout):
    """Predictions for every row of ``point_coords``.

    ``modules`` give class logits (N, num_class) and box codes (N, 8 + C), relative to the points.

    Attributes:
        box_coder: turns codes into boxes and back.
    """

    kind: ClassVar[str] = "point"

    box_coder: PointResidualCoder
