"""One network and its parameters as NVIDIA's CUDA-PointPillars reads them.

The program groups and decorates the points, and decodes the anchors (``cuda_program.py``). Between
them stands one network: ``voxels`` (V, 32, 10), ``voxel_idxs`` (V, 4) as 0, 0, y, x and
``voxel_num`` (1,), to the outputs of the head's three convolutions, channels last. V is fixed. Rows
from ``voxel_num`` on are unused.

NVIDIA's file scatters the pillars by a plugin of its own, ``PPScatterPlugin``, which only TensorRT
with that plugin can run. Two files are written:

* ``pointpillar.onnx`` scatters by ScatterND. It is plain ONNX, so it is checked here, and TensorRT
  needs no plugin for it.
* ``pointpillar_plugin.onnx`` is the same network with the plugin in that place.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ...extras import import_extra
from ...models import Detector3DTemplate
from ...models.dense_heads.anchor_head_single import AnchorHeadSingle
from ...types import ConfigDict
from ..config import ExportConfig
from ..graph import Graph, int32
from ..slots.backbone_2d import add_backbone_2d
from ..slots.layers import add_sequence
from .pillars import SLOTS, TO_CENTRE, TO_MEAN, add_decorated_encoder, check_encoder, check_map

if TYPE_CHECKING:
    import onnx

PROGRAM = "CUDA-PointPillars"
PLAIN_FILE = "pointpillar.onnx"
PLUGIN_FILE = "pointpillar_plugin.onnx"
PARAMETER_FILE = "pointpillar_parameters.json"
PLUGIN = "PPScatterPlugin"
POST_PROCESS = "PostProcessParameter"

POINT_COLUMNS = ("x", "y", "z", "intensity")
COLUMNS = (*POINT_COLUMNS, *TO_MEAN, *TO_CENTRE)
CHANNELS = 64  # PILLAR_FEATURE_SIZE of the plugin's kernel
MOST_CLASSES = 3  # the bottom heights of the anchors are the three numbers of a Float3
NUM_DIRECTIONS = 2
BOX_SIZE = 7
# The outputs, with the convolutions of the head that make them.
OUTPUTS = {"cls_preds": "conv_cls", "box_preds": "conv_box", "dir_cls_preds": "conv_dir_cls"}


@dataclasses.dataclass(frozen=True)
class CudaPointPillarsNetwork:
    """The network, and the part of it that the plugin can replace.

    Attributes:
        graph: all of it.
        scatter_nodes: numbers of the first node that scatters, and of the first behind.
        pillars: name of the tensor before the scatter, (V, 64).
        spatial: name of the tensor behind, (1, 64, ny, nx).
        map_shape: ny, nx.
    """

    graph: Graph
    scatter_nodes: tuple[int, int]
    pillars: str
    spatial: str
    map_shape: tuple[int, int]


def write_network(model: Detector3DTemplate, config: ExportConfig) -> CudaPointPillarsNetwork:
    """The graph of a detector in eval mode whose weights are on the CPU.

    Args:
        model: the detector.
        config: of its export in one file.

    Raises:
        ConfigError: what the program cannot run, in a sentence.
    """
    head = _check_head(model)
    scatter, backbone = check_map(model, PROGRAM)
    max_points, max_voxels = config.voxels.max_points, config.voxels.max_voxels
    encoder = check_encoder(
        model,
        features=config.points.features,
        max_points=max_points,
        known_features=POINT_COLUMNS,
        channels=CHANNELS,
        program=PROGRAM,
    )
    assert max_points is not None and max_voxels is not None
    graph = Graph()
    decorated = graph.add_input("voxels", "float32", (max_voxels, SLOTS, len(COLUMNS)))
    graph.add_input("voxel_idxs", "int32", (max_voxels, 4))
    graph.add_input("voxel_num", "int32", (1,))
    pillars = add_decorated_encoder(
        graph,
        encoder,
        decorated=decorated,
        features=config.points.features,
        columns=COLUMNS,
        max_points=max_points,
        channels=CHANNELS,
        name="pillar_features",
    )
    map_shape = (scatter.ny, scatter.nx)
    first = len(graph.nodes)
    spatial = _add_scatter(graph, pillars, max_voxels, map_shape)
    behind = len(graph.nodes)
    if scatter.num_bev_features < CHANNELS:
        spatial_of_own = graph.add("Slice", spatial, [0], [scatter.num_bev_features], [1])
    else:
        spatial_of_own = spatial
    features = add_backbone_2d(graph, backbone, spatial_of_own)
    _write_head(graph, head, features)
    return CudaPointPillarsNetwork(graph, (first, behind), pillars, spatial, map_shape)


def _add_scatter(graph: Graph, pillars: str, max_voxels: int, map_shape: tuple[int, int]) -> str:
    """The map (1, 64, ny, nx) of the used rows of pillars (V, 64)."""
    ny, nx = map_shape
    _, _, y, x = graph.add_with_outputs("Split", "voxel_idxs", [1] * 4, names=[""] * 4, axis=1)
    cell = graph.add("Add", graph.add("Mul", y, int32(nx)), x)
    # Unused rows go to one more cell, which is cut off.
    rows = int32(range(max_voxels))
    is_used = graph.add("Unsqueeze", graph.add("Less", rows, "voxel_num"), [1])
    cell = graph.add("Where", is_used, cell, int32(nx * ny))
    cell = graph.add("Cast", cell, to=graph.INT64)
    canvas = graph.add("Expand", 0.0, [nx * ny + 1, CHANNELS])
    canvas = graph.add("ScatterND", canvas, cell, pillars)
    canvas = graph.add("Slice", canvas, [0], [nx * ny], [0])
    canvas = graph.add("Reshape", canvas, [1, ny, nx, CHANNELS])
    return graph.add("Transpose", canvas, perm=[0, 3, 1, 2], name="spatial_features")


def _write_head(graph: Graph, head: AnchorHeadSingle, features: str) -> None:
    nx, ny = head.feature_map_size
    for output, name in OUTPUTS.items():
        layer = getattr(head, name)
        prediction = add_sequence(graph, features, layer, name)
        graph.add("Transpose", prediction, perm=[0, 2, 3, 1], name=output)
        graph.add_output(output, "float32", (1, ny, nx, layer.out_channels))


def with_plugin(model: onnx.ModelProto, network: CudaPointPillarsNetwork) -> onnx.ModelProto:
    """The network with NVIDIA's plugin in the place of the nodes that scatter.

    Args:
        model: of ``network.graph``.
    """
    helper = import_extra("onnx", needed_by="export").helper
    plugin = helper.make_node(
        PLUGIN,
        [network.pillars, "voxel_idxs", "voxel_num"],
        [network.spatial],
        name="PPScatter_0",
        dense_shape=list(network.map_shape),
    )
    first, behind = network.scatter_nodes
    nodes = list(model.graph.node)
    nodes[first:behind] = [plugin]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    changed = type(model)()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    del changed.graph.initializer[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(constants)
    return changed


def _check_head(model: Detector3DTemplate) -> AnchorHeadSingle:
    head = model.dense_head
    where = "MODEL.DENSE_HEAD"
    if type(head) is not AnchorHeadSingle:
        raise ConfigError(
            f"{where} is {type(head).__name__}, but {PROGRAM} decodes the anchors of an "
            "AnchorHeadSingle; for CenterHead there is --layout autoware"
        )
    bins = head.directions
    if bins is None or bins.count != NUM_DIRECTIONS or bins.limit_offset != 0:
        raise ConfigError(
            f"{where}: {PROGRAM} reads a direction of {NUM_DIRECTIONS} bins with DIR_LIMIT_OFFSET 0"
        )
    if head.box_coder.code_size != BOX_SIZE:
        raise ConfigError(
            f"{where}.TARGET_ASSIGNER_CONFIG: a box code has {head.box_coder.code_size} numbers, "
            f"but {PROGRAM} decodes {BOX_SIZE}"
        )
    generators = head.model_cfg["ANCHOR_GENERATOR_CONFIG"]
    if len(generators) > MOST_CLASSES:
        raise ConfigError(
            f"{where}.ANCHOR_GENERATOR_CONFIG has {len(generators)} classes, but {PROGRAM} has "
            f"room for {MOST_CLASSES}"
        )
    for entry in generators:
        _check_anchors(entry, f"{where}.ANCHOR_GENERATOR_CONFIG of {entry['class_name']}")
    return head


def _check_anchors(entry: ConfigDict, where: str) -> None:
    """One size, two headings, one height, spread from one end of the range to the other."""
    keys = ("anchor_sizes", "anchor_rotations", "anchor_bottom_heights")
    counts = [len(entry[key]) for key in keys]
    if counts != [1, 2, 1]:
        raise ConfigError(
            f"{where}: {counts[0]} sizes, {counts[1]} rotations and {counts[2]} bottom heights, "
            f"but {PROGRAM} reads 1, 2 and 1"
        )
    if entry.get("align_center", False):
        raise ConfigError(
            f"{where}: align_center is true, but {PROGRAM} spreads anchors from one end of the "
            "range to the other"
        )


def program_parameters(
    model: Detector3DTemplate, config: ExportConfig, network: CudaPointPillarsNetwork
) -> dict[str, ConfigDict]:
    """The constants to compile into the program, by its structures and their fields."""
    head = _check_head(model)
    assert head.directions is not None
    anchors: list[list[float]] = []
    bottoms = []
    for entry in head.model_cfg["ANCHOR_GENERATOR_CONFIG"]:
        size = [float(edge) for edge in entry["anchor_sizes"][0]]
        for rotation in entry["anchor_rotations"]:
            anchors.append([*size, float(rotation)])
        bottoms.append(float(entry["anchor_bottom_heights"][0]))
    ny, nx = network.map_shape
    limits = [float(limit) for limit in config.points.range_m]
    voxelization = {
        "min_range": limits[:3],
        "max_range": limits[3:],
        "voxel_size": [float(edge) for edge in config.voxels.size_m],
        "grid_size": [nx, ny, 1],
        "max_voxels": config.voxels.max_voxels,
        "max_points_per_voxel": SLOTS,
        "num_feature": len(POINT_COLUMNS),
    }
    post_process = {
        "min_range": limits[:3],
        "max_range": limits[3:],
        "feature_size": [int(cells) for cells in head.feature_map_size],
        "num_classes": head.num_class,
        "num_anchors": len(anchors),
        "len_per_anchor": 4,
        "anchors": anchors,
        "anchor_bottom_heights": bottoms,
        "num_box_values": BOX_SIZE,
        "score_thresh": config.post_processing.score_threshold,
        "dir_offset": head.directions.offset_rad,
        "nms_thresh": config.post_processing.nms[0].threshold,
    }
    return {
        "VoxelizationParameter": voxelization,
        POST_PROCESS: post_process,
        "class_names": {str(number): name for number, name in enumerate(config.class_names)},
    }
