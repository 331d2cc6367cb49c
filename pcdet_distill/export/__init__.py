"""Export: a checkpoint as files that run without this package.

command       ``pcdet-distill export``
exporter      a ``Detector`` to an ``Export``: the network, and the config beside it
config        what ``config.json`` says: how points become inputs and outputs become boxes
network       which slots are written; ``slots/`` has a file for each kind, ``graph`` the nodes
check         network and checkpoint on the same frames; the first tensor that differs
comparison    AP side by side; ``latency`` the times
exported      an exported folder as a detector in Python
folder, hub   what is written; ``assets/detect.py`` runs it with numpy and onnxruntime alone
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
