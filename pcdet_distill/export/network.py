"""The graph of a detector: which of its slots can be written, and writing them.

A pillar detector is written whole, from pillars to boxes. Of a detector with a sparse backbone the
dense part is written, which starts at the bird's eye view: ONNX has no sparse convolution. Anything
with a second stage, keypoints or a head that is not dense is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import nn

from ..errors import ConfigError
from ..models import Detector3DTemplate
from ..models.backbones_2d.base_bev_backbone import BaseBEVBackbone, BaseBEVBackboneV1
from ..models.backbones_2d.map_to_bev.height_compression import HeightCompression
from ..models.backbones_2d.map_to_bev.pointpillar_scatter import PointPillarScatter
from ..models.backbones_3d.vfe.dynamic_pillar_vfe import DynamicPillarVFE
from ..models.backbones_3d.vfe.pillar_vfe import PillarVFE
from ..models.dense_heads.anchor_head_multi import AnchorHeadMulti
from ..models.dense_heads.anchor_head_single import AnchorHeadSingle
from ..models.dense_heads.center_head import CenterHead
from .config import HeadSpec
from .graph import Graph, int32
from .slots.anchor_heads import add_anchor_head_multi, add_anchor_head_single
from .slots.backbone_2d import add_backbone_2d, add_backbone_2d_of_levels
from .slots.center_head import add_center_head
from .slots.pillar_encoder import add_dynamic_pillar_encoder, add_pillar_encoder
from .slots.scatter import add_scatter

# A writer of a head: the graph, the head, the name of ``spatial_features_2d``.
HeadWriter: TypeAlias = Callable[[Graph, Any, str], list[HeadSpec]]

HEADS: dict[type[nn.Module], HeadWriter] = {
    AnchorHeadSingle: add_anchor_head_single,
    AnchorHeadMulti: add_anchor_head_multi,
    CenterHead: add_center_head,
}
WHAT_CAN = (
    "what can be exported is PointPillars and CenterPoint with pillars, and the dense part of "
    "SECOND, CenterPoint with voxels and PillarNet"
)
# Slots of a second stage or of points, which have no graph here.
WITHOUT_GRAPH = {
    "roi_head": "a second stage, whose proposals differ in number from frame to frame",
    "point_head": "a head on points",
    "pfe": "keypoints",
}
# Inputs of a dense part: the map of a sparse backbone, or the two levels of PillarNet's.
MAP = "spatial_features"
LEVELS = ("x_conv4", "x_conv5")


@dataclasses.dataclass(frozen=True)
class Network:
    """The graph of a detector, or of its dense part.

    Attributes:
        graph: the nodes.
        stages: what the graph computes, in order.
        stages_outside: what runs before it.
        heads: its outputs.
    """

    graph: Graph
    stages: tuple[str, ...]
    stages_outside: tuple[str, ...]
    heads: tuple[HeadSpec, ...]


def write_network(model: Detector3DTemplate, max_points: int | None) -> Network:
    """The graph of a detector in eval mode whose weights are on the CPU.

    Args:
        model: the detector.
        max_points: slots of a pillar; None for pillars without a limit.
    """
    check_exportable(model)
    graph = Graph()
    head = slot_of(model, "dense_head")
    backbone_2d = slot_of(model, "backbone_2d")
    if model.backbone_3d is None:
        stages = ("pillar_encoder", "scatter", "backbone_2d", "heads")
        outside: tuple[str, ...] = ()
        features = _write_pillars(graph, model, max_points)
        features = _write_backbone_2d(graph, backbone_2d, [features])
    else:
        stages = ("backbone_2d", "heads")
        outside = ("voxel_encoder", "sparse_backbone")
        inputs = _add_map_inputs(graph, model)
        features = _write_backbone_2d(graph, backbone_2d, inputs)
    heads = HEADS[type(head)](graph, head, features)
    return Network(graph, stages, outside, tuple(heads))


def slot_of(model: Detector3DTemplate, name: str) -> Any:
    """The module of a slot; its type is that of the config."""
    return getattr(model, name)


def check_exportable(model: Detector3DTemplate) -> None:
    """A ConfigError that names the part which has no graph."""
    name = model.model_cfg.get("NAME", type(model).__name__)
    for slot, what in WITHOUT_GRAPH.items():
        module = getattr(model, slot)
        if module is not None:
            raise ConfigError(
                f"{name} cannot be exported: its {type(module).__name__} is {what}; {WHAT_CAN}"
            )
    expected: dict[str, Sequence[type[nn.Module]]] = {
        "dense_head": tuple(HEADS),
        "backbone_2d": (BaseBEVBackbone, BaseBEVBackboneV1),
    }
    if model.backbone_3d is None:
        expected["vfe"] = (PillarVFE, DynamicPillarVFE)
        expected["map_to_bev_module"] = (PointPillarScatter,)
    elif model.map_to_bev_module is not None:
        expected["map_to_bev_module"] = (HeightCompression,)
    for slot, known in expected.items():
        _check_slot(name, slot, slot_of(model, slot), known)


def _check_slot(
    name: str, slot: str, module: nn.Module | None, known: Sequence[type[nn.Module]]
) -> None:
    # Exactly these: a subclass may compute something else.
    if type(module) in known:
        return
    found = "nothing" if module is None else type(module).__name__
    names = ", ".join(kind.__name__ for kind in known)
    raise ConfigError(
        f"{name} cannot be exported: its {slot} is {found}, expected one of {names}; {WHAT_CAN}"
    )


def _write_pillars(graph: Graph, model: Detector3DTemplate, max_points: int | None) -> str:
    """Inputs, pillar encoder and scatter; returns the name of the map."""
    if isinstance(model.vfe, DynamicPillarVFE):
        features, is_pillar = _write_dynamic_encoder(graph, model)
    else:
        assert max_points is not None
        features, is_pillar = _write_fixed_encoder(graph, model, max_points)
    scatter = slot_of(model, "map_to_bev_module")
    return add_scatter(
        graph, scatter, features=features, coords="voxel_coords", is_pillar=is_pillar
    )


def _write_fixed_encoder(
    graph: Graph, model: Detector3DTemplate, max_points: int
) -> tuple[str, str]:
    num_features = model.dataset.point_feature_encoder.num_point_features
    voxels = graph.add_input("voxels", "float32", ("P", max_points, num_features))
    counts = graph.add_input("voxel_num_points", "int32", ("P",))
    coords = graph.add_input("voxel_coords", "int32", ("P", 3))
    features = add_pillar_encoder(
        graph,
        slot_of(model, "vfe"),
        num_slots=max_points,
        voxels=voxels,
        counts=counts,
        coords=coords,
    )
    return features, graph.add("Greater", counts, int32(0))


def _write_dynamic_encoder(graph: Graph, model: Detector3DTemplate) -> tuple[str, str]:
    num_features = model.dataset.point_feature_encoder.num_point_features
    points = graph.add_input("points", "float32", ("N", num_features))
    pillar = graph.add_input("point_pillar", "int32", ("N",))
    coords = graph.add_input("voxel_coords", "int32", ("P", 3))
    return add_dynamic_pillar_encoder(
        graph, slot_of(model, "vfe"), points=points, pillar=pillar, coords=coords
    )


def _add_map_inputs(graph: Graph, model: Detector3DTemplate) -> list[str]:
    """The maps that a sparse backbone leaves: one, or PillarNet's two levels."""
    stride = slot_of(model, "backbone_3d").output_stride
    backbone_2d = slot_of(model, "backbone_2d")
    if isinstance(backbone_2d, BaseBEVBackboneV1):
        upper, deeper = (backbone_2d.level_widths[name] for name in LEVELS)
        return [
            graph.add_input(LEVELS[0], "float32", _map_shape(model, upper, stride)),
            graph.add_input(LEVELS[1], "float32", _map_shape(model, deeper, 2 * stride)),
        ]
    channels = slot_of(model, "map_to_bev_module").num_bev_features
    return [graph.add_input(MAP, "float32", _map_shape(model, channels, stride))]


def _map_shape(model: Detector3DTemplate, channels: int, stride: int) -> tuple[int, ...]:
    """(1, C, ny, nx) of a map with a cell for ``stride`` voxels; the last cells may be cut."""
    grid = model.dataset.grid_size
    assert grid is not None
    nx, ny = (math.ceil(int(cells) / stride) for cells in grid[:2])
    return 1, channels, ny, nx


def _write_backbone_2d(graph: Graph, module: nn.Module, maps: Sequence[str]) -> str:
    if isinstance(module, BaseBEVBackboneV1):
        return add_backbone_2d_of_levels(graph, module, maps)
    assert isinstance(module, BaseBEVBackbone)
    return add_backbone_2d(graph, module, maps[0])
