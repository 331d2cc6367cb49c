"""The files of a layout, and the other program's road through them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Protocol

import numpy as np
import yaml

from ...config import lookup
from ...inference import Detector
from ..boxes import FrameBoxes
from ..config import ExportConfig, PostProcessing
from ..exporter import model_bytes, on_cpu, write_model
from ..runners import OnnxRuntimeRunner
from . import autoware, cuda_pointpillars
from .autoware_node import AutowareNode
from .cuda_program import CudaProgram

# The intensities of these datasets are 0..255, those of others 0..1.
BYTE_INTENSITIES = ("NuScenesDataset", "Argo2Dataset")
# TensorRT reads no newer operators than it was built for; both programs' own files have older ones.
OPSET = 18


class Program(Protocol):
    """The road of another program from points to final boxes."""

    def __call__(self, points: np.ndarray, rules: PostProcessing | None = None) -> FrameBoxes:
        """The final boxes of points (N, C), by the detector's rules or by others."""


@dataclasses.dataclass(frozen=True)
class LayoutFiles:
    """What a layout writes.

    Attributes:
        contents: by file name.
        program: the other program in numpy, with the networks in onnxruntime.
        notes: what a user of the files has to know, a sentence each.
    """

    contents: dict[str, bytes]
    program: Program
    notes: tuple[str, ...]


def write_layout(
    name: str, detector: Detector, config: ExportConfig, opset: int | None = None
) -> LayoutFiles:
    """The files of a detector in the layout ``name``.

    Args:
        name: of ``LAYOUTS``.
        detector: of ``load_detector``.
        config: of its export in one file.
        opset: version of ONNX's operators.

    Raises:
        ConfigError: what the other program cannot run, in a sentence.
    """
    write = lookup(LAYOUTS, name, "--layout")
    return write(detector, config, OPSET if opset is None else opset)


def _write_autoware(detector: Detector, config: ExportConfig, opset: int) -> LayoutFiles:
    largest = largest_intensity(detector)
    networks = autoware.write_networks(on_cpu(detector), config, largest_intensity=largest)
    encoder = write_model(networks.encoder, opset)
    bev = write_model(networks.bev, opset)
    parameters = autoware.node_parameters(config, networks)
    contents = {
        autoware.ENCODER_FILE: model_bytes(encoder),
        autoware.HEAD_FILE: model_bytes(bev),
        autoware.PARAMETER_FILE: _yaml(parameters),
        autoware.REMAPPER_FILE: _yaml(autoware.remapper_parameters()),
    }
    node = AutowareNode(
        OnnxRuntimeRunner(encoder),
        OnnxRuntimeRunner(bev),
        config,
        stride=networks.stride,
        largest_intensity=largest,
    )
    notes = ["the node has its own NMS: circle_nms_dist_threshold and iou_nms_threshold"]
    unknown = autoware.unknown_class_names(networks.class_names)
    if unknown:
        notes.append(f"the node publishes {', '.join(unknown)} as UNKNOWN")
    if "timestamp" not in config.points.features:
        notes.append(
            "the detector learnt from single scans: set densification_params.num_past_frames to 0"
        )
    return LayoutFiles(contents, node, tuple(notes))


def _write_cuda_pointpillars(detector: Detector, config: ExportConfig, opset: int) -> LayoutFiles:
    model = on_cpu(detector)
    network = cuda_pointpillars.write_network(model, config)
    plain = write_model(network.graph, opset)
    plugin = cuda_pointpillars.with_plugin(plain, network)
    parameters = cuda_pointpillars.program_parameters(model, config, network)
    contents = {
        cuda_pointpillars.PLAIN_FILE: model_bytes(plain),
        cuda_pointpillars.PLUGIN_FILE: model_bytes(plugin),
        cuda_pointpillars.PARAMETER_FILE: (json.dumps(parameters, indent=2) + "\n").encode(),
    }
    program = CudaProgram(
        OnnxRuntimeRunner(plain), config, parameters[cuda_pointpillars.POST_PROCESS]
    )
    notes = [
        f"{cuda_pointpillars.PARAMETER_FILE} holds the constants to compile into the program",
        f"{cuda_pointpillars.PLUGIN_FILE} runs in TensorRT alone, so it was not run here",
    ]
    return LayoutFiles(contents, program, tuple(notes))


LAYOUTS: dict[str, Callable[[Detector, ExportConfig, int], LayoutFiles]] = {
    "autoware": _write_autoware,
    "cuda_pointpillars": _write_cuda_pointpillars,
}


def largest_intensity(detector: Detector) -> float:
    """Of the points that the detector learnt from: 1 or 255."""
    return 255.0 if detector.cfg.DATA_CONFIG.get("DATASET") in BYTE_INTENSITIES else 1.0


def _yaml(content: dict[str, object]) -> bytes:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None).encode()
