"""The pillar encoder for programs that decorate the points themselves.

Autoware's node and CUDA-PointPillars hand over a table (pillars, 32 slots, columns) that holds the
offsets already: a column for every input feature. They fix its columns, its slots and the channels
of the pillars. A checkpoint may have fewer of each:

* A column that it never learnt from gets weights of zero.
* Its pillars may have fewer slots. Then it takes the first ones, and the offsets to the mean are
  computed again for these.
* Missing channels are zero.

So the numbers are the checkpoint's own, whatever the other program fixes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...config import nearest
from ...errors import ConfigError
from ...models import Detector3DTemplate
from ...models.backbones_2d.base_bev_backbone import BaseBEVBackbone
from ...models.backbones_2d.map_to_bev.pointpillar_scatter import PointPillarScatter
from ...models.backbones_3d.vfe.pillar_vfe import PFNLayer, PillarEncoder, PillarVFE
from ..boxes import FrameBoxes, final_boxes
from ..config import ExportConfig, HeadSpec, PostProcessing
from ..graph import Graph, columns_of
from ..slots.layers import affine_of

TO_MEAN = ("to_mean_x", "to_mean_y", "to_mean_z")
TO_CENTRE = ("to_centre_x", "to_centre_y", "to_centre_z")
SLOTS = 32  # of a pillar, in the kernels of both programs


def check_encoder(
    model: Detector3DTemplate,
    *,
    features: Sequence[str],
    max_points: int | None,
    known_features: Sequence[str],
    channels: int,
    program: str,
) -> PillarVFE:
    """The encoder, if the other program can feed it.

    Args:
        model: the detector.
        features: names of the point columns that it learnt from.
        max_points: slots of its pillars.
        known_features: point columns of the other program.
        channels: of a pillar in the other program.
        program: its name, for messages.

    Raises:
        ConfigError: what does not fit.
    """
    encoder = model.vfe
    if type(encoder) is not PillarVFE:
        name = type(encoder).__name__
        raise ConfigError(
            f"MODEL.VFE is {name}, but {program} makes pillars for PillarVFE, of up to {SLOTS} "
            "points"
        )
    if encoder.with_distance:
        raise ConfigError(
            f"MODEL.VFE.WITH_DISTANCE is true, but {program} computes no distance of a point"
        )
    for name in features:
        if name not in known_features:
            raise ConfigError(
                f"DATA_CONFIG.POINT_FEATURE_ENCODING: {program} knows no '{name}' of a point, only "
                f"{', '.join(known_features)}{nearest(name, known_features)}"
            )
    if max_points is None or max_points > SLOTS:
        raise ConfigError(
            f"DATA_CONFIG.DATA_PROCESSOR: MAX_POINTS_PER_VOXEL is {max_points}, but a pillar of "
            f"{program} has {SLOTS} slots"
        )
    width = encoder.get_output_feature_dim()
    if width > channels:
        raise ConfigError(
            f"MODEL.VFE.NUM_FILTERS ends with {width}, but {program} is compiled for pillars of "
            f"{channels} channels; a student with {channels} or fewer fits"
        )
    return encoder


def add_decorated_encoder(
    graph: Graph,
    encoder: PillarVFE,
    *,
    decorated: str,
    features: Sequence[str],
    columns: Sequence[str],
    max_points: int,
    channels: int,
    scale: Mapping[str, float] | None = None,
    name: str = "",
) -> str:
    """Pillar features (P, channels) of decorated points.

    Args:
        encoder: the checkpoint's.
        decorated: (P, 32, columns). Rows of zeros are empty slots.
        features: names of the point columns that the encoder learnt from, x, y, z first.
        columns: names of the table's columns.
        max_points: slots of the checkpoint's pillars, up to 32.
        channels: of a pillar in the other program.
        scale: by column, what the checkpoint multiplies the other program's values with.
        name: of the output.
    """
    values = decorated
    if max_points < SLOTS:
        values = _add_first_slots(graph, decorated, columns, max_points)
    inputs = _input_columns(encoder, features)
    for number, layer in enumerate(encoder.pfn_layers):
        assert isinstance(layer, PFNLayer)
        affine = affine_of(layer.linear, layer.norm if layer.use_norm else None)
        weight = affine.weight
        if number == 0:
            weight = _spread_columns(weight, inputs, columns, scale or {})
        product = graph.add("MatMul", values, weight.t().contiguous())
        if layer.last_vfe:
            # Adding a number and ReLU keep the order of numbers, so the maximum may come first.
            best = graph.add("ReduceMax", product, [1], keepdims=0)
            pillars = graph.add("Relu", graph.add("Add", best, affine.bias))
            return _add_missing_channels(graph, pillars, channels - len(affine.bias), name)
        own = graph.add("Relu", graph.add("Add", product, affine.bias))
        best = graph.add("ReduceMax", own, [1], keepdims=1)
        everywhere = graph.add("Tile", best, [1, max_points, 1])
        values = graph.add("Concat", own, everywhere, axis=2)
    raise AssertionError("the last layer of a pillar encoder is its last")


def check_map(
    model: Detector3DTemplate, program: str
) -> tuple[PointPillarScatter, BaseBEVBackbone]:
    """Scatter and 2D backbone, if the detector makes its map of pillars."""
    scatter = model.map_to_bev_module
    if type(scatter) is not PointPillarScatter:
        raise ConfigError(
            f"MODEL.MAP_TO_BEV is {type(scatter).__name__}, but {program} scatters pillars"
        )
    backbone = model.backbone_2d
    if type(backbone) is not BaseBEVBackbone:
        raise ConfigError(
            f"MODEL.BACKBONE_2D is {type(backbone).__name__}, but {program} has one map, as for "
            "BaseBEVBackbone"
        )
    return scatter, backbone


def candidates_to_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    config: ExportConfig,
    rules: PostProcessing,
) -> FrameBoxes:
    """The final boxes of what another program decoded.

    Args:
        boxes: (K, 7 or 9).
        scores: (K,).
        labels: (K,) from 1.
        config: of the detector.
        rules: the detector's, or others.
    """
    head = config.heads[0]
    spec = HeadSpec("boxes", "scores", "labels", column_labels=(), filter_scores=None)
    num_boxes, width = _shape_of(head.boxes, config)
    best = np.argsort(-scores, kind="stable")[:num_boxes]
    outputs = {
        "boxes": boxes[best, :width],
        "scores": scores[best].astype(np.float32),
        "labels": labels[best].astype(np.int32),
    }
    return final_boxes(outputs, dataclasses.replace(config, heads=(spec,)), rules)


def _shape_of(output: str, config: ExportConfig) -> tuple[int, int]:
    """The shape (K, columns) of an output of the detector's one network."""
    for spec in config.outputs:
        if spec.name == output:
            return int(spec.shape[0]), int(spec.shape[1])
    raise KeyError(output)


