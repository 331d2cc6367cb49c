"""From a config to what is trained or tested. The one place of the engine that knows of distillation."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict
from torch import nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import errors_name_file, required
from ..datasets import build_dataloader
from ..errors import ConfigError
from ..models import Detector3DTemplate, build_network, load_data_to_device
from .batches import TrainingBatches
from .distributed import World

__all__ = [
    "build_dataloader",
    "build_detector",
    "build_trained_model",
    "load_part",
    "check_teacher_before_training",
    "init_student_weights",
    "teacher_experiment",
]

CHECKED_FRAMES, CHECK_SECONDS = (
    8,
    2.0,
)  # before a distillation, for a look at its teacher: no more of either
OF_THE_MODEL = (
    "POINT_CLOUD_RANGE",
    "POINT_FEATURE_ENCODING",
    "DATA_PROCESSOR",
)  # the rest of DATA_CONFIG: the data


def build_detector(cfg: Any, dataset: Any) -> nn.Module:
    """The detector of ``cfg.MODEL``."""
    with errors_name_file(cfg):
        model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
        if isinstance(
            model, Detector3DTemplate
        ):  # else missed when the first frame is tested, after the training
            required(cfg.MODEL, "POST_PROCESSING", "MODEL")
        return model


def build_trained_model(
    cfg: Any,
    dataset: Any,
    *,
    pretrained_model: str | None = None,
    teacher_ckpt: str | None = None,
    logger: logging.Logger,
) -> nn.Module:
    """What the train loop trains: the detector, or the distiller around it when ``cfg`` has a DISTILL block."""
    detector = build_detector(cfg, dataset)
    if pretrained_model is not None:
        load_part(detector, pretrained_model, logger)
    if not cfg.get("DISTILL"):
        if teacher_ckpt is not None:
            raise ConfigError(
                f"--teacher_ckpt: {cfg.CONFIG_FILE} has no DISTILL block, so there is no teacher; "
                "expected a yaml such as those in cfgs/kitti_distill"
            )
        return detector
    from ..distill import build_distiller

    with errors_name_file(cfg):
        return build_distiller(cfg, detector, dataset, teacher_ckpt=teacher_ckpt, logger=logger)


def check_teacher_before_training(
    model: nn.Module,
    batches: TrainingBatches,
    device: torch.device,
    world: World,
    logger: logging.Logger,
) -> None:
    """Warn, on rank 0, of a teacher that does not seem to be one for these data, before the student learns from it."""
    teacher = getattr(model, "teacher", None)
    if teacher is None or not world.is_main:
        return
    from ..distill import check_teacher

    frames = _within(CHECK_SECONDS, batches.first_frames(CHECKED_FRAMES), device)
    check_teacher(teacher, frames, batches.loader.dataset.class_names).log(logger)  # type: ignore[attr-defined]


def _within(
    seconds: float, batches: list[dict[str, Any]], device: torch.device
) -> Iterator[dict[str, Any]]:
    """The batches on ``device``, until those before have taken ``seconds``."""
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        if number == 0 or time.perf_counter() - start < seconds:
            load_data_to_device(batch, device)
            yield batch


def teacher_experiment(cfg: Any, checkpoint: str | None) -> tuple[Any, Path]:
    """What evaluates the teacher of ``cfg``: its model with its own processing of the same data; and its checkpoint."""
    if not cfg.get("DISTILL"):
        raise ConfigError(
            f"--teacher: {cfg.CONFIG_FILE} has no DISTILL block, so there is no teacher; "
            "expected a yaml such as those in cfgs/kitti_distill"
        )
    from ..distill.teacher import find_teacher

    with errors_name_file(cfg):
        teacher, file = find_teacher(cfg, checkpoint)
    data = {
        **cfg.DATA_CONFIG,
        **{key: required(teacher["DATA_CONFIG"], key, "DATA_CONFIG") for key in OF_THE_MODEL},
    }
    own = {key: teacher[key] for key in ("MODEL", "CLASS_NAMES", "CONFIG_FILE")}
    return EasyDict({**cfg, **own, "DATA_CONFIG": data}), file


def init_student_weights(
    model: nn.Module, batches: TrainingBatches, world: World, logger: logging.Logger
) -> None:
    """DISTILL.INIT_STUDENT: rank 0 sets the student's weights; wrapping the model broadcasts them to the others."""
    student_init = getattr(model, "student_init", None)
    if student_init is not None and world.is_main:
        model.init_student(batches.first_frames(student_init.frames), logger)  # type: ignore[operator]


def load_part(model: nn.Module, path: str, logger: logging.Logger) -> None:
    """--pretrained_model: take the tensors of ``path`` that fit, say which did not."""
    where = f"--pretrained_model {path}"
    logger.info(
        f"{where}: {load_model_state(model, load_checkpoint(path)['model_state'], strict=False, where=where)}"
    )
