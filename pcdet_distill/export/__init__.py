"""Export: a checkpoint as files that run without this package.

command       ``pcdet-distill export``; ``hub_command`` and ``variants`` its other formats
exporter      a ``Detector`` to an ``Export``: the network, and the config beside it
config        what ``config.json`` says: how points become inputs and outputs become boxes
network       which slots are written; ``slots`` has a file for each kind, ``graph`` the nodes
boxes         outputs of a network to final boxes; ``post_processing`` which of them stay
check         network and checkpoint on the same frames: ``raw_outputs``, then ``same_boxes``;
              ``reference`` is the checkpoint's own road, step by step
comparison    AP side by side; ``latency`` the times
runners       the network in onnxruntime or OpenVINO
exported      an exported folder as a detector in Python
folder        what a robot copies; ``assets/detect.py`` runs it with numpy and onnxruntime alone
hub           a folder for Hugging Face; ``model_card`` its README, of ``card_facts``
quantize      int8 convolutions
layouts       the files that programs of other projects read
"""

from __future__ import annotations

from .check import ExportError, check_export
from .config import ExportConfig
from .exported import ExportedDetector, load_exported
from .exporter import Export, export_detector
from .runners import OnnxRuntimeRunner, OpenVinoRunner

__all__ = [
    "Export",
    "ExportConfig",
    "ExportError",
    "ExportedDetector",
    "OnnxRuntimeRunner",
    "OpenVinoRunner",
    "check_export",
    "export_detector",
    "load_exported",
]
