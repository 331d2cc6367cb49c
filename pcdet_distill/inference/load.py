"""From a yaml and a checkpoint to a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import errors_name_file, load_config, required, resolve_data_path
from ..errors import ConfigError
from ..models import Detector3DTemplate, build_network
from ..models.detectors.slots import DetectorData
from ..models.device import choose_device, prepare_for_device
from .detector import Detector
from .processing import CloudProcessing
from .settings import BoxSettings


def load_detector(
    cfg: str | Path | EasyDict,
    ckpt: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    score_threshold: float | Mapping[str, float] | None = None,
    nms_threshold: float | None = None,
    max_boxes: int | None = None,
    classes: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    divide_intensity: float = 1.0,
    batch_size: int = 1,
) -> Detector:
    """The detector of a checkpoint, ready to be called with points.

    Args:
        cfg: the yaml of a detector, a name inside cfgs/, or a loaded config.
        ckpt: the checkpoint: .pth of this library or of OpenPCDet, or .safetensors.
        device: cpu, cuda or cuda:N; None takes a GPU if there is one.
        score_threshold: the lowest score of a box, for all classes or by class.
        nms_threshold: the overlap over which the worse of two boxes is dropped.
        max_boxes: the most boxes of a cloud.
        classes: the classes that are returned.
        columns: names of the columns of arrays and files that name none.
        divide_intensity: what intensities are divided by: 255 for a model that learnt 0..1.
        batch_size: clouds that go through the network together.

    Raises:
        UserError: a yaml, checkpoint or setting that cannot be used; the text is one sentence.
    """
    cfg = _config_of(cfg)
    if ckpt is None:
        raise ConfigError(f"{cfg.CONFIG_FILE}: expected a checkpoint as well, such as student.pth")
    settings = BoxSettings(score_threshold, nms_threshold, max_boxes, classes)
    settings.check(cfg.CLASS_NAMES)
    dataset = make_processing(cfg, columns, divide_intensity)
    chosen_device = choose_device(None if device is None else str(device))
    model = load_model(cfg, dataset, ckpt, chosen_device)
    return Detector(cfg, model, dataset, chosen_device, settings=settings, batch_size=batch_size)


def load_model(
    cfg: EasyDict, dataset: DetectorData, ckpt: str | Path, device: torch.device
) -> nn.Module:
    """The network of a config with the weights of a checkpoint, in eval mode.

    A DISTILL block plays no part: the checkpoint of a distilled student holds the student alone.
    The checkpoint must fit completely.
    """
    with errors_name_file(cfg):
        model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
        if isinstance(model, Detector3DTemplate):
            required(cfg.MODEL, "POST_PROCESSING", "MODEL")
    load_model_state(model, load_checkpoint(ckpt)["model_state"], strict=True, where=str(ckpt))
    return prepare_for_device(model, device).eval()


def make_processing(
    cfg: EasyDict, columns: Sequence[str] | None = None, divide_intensity: float = 1.0
) -> CloudProcessing:
    """What makes batches of clouds for the network of ``cfg``."""
    if not divide_intensity > 0:
        raise ConfigError(f"divide_intensity {divide_intensity}: expected more than 0")
    data_path = None
    if "DATA_PATH" in cfg.DATA_CONFIG:
        data_path = resolve_data_path(cfg.DATA_CONFIG.DATA_PATH, cfg.ROOT_DIR)
    with errors_name_file(cfg):
        return CloudProcessing(
            cfg.DATA_CONFIG,
            cfg.CLASS_NAMES,
            columns=columns,
            divide_intensity=divide_intensity,
            data_path=data_path,
        )


def _config_of(cfg: str | Path | EasyDict) -> EasyDict:
    if isinstance(cfg, (str, Path)):
        loaded = load_config(cfg)
    else:
        loaded = cfg
    if "DATA_CONFIG" not in loaded or "MODEL" not in loaded:
        raise ConfigError(f"{cfg}: expected the yaml of a detector, with DATA_CONFIG and MODEL")
    return loaded
