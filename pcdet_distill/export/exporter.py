"""From a detector to the two things of an export: the network, and the config beside it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import __version__
from ..datasets.processor.data_processor import PointsToVoxels
from ..errors import ConfigError
from ..extras import import_extra
from ..inference import Detector
from ..models import Detector3DTemplate
from .config import FORMAT_VERSION, MODEL_FILE, ExportConfig, PointSpec, PostProcessing, VoxelSpec
from .graph import OLDEST_OPSET, Graph
from .network import Network, write_network
from .post_processing import post_processing_of
from .runners import OnnxRuntimeRunner

if TYPE_CHECKING:
    import onnx

LAYOUT = "boxes"
INTENSITY = "intensity"


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported detector.

    Attributes:
        model: the network.
        config: what stands beside it.
    """

    model: onnx.ModelProto
    config: ExportConfig


def export_detector(detector: Detector, checkpoint: Path, *, opset: int | None = None) -> Export:
    """The network of a detector from pillars to boxes, or of its dense part, and its config.

    Nothing is checked or written here.

    Args:
        detector: of ``load_detector``; its thresholds are those of the export.
        checkpoint: the file of its weights.
        opset: version of ONNX's operators; None for the newest that onnxruntime runs.
    """
    model = on_cpu(detector)
    voxels = _voxel_spec(detector)
    network = write_network(model, voxels.max_points)
    proto = write_model(network.graph, opset)
    config = ExportConfig(
        format_version=FORMAT_VERSION,
        package_version=__version__,
        detector=str(detector.cfg.MODEL.NAME),
        layout=LAYOUT,
        stages=network.stages,
        stages_outside=network.stages_outside,
        checkpoint=checkpoint.name,
        checkpoint_sha256=_sha256(checkpoint.read_bytes()),
        model=MODEL_FILE,
        model_sha256=_sha256(model_bytes(proto)),
        class_names=tuple(detector.class_names),
        points=_point_spec(detector),
        voxels=voxels,
        inputs=tuple(network.graph.inputs),
        outputs=tuple(network.graph.outputs),
        heads=network.heads,
        post_processing=_post_processing(detector, model, network),
    )
    return Export(proto, config)


def on_cpu(detector: Detector) -> Detector3DTemplate:
    """A copy of the detector's model with its weights on the CPU, in eval mode."""
    model = detector.model
    if not isinstance(model, Detector3DTemplate):
        raise ConfigError(
            f"{type(model).__name__} cannot be exported: expected a detector of this library"
        )
    if next(model.parameters()).device.type == "cpu":
        return model
    return copy.deepcopy(model).to(torch.device("cpu"))


def model_bytes(model: onnx.ModelProto) -> bytes:
    """The content of the network's file; the same network always gives the same bytes."""
    return model.SerializeToString(deterministic=True)


def write_model(graph: Graph, opset: int | None = None) -> onnx.ModelProto:
    """The network of a graph, in the newest version of operators that onnxruntime runs.

    Args:
        graph: what the network computes.
        opset: another version, for older runtimes.
    """
    newest = int(import_extra("onnx", needed_by="export").defs.onnx_opset_version())
    if opset is not None:
        if not OLDEST_OPSET <= opset <= newest:
            raise ConfigError(
                f"--opset {opset}: expected {OLDEST_OPSET} to {newest}, the newest that the "
                "installed onnx knows"
            )
        return graph.to_model(opset)
    for version in range(newest, OLDEST_OPSET, -1):
        model = graph.to_model(version)
        if _is_runnable(model):
            return model
    return graph.to_model(OLDEST_OPSET)


def _is_runnable(model: onnx.ModelProto) -> bool:
    """Whether the installed onnxruntime loads a network."""
    try:
        OnnxRuntimeRunner(model)
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 (the errors of onnxruntime have no base)
        return False
    return True


def _post_processing(
    detector: Detector, model: Detector3DTemplate, network: Network
) -> PostProcessing:
    with detector.settings.applied_to(model):
        return post_processing_of(model, network.heads)


def _point_spec(detector: Detector) -> PointSpec:
    dataset = detector.dataset
    features = tuple(dataset.point_feature_encoder.used_feature_list)
    divisor = dataset.model_input.divide_intensity
    scale = [1 / divisor if name == INTENSITY else 1.0 for name in features]
    limits = tuple(float(limit) for limit in dataset.point_cloud_range)
    largest = dataset.model_input.learnt_intensity_scale
    return PointSpec(features, limits, tuple(scale), largest)


def _voxel_spec(detector: Detector) -> VoxelSpec:
    processor = detector.dataset.data_processor
    size, grid = processor.voxel_size, processor.grid_size
    if size is None or grid is None:
        raise ConfigError(
            f"{detector.cfg.CONFIG_FILE} cannot be exported: DATA_PROCESSOR makes no voxels"
        )
    steps = [step for step in processor.steps if isinstance(step, PointsToVoxels)]
    return VoxelSpec(
        kind="fixed" if steps else "dynamic",
        size_m=tuple(float(edge) for edge in size),
        grid=tuple(int(cells) for cells in grid),
        max_points=steps[0].max_points if steps else None,
        max_voxels=steps[0].max_voxels if steps else None,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
