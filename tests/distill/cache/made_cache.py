"""A dataset of a few frames in memory, and distillations of small detectors on it with a cache."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import torch
import yaml
from easydict import EasyDict
from small_center import center_config
from small_model import CLASS_NAMES, data_config, model_config, random_scene
from small_point_rcnn import point_rcnn_config

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import to_plain
from pcdet_distill.datasets import DatasetTemplate, DataSpec
from pcdet_distill.distill import build_distiller
from pcdet_distill.models import build_network, load_data_to_device

FRAMES = 5
LOGGER = logging.getLogger("test")
TERM = {
    "NAME": "LogitBoxLoss",
    "STUDENT": "dense_head",
    "TEACHER": "dense_head",
    "SCORE_THRESH": 0.1,
}
AUGMENTATIONS = [
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-0.3, 0.3]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
]


def with_anchors(config: EasyDict, names: list[str]) -> EasyDict:
    """The same detector with anchors of some classes only."""
    head = config.DENSE_HEAD
    head.ANCHOR_GENERATOR_CONFIG = [
        entry for entry in head.ANCHOR_GENERATOR_CONFIG if entry["class_name"] in names
    ]
    return config


MODELS = {
    "anchors": model_config,
    "wide": lambda: model_config(12),
    "points": point_rcnn_config,
    "two_classes": lambda: with_anchors(model_config(), ["Car", "Cyclist"]),
    "centres": lambda: center_config([["Car"], ["Pedestrian", "Cyclist"]]),
}


class SceneDataset(DatasetTemplate):
    """``random_scene`` of a few seeds; every call of ``load_frame`` is counted."""

    loaded = 0

    @property
    def num_frames(self) -> int:
        return FRAMES

    def frame_name(self, index: int) -> str:
        return f"scene{index}"

    def load_frame(self, index: int) -> dict:
        self.loaded += 1
        points, boxes = random_scene(index)
        names = np.array(self.all_names)[boxes[:, 7].astype(int) - 1]
        return {
            "frame_id": self.frame_name(index),
            "points": points,
            "gt_boxes": boxes[:, :7].copy(),
            "gt_names": names,
        }

    all_names = CLASS_NAMES


def dataset(augmentations: list[dict] = (), class_names: list[str] = CLASS_NAMES) -> SceneDataset:
    block = data_config()
    block.DATA_AUGMENTOR = {"AUG_CONFIG_LIST": [EasyDict(entry) for entry in augmentations]}
    block.DATASET = "MadeUpFrames"
    return SceneDataset(block, class_names, training=True, root_path=Path("."), logger=LOGGER)


def teacher_file(
    folder: Path, kind: str = "wide", class_names: list[str] = CLASS_NAMES, seed: int = 1
) -> tuple[EasyDict, Path]:
    """The config and the checkpoint of an untrained teacher that is sure of something."""
    block = data_config()
    if kind == "points":
        sampled = {"NAME": "sample_points", "NUM_POINTS": {"train": 256, "test": 256}}
        block.DATA_PROCESSOR = [EasyDict(sampled)]
    block.DATASET = "MadeUpFrames"
    config = EasyDict(MODEL=MODELS[kind](), DATA_CONFIG=block, CLASS_NAMES=class_names)
    torch.manual_seed(seed)
    spec = DataSpec.from_config(block, class_names)
    model = build_network(config.MODEL, len(class_names), spec)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and parameter.numel() and parameter.flatten()[0] < -1:
                parameter += 3.0
    file = folder / f"{kind}_{seed}.pth"
    save_checkpoint({"model_state": model.state_dict()}, file)
    return config, file


def cached_distiller(
    folder: Path,
    *,
    student: str = "anchors",
    teacher: str = "wide",
    terms: dict | None = None,
    data: SceneDataset | None = None,
    teacher_seed: int = 1,
    **options,
):
    """A distiller with CACHE: predictions in ``folder`` / cache; its data are not prepared yet."""
    data = data or dataset(AUGMENTATIONS)
    teacher_config, file = teacher_file(folder, teacher, seed=teacher_seed)
    yaml_file = folder / f"{teacher}.yaml"
    yaml_file.write_text(yaml.safe_dump(to_plain(teacher_config)))
    block = {"CFG_FILE": str(yaml_file), "CACHE": "predictions"}
    block["CACHE_DIR"] = str(folder / "cache")
    block.update(options)
    cfg = EasyDict(
        CLASS_NAMES=data.class_names,
        DATA_CONFIG=copy.deepcopy(data.dataset_cfg),
        MODEL=MODELS[student](),
        DISTILL={"TEACHER": block, "TERMS": terms or {"LOGIT_BOX": TERM}},
        CONFIG_FILE="made.yaml",
    )
    torch.manual_seed(0)
    network = build_network(cfg.MODEL, len(data.class_names), data)
    return build_distiller(cfg, network, data, teacher_ckpt=file, logger=LOGGER).train()


def batch_of(data: SceneDataset, numbers: list[int]) -> dict:
    batch = data.collate_batch([data[number] for number in numbers])
    load_data_to_device(batch, "cpu")
    return batch
