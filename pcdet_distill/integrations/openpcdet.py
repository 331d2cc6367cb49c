"""Distillation inside OpenPCDet's own tools/train.py (v0.6), with the detectors of ``pcdet``.

Two lines, the second one directly behind the line that builds the model::

    from pcdet_distill.integrations.openpcdet import distill_openpcdet
    model = distill_openpcdet(model, cfg, train_set, logger=logger)

Without a DISTILL block in the yaml file they change nothing. With one, the model that is trained is
the distiller. In eval mode, in checkpoints and in every attribute it behaves as the student. So the
rest of train.py, and test.py, stay as they are.

This package uses only what OpenPCDet documents: detectors with named slots,
``forward(batch_dict)``, ``load_params_*``, datasets with ``collate_batch``. It is tested against a
stand-in with exactly this interface.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import TeacherOptions, read_options
from ..distill import ClassMap, Distiller, DistillHead, Teacher, check_teacher, distill
from ..errors import CheckpointError, ConfigError
from ..models import load_data_to_device
from ..types import BatchDict, ConfigDict
from .openpcdet_checks import (
    check_distill_block,
    refuse_other_processing,
    refuse_other_voxels,
)
from .openpcdet_dataset import DatasetOfTeacher, OpenPCDetDataset, sample_batch
from .openpcdet_heads import head_layout, refuse_unreadable_heads
from .openpcdet_init import init_openpcdet_student
from .openpcdet_state import DISTILL_STATE, distill_state_of, with_distill_state

__all__ = ["OpenPCDetDistiller", "build_openpcdet_teacher", "distill_openpcdet"]

EXAMPLE_FRAMES = 4  # for finding the channels of taps, and for the check of the teacher
LOG = logging.getLogger(__name__)


def distill_openpcdet(
    student: nn.Module,
    cfg: ConfigDict,
    train_set: OpenPCDetDataset,
    teacher_ckpt: str | Path | None = None,
    *,
    teacher: nn.Module | Teacher | None = None,
    example_batch: BatchDict | None = None,
    total_steps: int | None = None,
    logger: logging.Logger | None = None,
) -> nn.Module:
    """The module that train.py trains in place of ``student``.

    It is ``student`` itself without a DISTILL block, and with one that has INIT_STUDENT alone: then
    its weights were set.

    Args:
        student: as ``pcdet.models.build_network`` returns it.
        cfg: OpenPCDet's whole config.
        train_set: OpenPCDet's training dataset.
        teacher_ckpt: replaces DISTILL.TEACHER.CKPT.
        teacher: a trained detector for the same batches, in place of DISTILL.TEACHER, of which then
            only MODE is used. It may also be one of ``pcdet_distill.models``.
        example_batch: used in place of a few frames of ``train_set`` to find the channels of taps.
        total_steps: iterations of the whole training, for terms whose WEIGHT changes.
        logger: receives progress lines.
    """
    if not cfg.get("DISTILL"):
        return student
    logger = logger or LOG
    block = cfg["DISTILL"]
    check_distill_block(block, total_steps)
    if teacher is None:
        teacher = build_openpcdet_teacher(cfg, train_set, teacher_ckpt)
    else:
        _check_given_teacher(teacher, teacher_ckpt, train_set)
    teacher_model = _model_of(teacher)
    terms = block.get("TERMS") or {}
    refuse_unreadable_heads(terms, student, teacher_model)
    if torch.cuda.is_available():
        # train.py moves the model a few lines later; OpenPCDet's operators run nowhere else.
        student.cuda()
        teacher_model.cuda()
    init_openpcdet_student(student, teacher_model, block, train_set, logger)
    if not terms:
        return student
    if example_batch is None:
        example_batch = sample_batch(train_set, EXAMPLE_FRAMES)
    distiller = _build_and_check(student, teacher, block, train_set, dict(example_batch), logger)
    return OpenPCDetDistiller(student, distiller.teacher, distiller.head, total_steps)


def _build_and_check(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    block: ConfigDict,
    train_set: OpenPCDetDataset,
    example: BatchDict,
    logger: logging.Logger,
) -> Distiller:
    """The distiller of a DISTILL block, after its teacher was checked on an example batch."""
    distiller = distill(
        student,
        teacher,
        block["TERMS"],
        student_data=train_set,
        example_batch=example,
        teacher_mode=_teacher_mode(block),
        head_layout=head_layout,
    )
    for name, term in distiller.head.named_terms():
        logger.info(
            "distill %s: student %s learns from teacher %s", name, term.student, term.teacher
        )
    load_data_to_device(example, next(distiller.teacher.model.parameters()).device)
    check_teacher(distiller.teacher, [example], list(train_set.class_names)).log(logger)
    return distiller


def build_openpcdet_teacher(
    cfg: ConfigDict, train_set: OpenPCDetDataset, checkpoint: str | Path | None = None
) -> Teacher:
    """The teacher of DISTILL.TEACHER, built by ``pcdet``, with its weights.

    Args:
        cfg: the student's whole config.
        train_set: the student's dataset; teacher and student share its batches.
        checkpoint: replaces DISTILL.TEACHER.CKPT.
    """
    from pcdet.models import build_network

    block = cfg["DISTILL"].get("TEACHER") or {}
    file = checkpoint or block.get("CKPT")
    if not file:
        raise ConfigError(
            "DISTILL.TEACHER.CKPT: the teacher has no checkpoint; name one there or as teacher_ckpt"
        )
    state = load_checkpoint(file)["model_state"]
    teacher_cfg = _teacher_config(cfg, block)
    refuse_other_processing(cfg, teacher_cfg)
    data = DatasetOfTeacher(train_set, teacher_cfg["CLASS_NAMES"])
    model = build_network(
        model_cfg=teacher_cfg["MODEL"], num_class=len(data.class_names), dataset=data
    )
    load_model_state(model, state, strict=True, where=f"{file}, as the teacher")
    classes = ClassMap(cfg["CLASS_NAMES"], data.class_names)
    options = read_options(TeacherOptions, block, "DISTILL.TEACHER")
    return Teacher(model, options.mode, classes, precision=options.precision)


class OpenPCDetDistiller(Distiller):
    """A Distiller with the attributes and methods of an OpenPCDet detector, its student.

    Args:
        student: OpenPCDet's detector.
        teacher: as of a Distiller.
        head: as of a Distiller.
        total_steps: iterations of the whole training; without it no WEIGHT changes.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        head: DistillHead,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(student, teacher, head)
        self.total_steps = total_steps

    def __getattr__(self, name: str) -> Any:
        """All other attributes are the student's: ``dataset``, ``global_step``, its slots ..."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("student"), name)

    def forward(self, batch_dict: BatchDict) -> tuple:
        """The student's outputs; in training ``loss`` includes the distillation loss."""
        if not self.training:
            return self.student(batch_dict)
        if self.total_steps is not None:
            self.set_progress(min(1.0, float(self.global_step) / self.total_steps))
        ret_dict, tb_dict, disp_dict = super().forward(batch_dict)
        return ret_dict, _plain_numbers(tb_dict), _plain_numbers(disp_dict)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The student's state, with the distillation's own tensors in its metadata.

        As part of another module's state it is the student's alone.
        """
        state = self.student.state_dict(*args, **kwargs)
        is_part = args or kwargs.get("destination") is not None or kwargs.get("prefix")
        if is_part:
            return state
        distill_state = {key: value.detach().cpu() for key, value in self.head.state_dict().items()}
        return with_distill_state(state, distill_state)

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a student's state, and the distillation's own tensors if it has them."""
        distill_state = distill_state_of(state_dict)
        if distill_state is not None:
            load_model_state(self.head, distill_state, strict=True, where=DISTILL_STATE)
        return self.student.load_state_dict(state_dict, strict=strict)

    def load_params_with_optimizer(
        self,
        filename: str,
        to_cpu: bool = False,
        optimizer: torch.optim.Optimizer | None = None,
        logger: logging.Logger | None = None,
    ) -> tuple[int, int]:
        """OpenPCDet's method to resume; returns (it, epoch). The file must be of a distillation."""
        distill_state = distill_state_of(load_checkpoint(filename)["model_state"])
        if distill_state is None:
            message = (
                f"{filename}: no {DISTILL_STATE} in it, so this distillation cannot be resumed "
                "from it; to start from a plain detector give it as --pretrained_model"
            )
            # train.py catches every error and tries the next file: the log is all that remains.
            (logger or LOG).error(message)
            raise CheckpointError(message)
        where = f"{filename} ({DISTILL_STATE})"
        load_model_state(self.head, distill_state, strict=True, where=where)
        load_student: Any = self.student.load_params_with_optimizer
        return load_student(filename, to_cpu=to_cpu, optimizer=optimizer, logger=logger)


