"""From a yaml file to its distiller: the DISTILL block of a config, its teacher and its terms."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from torch import nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import (
    CloudOptions,
    DistillOptions,
    TeacherOptions,
    errors_name_file,
    find_file,
    load_config,
    read_options,
)
from ..datasets.dataset import DatasetTemplate
from ..datasets.spec import DataSpec
from ..datasets.view import PointView, processing_of
from ..errors import ConfigError
from ..models import build_network
from ..types import ConfigDict
from .cache import CachedTeacher, cached_teacher, use_stored_predictions
from .classes import ClassMap
from .distill_head import DistillHead
from .distiller import Distiller
from .init import InitOptions, StudentInit
from .privilege import refuse_student_who_sees_more
from .tap_source import TapSource
from .teacher import VIEW, Teacher
from .teacher_memory import TeacherMemory

# The student's data: a dataset, or its description where no frames are at hand.
Data: TypeAlias = DatasetTemplate | DataSpec


def build_distiller(
    cfg: ConfigDict,
    student: nn.Module,
    dataset: Data,
    *,
    teacher_ckpt: str | Path | None = None,
    logger: logging.Logger | None = None,
) -> Distiller:
    """The distiller of a config with a DISTILL block.

    Args:
        cfg: the whole config, as ``load_config`` returns it.
        student: the detector of its MODEL block.
        dataset: the student's dataset or DataSpec.
        teacher_ckpt: takes the place of DISTILL.TEACHER.CKPT.
        logger: receives one line for each pair of features that is compared.
    """
    block = cfg["DISTILL"]
    check_block(block)
    student_init = _student_init(block)
    terms = block.get("TERMS") or {}
    if not terms and student_init is None:
        raise ConfigError(
            "DISTILL.TERMS: expected at least one term, as TERMS: {LOCAL_GRAPH: {NAME: ...}}"
        )
    options = _teacher_options(cfg)
    is_cached = bool(terms) and options.cache != "none"
    runs_in_training = bool(terms) and not is_cached
    teacher = build_teacher(cfg, dataset, teacher_ckpt, logger, runs_in_training=runs_in_training)
    if is_cached:
        teacher_cfg, _ = find_teacher(cfg, teacher_ckpt)
        teacher = cached_teacher(teacher, teacher_cfg, dataset, options)
    teacher_data: DataSpec = teacher.model.dataset  # type: ignore[assignment]
    head = DistillHead.from_config(
        terms,
        TapSource.of("student", student, dataset),
        TapSource.of("teacher", teacher.model, teacher_data),
    )
    if isinstance(teacher, CachedTeacher):
        _use_cache(cfg, head, teacher, dataset)
    if teacher.memory is not None:
        _refuse_terms_without_memory(head)
    labels_frames = any(transform.labels_frames for _, transform in head.named_transforms())
    if labels_frames and hasattr(dataset, "take_unlabelled"):
        dataset.take_unlabelled()
    if logger is not None:
        _log_terms(head, logger)
    return Distiller(student, teacher, head, student_init)


def check_block(block: ConfigDict) -> None:
    """Refuse unknown keys and values of DISTILL. The terms read their own options."""
    read_options(DistillOptions, block, "DISTILL")


def build_teacher(
    cfg: ConfigDict,
    dataset: Data,
    checkpoint: str | Path | None = None,
    logger: logging.Logger | None = None,
    *,
    runs_in_training: bool = True,
) -> Teacher:
    """The teacher of a config's DISTILL.TEACHER block, with its weights.

    Args:
        cfg: the student's whole config.
        dataset: the student's dataset or DataSpec. If the teacher has other voxels, range or point
            features, the dataset processes its points for the teacher too.
        checkpoint: takes the place of DISTILL.TEACHER.CKPT.
        logger: receives one line for each difference between teacher and student.
        runs_in_training: False for a teacher that only initialises the student: then no points are
            processed for it.
    """
    teacher_cfg, file = find_teacher(cfg, checkpoint)
    spec = DataSpec.from_config(teacher_cfg["DATA_CONFIG"], teacher_cfg["CLASS_NAMES"])
    classes = ClassMap(cfg["CLASS_NAMES"], spec.class_names)
    _refuse_separate_ranges(dataset, spec)
    needs_view = False
    with errors_name_file(teacher_cfg):
        model = build_network(teacher_cfg["MODEL"], len(spec.class_names), spec)
        if runs_in_training:
            needs_view = _add_view(cfg["DATA_CONFIG"], dataset, teacher_cfg["DATA_CONFIG"])
    load_model_state(
        model,
        load_checkpoint(file)["model_state"],
        strict=True,
        where=f"{file}, as the teacher of {teacher_cfg.get('CONFIG_FILE')}",
    )
    if logger is not None:
        _log_differences(logger, spec, classes, needs_view)
    options = _teacher_options(cfg)
    memory = None
    if options.cache == "none":
        memory = _build_memory(options.reuse, dataset, runs_in_training)
    return Teacher(model, options.mode, classes, needs_view, memory, precision=options.precision)


def find_teacher(cfg: ConfigDict, checkpoint: str | Path | None = None) -> tuple[ConfigDict, Path]:
    """The config that the teacher was trained with, and the file with its weights.

    Args:
        cfg: the student's whole config.
        checkpoint: takes the place of DISTILL.TEACHER.CKPT.
    """
    options = _teacher_options(cfg)
    file = _checkpoint_file(cfg, options, checkpoint)
    return _teacher_config(cfg, options, file), file


def _teacher_options(cfg: ConfigDict) -> TeacherOptions:
    """The DISTILL.TEACHER block of the student's config."""
    return read_options(TeacherOptions, cfg["DISTILL"].get("TEACHER") or {}, "DISTILL.TEACHER")


