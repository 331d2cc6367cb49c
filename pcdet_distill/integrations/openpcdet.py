"""Distillation inside OpenPCDet's own tools/train.py (v0.6), around detectors that an installed ``pcdet`` builds.

Two lines, the second one right after the model is built::

    from pcdet_distill.integrations.openpcdet import distill_openpcdet
    model = distill_openpcdet(model, cfg, train_set, logger=logger)

Without a DISTILL block in the yaml file they change nothing. With one, the model that is trained is the distiller; in
eval, in checkpoints and in every attribute it is the student, so the rest of train.py, and test.py, stay as they are.

OpenPCDet writes ``model.state_dict()`` to its checkpoints: that is the student alone, under OpenPCDet's names. What
only a resumed distillation needs travels with it where PyTorch keeps versions of modules, ``model_state._metadata``.

This file keeps to what OpenPCDet documents: detectors with named slots, ``forward(batch_dict)``, ``load_params_*``,
datasets with ``collate_batch``. It is tested against a stand-in that has this interface and nothing else.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import required
from ..datasets.view import processing_of
from ..distill import (
    DISTILL_LOSSES,
    ClassMap,
    Distiller,
    PredictionLoss,
    Teacher,
    check_block,
    check_teacher,
    distill,
)
from ..distill.tap_source import own_layout
from ..errors import CheckpointError, ConfigError
from ..models import load_data_to_device
from ..models.dense_heads.direction_bins import DirectionBins
from ..models.dense_heads.prediction_layout import AnchorLayout, PredictionLayout

__all__ = ["OpenPCDetDistiller", "build_openpcdet_teacher", "distill_openpcdet"]

CARRIED = "distill_state"  # key in ``model_state._metadata``
FRAMES_TO_SEE = 4
READ_HEAD = "AnchorHeadSingle"  # of OpenPCDet's heads the one whose predictions can be read
LOG = logging.getLogger(__name__)


def distill_openpcdet(
    student: nn.Module,
    cfg: Mapping[str, Any],
    train_set: Any,
    teacher_ckpt: str | Path | None = None,
    *,
    teacher: nn.Module | Teacher | None = None,
    example_batch: Mapping[str, Any] | None = None,
    total_steps: int | None = None,
    logger: logging.Logger | None = None,
) -> nn.Module:
    """What OpenPCDet's train.py trains in place of ``student``: itself when ``cfg`` has no DISTILL block.

    Args:
        student: as ``pcdet.models.build_network`` gives it.
        cfg: OpenPCDet's whole config.
        train_set: OpenPCDet's training dataset.
        teacher_ckpt: takes the place of DISTILL.TEACHER.CKPT.
        teacher: a detector for the same batches, with its weights, instead of that of DISTILL.TEACHER; it may be one
            of ``pcdet_distill.models``. Of DISTILL.TEACHER then only MODE counts.
        example_batch: a batch to look at instead of a few frames of ``train_set``.
        total_steps: iterations of the whole training, for terms whose WEIGHT changes on the way.
        logger: train.py's.
    """
    if not cfg.get("DISTILL"):
        return student
    logger = logger or LOG
    block = cfg["DISTILL"]
    _check_block(block, total_steps)
    if teacher is None:
        teacher = build_openpcdet_teacher(cfg, train_set, teacher_ckpt)
    elif teacher_ckpt is not None:
        raise ConfigError(
            "distill_openpcdet: both a teacher and teacher_ckpt were given; expected one of them"
        )
    else:
        _refuse_other_voxels(train_set, teacher)
    _refuse_unread_heads(
        block["TERMS"], student, teacher.model if isinstance(teacher, Teacher) else teacher
    )
    _move_to_gpu(student, teacher)
    example = dict(_first_frames(train_set) if example_batch is None else example_batch)
    made = distill(
        student,
        teacher,
        block["TERMS"],
        student_data=train_set,
        example_batch=example,
        teacher_mode=_mode(block),
        head_layout=_head_layout,
    )
    for name, term in made.head.named_terms():
        logger.info(
            "distill %s: student %s learns from teacher %s", name, term.student, term.teacher
        )
    _look_at(made.teacher, example, train_set, logger)
    return OpenPCDetDistiller(made.student, made.teacher, made.head, total_steps=total_steps)


def build_openpcdet_teacher(
    cfg: Mapping[str, Any], train_set: Any, checkpoint: str | Path | None = None
) -> Teacher:
    """The teacher of DISTILL.TEACHER, built by ``pcdet``, with its weights.

    Args:
        cfg: the student's whole config.
        train_set: the student's dataset; teacher and student share its batches.
        checkpoint: takes the place of DISTILL.TEACHER.CKPT.
    """
    from pcdet.models import build_network  # type: ignore[import-not-found]

    block = cfg["DISTILL"].get("TEACHER") or {}
    file = checkpoint or block.get("CKPT")
    if not file:
        raise ConfigError(
            "DISTILL.TEACHER.CKPT: the teacher has no checkpoint; name one there or as teacher_ckpt"
        )
    state = load_checkpoint(file)["model_state"]
    teacher_cfg = _teacher_config(cfg, block)
    _refuse_other_processing(cfg, teacher_cfg)
    data = _SeenBy(train_set, teacher_cfg["CLASS_NAMES"])
    model = build_network(
        model_cfg=teacher_cfg["MODEL"], num_class=len(data.class_names), dataset=data
    )
    load_model_state(model, state, strict=True, where=f"{file}, as the teacher")
    return Teacher(model, _mode(cfg["DISTILL"]), ClassMap(cfg["CLASS_NAMES"], data.class_names))


class OpenPCDetDistiller(Distiller):
    """A Distiller that OpenPCDet's tools take for the student itself.

    Args:
        student, teacher, head: as of a Distiller.
        total_steps: iterations of the whole training; None leaves the progress of the terms at the beginning.
    """

    def __init__(
        self, student: nn.Module, teacher: Teacher, head: nn.Module, total_steps: int | None = None
    ) -> None:
        super().__init__(student, teacher, head)  # type: ignore[arg-type]
        self.total_steps = total_steps

    def __getattr__(self, name: str) -> Any:
        """What the distiller has not is the student's: ``dataset``, ``class_names``, ``global_step``, its slots."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("student"), name)

    def forward(self, batch_dict: dict[str, Any]) -> tuple:
        """The student's outputs; in training with the distillation loss in ``loss`` and plain numbers in the logs."""
        if not self.training:
            return self.student(batch_dict)
        if self.total_steps is not None:
            self.set_progress(min(1.0, float(self.student.global_step) / self.total_steps))  # type: ignore[arg-type]
        ret_dict, *logs = super().forward(batch_dict)
        return ret_dict, *({key: _number(value) for key, value in part.items()} for part in logs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The student's, as if it had been trained alone. A state of its own, not part of another's, also carries what
        ``load_params_with_optimizer`` needs to go on."""
        state = self.student.state_dict(*args, **kwargs)
        if args or kwargs.get("destination") is not None or kwargs.get("prefix"):
            return state
        return _carrying(
            state, {key: value.detach().cpu() for key, value in self.head.state_dict().items()}
        )

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A student's state, and the distiller's where the state carries one."""
        carried = _carried_by(state_dict)
        if carried is not None:
            load_model_state(self.head, carried, strict=True, where=CARRIED)
        return self.student.load_state_dict(state_dict, strict=strict)

    def load_params_with_optimizer(
        self, filename: str, to_cpu: bool = False, optimizer: Any = None, logger: Any = None
    ) -> Any:
        """OpenPCDet's way to resume: its (it, epoch). Loads the head too; a plain training's file is refused."""
        carried = _carried_by(load_checkpoint(filename)["model_state"])
        if carried is None:
            message = (
                f"{filename}: no {CARRIED} in it, so this distillation cannot be resumed from it; to start from "
                "a plain detector give it as --pretrained_model"
            )
            (logger or LOG).error(message)  # train.py tries the next file whatever the error was
            raise CheckpointError(message)
        load_model_state(self.head, carried, strict=True, where=f"{filename} ({CARRIED})")
        return self.student.load_params_with_optimizer(  # type: ignore[operator]
            filename, to_cpu=to_cpu, optimizer=optimizer, logger=logger
        )


def _carrying(
    state: Mapping[str, Tensor], carried: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """``state`` as an OrderedDict that takes ``carried`` along into a file, and into the copy ``type(state)()`` that
    OpenPCDet fills when it trains in several processes. In the file it is an ordinary OrderedDict."""
    metadata = OrderedDict(getattr(state, "_metadata", None) or {})
    metadata[CARRIED] = dict(carried)

    class StudentState(OrderedDict):
        _metadata = metadata

        def __reduce__(self) -> tuple[Any, ...]:
            return OrderedDict, (), {"_metadata": metadata}, None, iter(self.items())

    return StudentState(state)


def _carried_by(state: Any) -> Mapping[str, Tensor] | None:
    """What ``_carrying`` added; None when there is nothing."""
    return (getattr(state, "_metadata", None) or {}).get(CARRIED)


def _number(value: Any) -> Any:
    """A logged value as OpenPCDet prints it."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


class _SeenBy:
    """A dataset as a teacher with other classes is built from it."""

    def __init__(self, dataset: Any, class_names: Any) -> None:
        self._dataset = dataset
        self.class_names = list(class_names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


def _first_frames(train_set: Any) -> dict[str, Any]:
    """A few training frames as one batch."""
    count = min(FRAMES_TO_SEE, len(train_set))
    return train_set.collate_batch(
        [train_set[number * len(train_set) // count] for number in range(count)]
    )


def _look_at(
    teacher: Teacher, batch_dict: dict[str, Any], train_set: Any, logger: logging.Logger
) -> None:
    """Warn of a teacher that does not seem to be one for these data."""
    load_data_to_device(batch_dict, next(teacher.model.parameters()).device)
    check_teacher(teacher, [batch_dict], list(train_set.class_names)).log(logger)


def _move_to_gpu(student: nn.Module, teacher: nn.Module | Teacher) -> None:
    """Where train.py takes the model a few lines later; OpenPCDet's operators run nowhere else."""
    if torch.cuda.is_available():
        student.cuda()
        (teacher.model if isinstance(teacher, Teacher) else teacher).cuda()


def _check_block(block: Mapping[str, Any], total_steps: int | None) -> None:
    """Refuse what this block may not hold here."""
    check_block(block)
    terms = required(block, "TERMS", "DISTILL")
    if (block.get("INIT_STUDENT") or "NONE") != "NONE":
        raise ConfigError(
            "DISTILL.INIT_STUDENT: not available around OpenPCDet's detectors; train with this package's "
            "tools/train.py, or give a student that was started there as --pretrained_model"
        )
    changing = [
        name for name, term in terms.items() if isinstance((term or {}).get("WEIGHT"), Mapping)
    ]
    if changing and total_steps is None:
        raise ConfigError(
            f"DISTILL.TERMS.{changing[0]}.WEIGHT: it changes with the progress of the training; give "
            "distill_openpcdet total_steps, the iterations of the whole training"
        )


def _head_layout(head: nn.Module) -> PredictionLayout | None:
    """The layout of a head's predictions: of this package's heads their own, of OpenPCDet's READ_HEAD this one."""
    if type(head).__module__.split(".")[0] == "pcdet" and type(head).__name__ == READ_HEAD:
        return _anchor_layout(head)
    return own_layout(head)


def _anchor_layout(head: Any) -> AnchorLayout:
    """The layout of OpenPCDet's AnchorHeadSingle.

    Its ``anchors`` are one grid (1, ny, nx, sizes, rotations, 7 + C) for each class. The convolutions predict the
    anchors of a cell together, so the rows go by cell, then by class, size and rotation.
    """
    modules = ["conv_cls", "conv_box"]
    directions = None
    if head.conv_dir_cls is not None:
        modules.append("conv_dir_cls")
        directions = DirectionBins.from_config(head.model_cfg, "MODEL.DENSE_HEAD")
    grids = head.anchors
    classes = [torch.full((*grid.shape[:-1], 1), number) for number, grid in enumerate(grids)]
    generators = head.model_cfg["ANCHOR_GENERATOR_CONFIG"]
    return AnchorLayout(
        modules=tuple(modules),
        num_class=head.num_class,
        anchors=torch.cat(grids, dim=-3).reshape(-1, grids[0].shape[-1]),
        anchor_classes=torch.cat(classes, dim=-3).flatten(),
        class_names=tuple(generator["class_name"] for generator in generators),
        box_coder=head.box_coder,
        directions=directions,
    )


def _refuse_unread_heads(terms: Mapping[str, Any], student: nn.Module, teacher: nn.Module) -> None:
    """Terms on predictions look into the head; of OpenPCDet's own they know one from inside."""
    for name, term in terms.items():
        loss = DISTILL_LOSSES.get(str(term.get("NAME"))) if isinstance(term, Mapping) else None
        if loss is None or not issubclass(loss, PredictionLoss):
            continue
        for key, model in (("STUDENT", student), ("TEACHER", teacher)):
            head = type(getattr(model, str(term.get(key)), None))
            if head.__module__.split(".")[0] == "pcdet" and head.__name__ != READ_HEAD:
                raise ConfigError(
                    f"DISTILL.TERMS.{name}.{key}: predictions of OpenPCDet's {head.__name__} cannot be "
                    f"read, those of {READ_HEAD} can; compare features, or TeacherLabels"
                )


def _teacher_config(cfg: Mapping[str, Any], block: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config the teacher was trained with, as OpenPCDet reads it, or this one with the teacher's MODEL in it."""
    if block.get("MODEL"):
        return {**cfg, "MODEL": block["MODEL"]}
    name = block.get("CFG_FILE")
    if not name:
        raise ConfigError(
            "DISTILL.TEACHER.CFG_FILE is missing: the yaml file the teacher was trained with"
        )
    from easydict import EasyDict
    from pcdet.config import cfg_from_yaml_file  # type: ignore[import-not-found]

    try:
        return cfg_from_yaml_file(str(name), EasyDict())
    except OSError as error:
        raise ConfigError(
            f"DISTILL.TEACHER.CFG_FILE: {error.filename}: {error.strerror}; paths in OpenPCDet's yaml "
            f"files count from the working directory, {Path.cwd()}"
        ) from error


def _mode(block: Mapping[str, Any]) -> str:
    """DISTILL.TEACHER.MODE."""
    return str((block.get("TEACHER") or {}).get("MODE", "eval"))


def _refuse_other_voxels(train_set: Any, teacher: nn.Module | Teacher) -> None:
    """The same of a teacher that comes without a yaml file, as far as its data tell."""
    data = getattr(teacher.model if isinstance(teacher, Teacher) else teacher, "dataset", None)
    for name in ("voxel_size", "point_cloud_range"):
        own, theirs = (getattr(each, name, None) for each in (train_set, data))
        if own is not None and theirs is not None and not np.allclose(own, theirs, atol=1e-5):
            raise ConfigError(
                f"distill_openpcdet: the teacher's {name} is {list(theirs)}, the student's {list(own)}; "
                "around OpenPCDet's detectors both share one batch"
            )


def _refuse_other_processing(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> None:
    """Teacher and student share OpenPCDet's batches: the same voxels, range and point features."""
    own, theirs = (
        processing_of(_without_limits(cfg["DATA_CONFIG"]), True) for cfg in (student, teacher)
    )
    if own != theirs:
        raise ConfigError(
            "DISTILL.TEACHER: the teacher's POINT_CLOUD_RANGE, POINT_FEATURE_ENCODING or DATA_PROCESSOR "
            "is not the student's; around OpenPCDet's detectors both share one batch. This package's own "
            "tools/train.py processes the points for each of them"
        )


def _without_limits(data_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A DATA_CONFIG but for how many voxels there may be: in a shared batch the student's limit holds for both."""
    steps = [
        {key: value for key, value in step.items() if key != "MAX_NUMBER_OF_VOXELS"}
        for step in data_cfg["DATA_PROCESSOR"]
    ]
    return {**data_cfg, "DATA_PROCESSOR": steps}