def _add_first_slots(graph: Graph, decorated: str, columns: Sequence[str], max_points: int) -> str:
    """The first slots, with offsets to the mean of the points in them."""
    kept = graph.add("Slice", decorated, [0], [max_points], [1])
    # A point at the origin of all columns does not occur: its offset to the centre is not zero.
    size = graph.add("ReduceSum", graph.add("Abs", kept), [2], keepdims=1)
    is_point = graph.add("Cast", graph.add("Greater", size, 0.0), to=graph.FLOAT)
    count = graph.add("Max", graph.add("ReduceSum", is_point, [1], keepdims=1), 1.0)
    xyz = columns_of(graph, kept, 0, 3)
    mean = graph.add("Div", graph.add("ReduceSum", xyz, [1], keepdims=1), count)
    to_mean = graph.add("Mul", graph.add("Sub", xyz, mean), is_point)
    start = list(columns).index(TO_MEAN[0])
    before = columns_of(graph, kept, 0, start)
    behind = columns_of(graph, kept, start + 3, len(columns))
    return graph.add("Concat", before, to_mean, behind, axis=2)


def _add_missing_channels(graph: Graph, pillars: str, missing: int, name: str) -> str:
    if missing == 0:
        return graph.add("Identity", pillars, name=name)
    return graph.add("Pad", pillars, [0, 0, 0, missing], 0.0, name=name)


def _input_columns(encoder: PillarEncoder, features: Sequence[str]) -> list[str]:
    """Names of the input features of the encoder's first layer, in order."""
    own = list(features) if encoder.use_absolute_xyz else list(features[3:])
    return [*own, *TO_MEAN, *TO_CENTRE]


def _spread_columns(
    weight: Tensor, inputs: Sequence[str], columns: Sequence[str], scale: Mapping[str, float]
) -> Tensor:
    """Weights (C, columns) of weights (C, inputs): columns that are no input have none."""
    wide = torch.zeros(len(weight), len(columns))
    for number, name in enumerate(inputs):
        wide[:, list(columns).index(name)] = weight[:, number] * scale.get(name, 1.0)
    return wide