def _teacher_config(cfg: ConfigDict, options: TeacherOptions, checkpoint: Path) -> ConfigDict:
    """The yaml CFG_FILE, or the student's config with the MODEL block of the teacher in it."""
    if options.cfg_file:
        return load_config(_find(options.cfg_file, cfg, "DISTILL.TEACHER.CFG_FILE"))
    if options.model:
        return {**cfg, "MODEL": options.model}
    raise ConfigError(
        "DISTILL.TEACHER.CFG_FILE is missing: the yaml file the teacher "
        f"{checkpoint} was trained with"
    )


def _checkpoint_file(cfg: ConfigDict, options: TeacherOptions, given: str | Path | None) -> Path:
    """``given``, or CKPT: from the working directory, else as other files named in a config."""
    if given:
        return Path(given)
    if not options.ckpt:
        raise ConfigError(
            "DISTILL.TEACHER.CKPT: the teacher has no checkpoint; name one there or by "
            "--teacher_ckpt"
        )
    file = Path(options.ckpt)
    return file if file.is_file() else _find(options.ckpt, cfg, "DISTILL.TEACHER.CKPT")


def _find(name: str, cfg: ConfigDict, where: str) -> Path:
    """A file named in a config; ``where`` is the key that names it."""
    try:
        return find_file(name, near=Path(cfg.get("CONFIG_FILE") or Path.cwd()))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _refuse_separate_ranges(student: Data, teacher: DataSpec) -> None:
    """Features are matched by place, so the two ranges must overlap."""
    student_range = np.asarray(student.point_cloud_range)
    teacher_range = np.asarray(teacher.point_cloud_range)
    lower = np.maximum(student_range[:3], teacher_range[:3])
    upper = np.minimum(student_range[3:], teacher_range[3:])
    if not (lower < upper).all():
        raise ConfigError(
            f"DISTILL.TEACHER: the teacher's POINT_CLOUD_RANGE {_numbers(teacher_range)} does not "
            f"overlap the student's {_numbers(student_range)}, so nothing can be compared"
        )


