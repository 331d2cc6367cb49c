"""Distillation: a trained teacher improves a smaller student.

The detectors contain no distillation code.

``build_distiller`` reads the DISTILL block of a config, ``distill`` takes any two detectors. Both
return a ``Distiller``: a student, a ``Teacher``, and a ``DistillHead`` with the losses between
them.
"""

from __future__ import annotations

from ..moved import forward_names
from .api import VoxelSpace, distill
from .batch_transforms import BATCH_TRANSFORMS, BatchTransform
from .build import build_distiller, build_teacher, check_block, find_teacher
from .classes import ClassMap
from .distill_head import DistillHead, DistillTerm
from .distiller import Distiller
from .losses import (
    DISTILL_LOSSES,
    DistillLoss,
    GraphDistillLoss,
    GraphOptions,
    MapLoss,
    NodeLoss,
    PredictionLoss,
)
from .node_matching import match_nodes
from .nodes import NodeFeatures, NodeGrid
from .predictions import Predictions
from .schedule import WeightSchedule
from .tap_source import TapSource
from .teacher import Teacher
from .teacher_check import TeacherReport, check_teacher

__all__ = [
    "BATCH_TRANSFORMS",
    "DISTILL_LOSSES",
    "BatchTransform",
    "ClassMap",
    "DistillHead",
    "DistillLoss",
    "DistillTerm",
    "Distiller",
    "GraphDistillLoss",
    "GraphOptions",
    "MapLoss",
    "NodeFeatures",
    "NodeGrid",
    "NodeLoss",
    "PredictionLoss",
    "Predictions",
    "TapSource",
    "Teacher",
    "TeacherReport",
    "VoxelSpace",
    "WeightSchedule",
    "build_distiller",
    "build_teacher",
    "check_block",
    "check_teacher",
    "distill",
    "find_teacher",
    "match_nodes",
]

# Old names, for one more version.
__getattr__ = forward_names(
    __name__,
    "pcdet_distill.distill.init",
    {"InitOptions": "InitOptions", "StudentStart": "StudentInit"},
)
