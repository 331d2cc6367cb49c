"""From a config to the model that is trained or tested.

This is the only file of the engine that mentions distillation: a DISTILL block in the config puts
a Distiller around the detector.
"""

from __future__ import annotations

import logging
from pathlib import Path

from easydict import EasyDict
from torch import nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import errors_name_file, required
from ..datasets import DatasetTemplate, DataSpec, build_dataloader
from ..errors import ConfigError
from ..models import Detector3DTemplate, build_network
from ..models.trainable import TrainableModule, as_trainable
from ..moved import forward_names

__all__ = ["build_dataloader", "build_model", "build_trained_model", "teacher_experiment"]

# Keys of DATA_CONFIG that belong to a model. The others belong to the data set.
MODEL_DATA_KEYS = ("POINT_CLOUD_RANGE", "POINT_FEATURE_ENCODING", "DATA_PROCESSOR")


def build_model(cfg: EasyDict, dataset: DatasetTemplate | DataSpec) -> TrainableModule:
    """The detector of ``cfg.MODEL``."""
    return as_trainable(_build_detector(cfg, dataset))


def _build_detector(cfg: EasyDict, dataset: DatasetTemplate | DataSpec) -> nn.Module:
    """The detector as its own library made it, not wrapped."""
    with errors_name_file(cfg):
        detector = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
        if isinstance(detector, Detector3DTemplate):
            # Otherwise a missing block is found by the first evaluation, after the training.
            required(cfg.MODEL, "POST_PROCESSING", "MODEL")
        return detector


def build_trained_model(
    cfg: EasyDict,
    dataset: DatasetTemplate,
    *,
    pretrained_model: str | None = None,
    teacher_ckpt: str | None = None,
    logger: logging.Logger,
) -> TrainableModule:
    """The detector, or the Distiller around it when ``cfg`` has a DISTILL block."""
    detector = _build_detector(cfg, dataset)
    if pretrained_model is not None:
        _load_matching_tensors(detector, pretrained_model, logger)
    if not cfg.get("DISTILL"):
        if teacher_ckpt is not None:
            raise _no_distill_block("--teacher_ckpt", cfg)
        return as_trainable(detector)
    from ..distill import build_distiller

    with errors_name_file(cfg):
        return build_distiller(cfg, detector, dataset, teacher_ckpt=teacher_ckpt, logger=logger)


def _load_matching_tensors(model: nn.Module, path: str, logger: logging.Logger) -> None:
    """--pretrained_model: load the tensors of ``path`` that fit, and log which did not."""
    where = f"--pretrained_model {path}"
    weights = load_checkpoint(path)["model_state"]
    report = load_model_state(model, weights, strict=False, where=where)
    logger.info(f"{where}: {report}")


def teacher_experiment(cfg: EasyDict, checkpoint: str | None) -> tuple[EasyDict, Path]:
    """The config that evaluates the teacher of ``cfg``, and the teacher's checkpoint.

    The teacher sees the frames of ``cfg`` through its own voxels, range and point features.
    """
    if not cfg.get("DISTILL"):
        raise _no_distill_block("--teacher", cfg)
    from ..distill import find_teacher

    with errors_name_file(cfg):
        teacher, file = find_teacher(cfg, checkpoint)
    data_config = dict(cfg.DATA_CONFIG)
    for key in MODEL_DATA_KEYS:
        data_config[key] = required(teacher["DATA_CONFIG"], key, "DATA_CONFIG")
    experiment = dict(cfg)
    for key in ("MODEL", "CLASS_NAMES", "CONFIG_FILE"):
        experiment[key] = teacher[key]
    experiment["DATA_CONFIG"] = data_config
    return EasyDict(experiment), file


def _no_distill_block(flag: str, cfg: EasyDict) -> ConfigError:
    return ConfigError(
        f"{flag}: {cfg.CONFIG_FILE} has no DISTILL block, so there is no teacher; "
        "expected a yaml such as those in cfgs/kitti_distill"
    )


# Old names, for one more version.
__getattr__ = forward_names(__name__, __name__, {"build_detector": "build_model"})