def _add_view(student_cfg: ConfigDict, dataset: Data, teacher_cfg: ConfigDict) -> bool:
    """Let the dataset process its points for the teacher too if that makes a difference.

    Of pairs of values for training and testing the one of the student's split counts: voxels that
    only one of the two keeps could not be compared.

    Returns:
        Whether it makes a difference.
    """
    training = bool(getattr(dataset, "training", True))
    if processing_of(teacher_cfg, training) == processing_of(student_cfg, training):
        return False
    features = dataset.point_feature_encoder.src_feature_list
    view = PointView(teacher_cfg, features, training, CloudOptions.from_config(student_cfg))
    refuse_student_who_sees_more(dataset, view)
    if hasattr(dataset, "add_view"):
        dataset.add_view(VIEW, view)
    return True


def _use_cache(cfg: ConfigDict, head: DistillHead, teacher: CachedTeacher, dataset: Data) -> None:
    """Let the terms read the stored predictions; the teacher runs for terms of features alone."""
    use_stored_predictions(head, teacher.cache)
    of_features = [name for name, term in head.named_terms() if term.teacher.paths]
    if len(of_features) == len(head.terms) and not head.transforms:
        raise ConfigError(
            f"DISTILL.TEACHER.CACHE: {', '.join(of_features)} compare features, for which the "
            "teacher has to run; remove CACHE, or add a term that compares predictions"
        )
    if of_features:
        teacher_cfg = teacher.cache.teacher_cfg
        teacher.own_view = _add_view(cfg["DATA_CONFIG"], dataset, teacher_cfg["DATA_CONFIG"])


def _build_memory(epochs: int, dataset: Data, runs_in_training: bool) -> TeacherMemory | None:
    """The memory of a teacher whose batches come REUSE ``epochs`` in a row; None for one epoch."""
    where = "DISTILL.TEACHER.REUSE"
    if epochs == 1:
        return None
    if not runs_in_training:
        raise ConfigError(f"{where}: has no effect without DISTILL.TERMS; remove it")
    if not hasattr(dataset, "repeat_draws"):
        raise ConfigError(
            f"{where}: {type(dataset).__name__} cannot repeat its augmented frames; remove it"
        )
    try:
        dataset.repeat_draws(epochs)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return TeacherMemory(epochs)


def _refuse_terms_without_memory(head: DistillHead) -> None:
    """A memory holds the captured features. Other entries of a teacher's batch are not in it."""
    for name, term in head.named_terms():
        if term.teacher.needs_batch:
            raise ConfigError(
                f"DISTILL.TEACHER.REUSE: term {name} compares {term.teacher}, whose places are "
                "only known after a run of the teacher; it works with bev taps and with heads of "
                "anchors or centres"
            )


def _student_init(block: ConfigDict) -> StudentInit | None:
    """What initialises the student, from DISTILL.INIT_STUDENT."""
    options = InitOptions.from_config(block.get("INIT_STUDENT"))
    return None if options.mode == "NONE" else StudentInit(options)


def _log_terms(head: DistillHead, logger: logging.Logger) -> None:
    """One line for each loss."""
    for name, term in head.named_terms():
        logger.info(
            "distill %s: student %s learns from teacher %s, weight %s",
            name,
            term.student,
            term.teacher,
            term.schedule,
        )


def _log_differences(
    logger: logging.Logger, spec: DataSpec, classes: ClassMap, needs_view: bool
) -> None:
    """One line for each difference between teacher and student."""
    if needs_view:
        voxels = "no voxels"
        if spec.voxel_size is not None:
            voxels = f"voxels of {_numbers(spec.voxel_size)} m"
        logger.info(
            "teacher: the points are processed for it too (%s, range %s, features %s)",
            voxels,
            _numbers(spec.point_cloud_range),
            ", ".join(spec.point_feature_encoder.used_feature_list),
        )
    if classes.missing:
        logger.info(
            "teacher: it does not predict %s, so what compares classes leaves them out",
            ", ".join(classes.missing),
        )
    if classes.surplus:
        logger.info(
            "teacher: the student has no %s, so the teacher's are left out",
            ", ".join(classes.surplus),
        )


def _numbers(values: Iterable[float]) -> list[float]:
    """Without the noise of float32, for messages."""
    return [round(float(value), 5) for value in values]
