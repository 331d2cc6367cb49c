"""Distillation: a trained teacher makes a smaller student better. The detectors know nothing of it.

``build_distiller`` reads the DISTILL block of a config, ``distill`` takes any two detectors; ``Distiller``,
``Teacher``, ``DistillHead`` and the losses are their parts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..config import DistillOptions, read_options
from ..errors import ConfigError
from ..types import ConfigDict
from .api import VoxelSpace, distill
from .classes import ClassMap
from .distill_head import DistillHead, DistillTerm, TapSource
from .distiller import Distiller
from .init import InitOptions, StudentInit
from .losses import DISTILL_LOSSES, DistillLoss, GraphDistillLoss, GraphOptions
from .nodes import NodeFeatures, NodeGrid, match_nodes
from .predictions import Predictions
from .schedule import WeightSchedule
from .teacher import Teacher, build_teacher
from .teacher_check import TeacherReport, check_teacher

__all__ = [
    "DISTILL_LOSSES",
    "ClassMap",
    "DistillHead",
    "DistillLoss",
    "DistillTerm",
    "Distiller",
    "GraphDistillLoss",
    "GraphOptions",
    "NodeFeatures",
    "NodeGrid",
    "Predictions",
    "TapSource",
    "Teacher",
    "TeacherReport",
    "VoxelSpace",
    "WeightSchedule",
    "build_distiller",
    "build_teacher",
    "check_teacher",
    "distill",
    "match_nodes",
]


def build_distiller(
    cfg: Mapping[str, Any],
    student: nn.Module,
    dataset: Any,
    *,
    teacher_ckpt: str | Path | None = None,
    logger: logging.Logger | None = None,
) -> Distiller:
    """The distiller of a config with a DISTILL block.

    Args:
        cfg: the whole config, as ``load_config`` gives it.
        student: the detector of its MODEL block.
        dataset: the student's dataset or DataSpec.
        teacher_ckpt: takes the place of DISTILL.TEACHER.CKPT.
        logger: told what is compared with what.
    """
    block = cfg["DISTILL"]
    check_block(block)
    student_init = _student_init(block)
    terms = block.get("TERMS") or {}
    if not terms and student_init is None:
        raise ConfigError(
            "DISTILL.TERMS: expected at least one term, as TERMS: {LOCAL_GRAPH: {NAME: ...}}"
        )
    teacher = build_teacher(cfg, dataset, teacher_ckpt, logger, runs_in_training=bool(terms))
    head = DistillHead.from_config(
        terms,
        TapSource.of("student", student, dataset),
        TapSource.of("teacher", teacher.model, teacher.model.dataset),
    )
    if teacher.memory is not None:
        _refuse_what_is_not_kept(head)
    if any(term.loss.labels_frames for _, term in head.named_terms()) and hasattr(
        dataset, "take_unlabelled"
    ):
        dataset.take_unlabelled()
    if logger is not None:
        for name, term in head.named_terms():
            if term.student is not None:
                logger.info(
                    "distill %s: student %s learns from teacher %s, weight %s",
                    name,
                    term.student,
                    term.teacher,
                    term.schedule,
                )
    return Distiller(student, teacher, head, student_init)


def check_block(block: ConfigDict) -> None:
    """Refuse unknown keys and values of DISTILL; the terms read their own options."""
    read_options(DistillOptions, block, "DISTILL")


def _refuse_what_is_not_kept(head: DistillHead) -> None:
    """A teacher's memory holds features; what is read with the help of its own batch as well is not in it."""
    for name, term in head.named_terms():
        if term.teacher is not None and term.teacher.needs_batch:
            raise ConfigError(
                f"DISTILL.TEACHER.REUSE: term {name} compares {term.teacher}, whose places only a run of "
                "the teacher tells; it works with bev taps and with heads of anchors or centres"
            )


def _student_init(block: Mapping[str, Any]) -> StudentInit | None:
    """The initialisation of DISTILL.INIT_STUDENT; None leaves the student's random weights."""
    options = InitOptions.from_config(block.get("INIT_STUDENT"))
    return None if options.mode == "NONE" else StudentInit(options)
