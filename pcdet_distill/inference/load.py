"""From a yaml and a checkpoint to a detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn

from ..checkpoint import load_checkpoint, load_model_state
from ..config import errors_name_file, load_config, required, resolve_data_path
from ..errors import ConfigError
from ..models import Detector3DTemplate, build_network
from ..models.dense_pass import compile_dense_part
from ..models.detectors.slots import DetectorData
from ..models.device import choose_device, prepare_for_device
from .detector import Detector
from .hub import CONFIG_FILE, WEIGHTS_FILE, find_folder
from .matching_yaml import naming_matching_yaml
from .processing import CloudProcessing, warn_of_input
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
    fill_missing: float | None = 0.0,
    batch_size: int = 1,
    compile: bool = False,
    tell: Callable[[str], None] = warn_of_input,
) -> Detector:
    """The detector of a checkpoint, ready to be called with points.

    Args:
        cfg: the yaml of a detector, a name inside cfgs/, or a loaded config. A folder with
            ``config.yaml`` and ``model.safetensors``, or ``hf://user/name``, brings its checkpoint.
        ckpt: the checkpoint: .pth of this library or of OpenPCDet, .safetensors, or such a folder.
        device: cpu, cuda or cuda:N; None takes a GPU if there is one.
        score_threshold: the lowest score of a box, for all classes or by class.
        nms_threshold: the overlap over which the worse of two boxes is dropped.
        max_boxes: the most boxes of a cloud.
        classes: the classes that are returned.
        columns: names of the columns of arrays and files that name none.
        divide_intensity: what intensities are divided by: 255 for a model that learnt 0..1.
        fill_missing: the value of columns that a cloud lacks; None refuses such a cloud.
        batch_size: clouds that go through the network together.
        compile: compile what follows the map from above (``models/dense_pass.py``): faster calls,
            of which the first of each batch size takes longer.
        tell: called with each warning about the points, once for its kind and for each folder or
            recording. All arrays together count as one.

    Raises:
        UserError: a yaml, checkpoint or setting that cannot be used; the text is one sentence.
    """
    config, weights = _files(cfg, ckpt)
    settings = BoxSettings(score_threshold, nms_threshold, max_boxes, classes)
    settings.check(config.CLASS_NAMES)
    dataset = make_processing(
        config,
        columns=columns,
        divide_intensity=divide_intensity,
        fill_missing=fill_missing,
        tell=tell,
    )
    chosen_device = choose_device(None if device is None else str(device), flag="device")
    model = load_model(config, dataset, weights, chosen_device)
    if compile:
        compile_dense_part(model, chosen_device, flag="compile=True")
    return Detector(config, model, dataset, chosen_device, settings=settings, batch_size=batch_size)


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
    state = load_checkpoint(ckpt)["model_state"]
    with naming_matching_yaml(state, cfg):
        load_model_state(model, state, strict=True, where=str(ckpt))
    return prepare_for_device(model, device).eval()


def make_processing(
    cfg: EasyDict,
    *,
    columns: Sequence[str] | None = None,
    divide_intensity: float = 1.0,
    fill_missing: float | None = 0.0,
    tell: Callable[[str], None] = warn_of_input,
    flag: str = "",
) -> CloudProcessing:
    """What makes batches of clouds for the network of ``cfg``; arguments as there."""
    if not divide_intensity > 0:
        raise ConfigError(f"{flag}divide_intensity {divide_intensity}: expected more than 0")
    data_path = None
    if "DATA_PATH" in cfg.DATA_CONFIG:
        root_dir = cfg.get("ROOT_DIR", Path.cwd())
        data_path = resolve_data_path(cfg.DATA_CONFIG.DATA_PATH, root_dir)
    with errors_name_file(cfg):
        return CloudProcessing(
            cfg.DATA_CONFIG,
            cfg.CLASS_NAMES,
            model_cfg=cfg.MODEL,
            columns=columns,
            divide_intensity=divide_intensity,
            fill_missing=fill_missing,
            data_path=data_path,
            tell=tell,
            flag=flag,
        )


def read_detector_config(cfg: str | Path | EasyDict) -> EasyDict:
    """The config of a detector; that of a data set alone is refused."""
    config = load_config(cfg) if isinstance(cfg, (str, Path)) else cfg
    if not isinstance(config, EasyDict):
        config = EasyDict(config)
    if "DATA_CONFIG" not in config or "MODEL" not in config:
        raise ConfigError(f"{cfg}: expected the yaml of a detector, with DATA_CONFIG and MODEL")
    return config


def _files(cfg: str | Path | EasyDict, ckpt: str | Path | None) -> tuple[EasyDict, Path]:
    """The config and the file of weights."""
    folder = find_folder(cfg)
    if folder is not None:
        cfg = folder / CONFIG_FILE
        ckpt = folder / WEIGHTS_FILE if ckpt is None else ckpt
    config = read_detector_config(cfg)
    if ckpt is None:
        place = config.get("CONFIG_FILE", "cfg")
        raise ConfigError(
            f"{place}: expected a checkpoint too, as in load_detector(cfg, 'student.pth')"
        )
    folder = find_folder(ckpt)
    return config, Path(ckpt) if folder is None else folder / WEIGHTS_FILE