def _check_given_teacher(
    teacher: nn.Module | Teacher, teacher_ckpt: str | Path | None, train_set: OpenPCDetDataset
) -> None:
    """Refuse a teacher beside a checkpoint, and one with other voxels than the student's."""
    if teacher_ckpt is not None:
        raise ConfigError(
            "distill_openpcdet: both a teacher and teacher_ckpt were given; expected one of them"
        )
    refuse_other_voxels(train_set, _model_of(teacher))


def _model_of(teacher: nn.Module | Teacher) -> nn.Module:
    return teacher.model if isinstance(teacher, Teacher) else teacher


def _plain_numbers(logs: Mapping[str, object]) -> dict[str, object]:
    """Logged values as OpenPCDet prints them: tensors of one element as numbers."""
    plain = {}
    for key, value in logs.items():
        is_number = isinstance(value, Tensor) and value.numel() == 1
        plain[key] = value.item() if is_number else value  # type: ignore[attr-defined]
    return plain


def _teacher_mode(block: ConfigDict) -> str:
    """DISTILL.TEACHER.MODE."""
    return str((block.get("TEACHER") or {}).get("MODE", "eval"))


def _teacher_config(cfg: ConfigDict, block: ConfigDict) -> ConfigDict:
    """The config of the teacher, read by OpenPCDet; or ``cfg`` with the teacher's MODEL."""
    if block.get("MODEL"):
        return {**cfg, "MODEL": block["MODEL"]}
    name = block.get("CFG_FILE")
    if not name:
        raise ConfigError(
            "DISTILL.TEACHER.CFG_FILE is missing: the yaml file the teacher was trained with"
        )
    from easydict import EasyDict
    from pcdet.config import cfg_from_yaml_file

    try:
        return cfg_from_yaml_file(str(name), EasyDict())
    except OSError as error:
        raise ConfigError(
            f"DISTILL.TEACHER.CFG_FILE: {error.filename}: {error.strerror}; paths in OpenPCDet's "
            f"yaml files count from the working directory, {Path.cwd()}"
        ) from error
