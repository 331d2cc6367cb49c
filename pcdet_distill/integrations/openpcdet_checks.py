"""What a DISTILL block may not hold around OpenPCDet's detectors, and teachers that do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from ..commands import command_text
from ..config import TeacherOptions, read_options, required
from ..datasets.view import processing_of
from ..distill import check_block
from ..distill.init import InitOptions
from ..errors import ConfigError
from ..types import ConfigDict
from .openpcdet_dataset import OpenPCDetDataset


def check_distill_block(block: ConfigDict, total_steps: int | None) -> None:
    """Refuse keys and values of DISTILL that cannot be used here."""
    check_block(block)
    has_init = InitOptions.from_config(block.get("INIT_STUDENT")).mode != "NONE"
    terms = block.get("TERMS") or {}
    if not terms and not has_init:
        required(block, "TERMS", "DISTILL")
        raise ConfigError("DISTILL.TERMS: expected at least one term, or INIT_STUDENT")
    _refuse_stored_outputs(block)
    if total_steps is not None:
        return
    for name, term in terms.items():
        weight = (term or {}).get("WEIGHT")
        if not isinstance(weight, Mapping):
            continue
        has_constant_share = weight.get("SHARE") is not None and weight.get("END") is None
        if not has_constant_share:
            raise ConfigError(
                f"DISTILL.TERMS.{name}.WEIGHT: it changes with the progress of the training; give "
                "distill_openpcdet total_steps, the iterations of the whole training"
            )


def _refuse_stored_outputs(block: ConfigDict) -> None:
    """Refuse CACHE and REUSE, which need what OpenPCDet's datasets do not record."""
    options = read_options(TeacherOptions, block.get("TEACHER") or {}, "DISTILL.TEACHER")
    if options.cache != "none":
        raise ConfigError(
            "DISTILL.TEACHER.CACHE: not available around OpenPCDet's datasets, which do not say "
            "which objects gt_sampling has pasted, so that stored predictions cannot follow them; "
            f"train with this package's '{command_text('train')}', or remove it"
        )
    if options.reuse > 1:
        raise ConfigError(
            "DISTILL.TEACHER.REUSE: not available around OpenPCDet's datasets, which cannot repeat "
            f"their augmented frames; train with this package's '{command_text('train')}', or "
            "remove it"
        )


def refuse_other_voxels(train_set: OpenPCDetDataset, teacher: nn.Module) -> None:
    """Refuse a given teacher with other voxels or another range, as far as its dataset has them."""
    teacher_data = getattr(teacher, "dataset", None)
    for name in ("voxel_size", "point_cloud_range"):
        student_value = getattr(train_set, name, None)
        teacher_value = getattr(teacher_data, name, None)
        if student_value is None or teacher_value is None:
            continue
        if not np.allclose(student_value, teacher_value, atol=1e-5):
            raise ConfigError(
                f"distill_openpcdet: the teacher's {name} is {list(teacher_value)}, the student's "
                f"{list(student_value)}; around OpenPCDet's detectors both share one batch"
            )


def refuse_other_processing(student_cfg: ConfigDict, teacher_cfg: ConfigDict) -> None:
    """Refuse a teacher with other voxels, range or point features: both share a batch."""
    student_data = _without_voxel_limits(student_cfg["DATA_CONFIG"])
    teacher_data = _without_voxel_limits(teacher_cfg["DATA_CONFIG"])
    if processing_of(student_data, training=True) != processing_of(teacher_data, training=True):
        raise ConfigError(
            "DISTILL.TEACHER: the teacher's POINT_CLOUD_RANGE, POINT_FEATURE_ENCODING or "
            "DATA_PROCESSOR is not the student's; around OpenPCDet's detectors both share one "
            f"batch. This package's own '{command_text('train')}' processes the points for each"
        )


def _without_voxel_limits(data_cfg: ConfigDict) -> ConfigDict:
    """A DATA_CONFIG without MAX_NUMBER_OF_VOXELS: a shared batch has the student's."""
    steps = []
    for step in data_cfg["DATA_PROCESSOR"]:
        steps.append({key: value for key, value in step.items() if key != "MAX_NUMBER_OF_VOXELS"})
    return {**data_cfg, "DATA_PROCESSOR": steps}
