"""Distillation: a trained teacher improves a smaller student.

The detectors contain no distillation code.

``build_distiller`` reads the DISTILL block of a config, ``distill`` takes any two detectors. Both
return a ``Distiller``: a student, a ``Teacher``, and a ``DistillHead`` with the losses between
them.

distiller           what is trained in place of the student
build, api          from a yaml file, or from two detectors, to a Distiller
distill_head        the terms; ``schedule`` and ``gradient_share`` their weights
losses              one file a method; ``term_classes`` finds one by its NAME
batch_transforms    labels from a teacher, before the student runs; ``unsure`` where it says nothing
init                the student's first weights from the teacher
teacher             runs the teacher; ``teacher_memory`` and ``cache`` keep what it has computed
teacher_check       whether it fits the data; ``privilege`` whether it sees more than its student
precision           the teacher's number format; ``classes`` its classes by name

What a loss gets:

tap_source          the taps of a detector; ``tap_description`` their kind, channels and stride
term_inputs         features of both sides, as ``nodes`` or maps
node_converters     features to nodes; ``node_matching`` finds the same places
prediction_input    scores and boxes of both sides, as ``predictions``
prediction_readers  outputs of a head to predictions; ``prediction_matching`` finds the same places
labelled_boxes      the labelled boxes of a batch
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
