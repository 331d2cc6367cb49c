"""A dataset, configs, and the steps of OpenPCDet's train.py and test.py.

``train_as_openpcdet`` and ``detect_as_openpcdet`` do what OpenPCDet's tools do, on the stand-in for
it (stand_in/).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from easydict import EasyDict
from torch import Tensor, nn

from pcdet_distill.integrations.openpcdet import distill_openpcdet
from pcdet_distill.types import BatchDict, ConfigDict

CLASSES = ["Car", "Pedestrian", "Cyclist"]
SIZES_M = {"Car": [3.9, 1.6, 1.5], "Pedestrian": [0.8, 0.6, 1.7], "Cyclist": [1.8, 0.6, 1.7]}
RANGE = [0.0, -4.0, -3.0, 8.0, 4.0, 1.0]
VOXEL_SIZE = [0.5, 0.5, 4.0]
FEATURES = ["x", "y", "z", "intensity"]
NUM_VOXELS = 60
NUM_OBJECTS = 9
LOG = logging.getLogger("test_openpcdet")

DATA = {
    "POINT_CLOUD_RANGE": RANGE,
    "POINT_FEATURE_ENCODING": {
        "encoding_type": "absolute_coordinates_encoding",
        "used_feature_list": FEATURES,
        "src_feature_list": FEATURES,
    },
    "DATA_PROCESSOR": [
        {
            "NAME": "transform_points_to_voxels",
            "VOXEL_SIZE": VOXEL_SIZE,
            "MAX_POINTS_PER_VOXEL": 5,
            "MAX_NUMBER_OF_VOXELS": {"train": 100, "test": 100},
        }
    ],
}
GRAPH = {"NAME": "GraphDistillLoss", "NUM_NODES": 20, "NUM_NEIGHBORS": 4, "EMBED_DIM": 8}


def graph_term(path: str) -> dict[str, Any]:
    """A local graph loss on a tap of both detectors."""
    return {**GRAPH, "STUDENT": path, "TEACHER": path}


PILLARS = graph_term("vfe@pillar_features")
MAPS = graph_term("backbone_2d@spatial_features_2d")


class TrainSet:
    """Eight frames of random voxels; the intensity of a voxel is the label of its object, or 0."""

    def __init__(self, voxel_size: list[float] | None = None) -> None:
        self.class_names = list(CLASSES)
        self.voxel_size = voxel_size or VOXEL_SIZE
        self.point_cloud_range = np.array(RANGE, np.float32)
        extent = self.point_cloud_range[3:] - self.point_cloud_range[:3]
        self.grid_size = np.round(extent / self.voxel_size).astype(int)
        self.point_feature_encoder = SimpleNamespace(
            num_point_features=4, used_feature_list=FEATURES
        )
        self.depth_downsample_factor = None

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        random = np.random.RandomState(index)
        nx, ny, nz = self.grid_size
        cells = random.permutation(nx * ny * nz)[:NUM_VOXELS]
        coords = np.stack([cells // (nx * ny), cells // nx % ny, cells % nx], axis=1)
        centres = (coords[:, ::-1] + 0.5) * self.voxel_size + self.point_cloud_range[:3]
        numbers = np.arange(NUM_VOXELS)
        labels = np.where(numbers < NUM_OBJECTS, numbers % 3 + 1, 0)
        points = np.concatenate([centres, labels[:, None]], axis=1).astype(np.float32)
        return {
            "voxels": points[:, None].repeat(5, axis=1),
            "voxel_coords": coords,
            "voxel_num_points": np.full(NUM_VOXELS, 5),
            "points": points,
            "gt_boxes": make_boxes(centres[:NUM_OBJECTS], labels[:NUM_OBJECTS]),
            "frame_id": f"{index:06d}",
        }

    def collate_batch(self, batch_list: list[dict[str, Any]]) -> BatchDict:
        batch: BatchDict = {
            "batch_size": len(batch_list),
            "frame_id": np.array([item["frame_id"] for item in batch_list]),
            "gt_boxes": np.stack([item["gt_boxes"] for item in batch_list]),
        }
        for key in ("voxels", "voxel_num_points"):
            batch[key] = np.concatenate([item[key] for item in batch_list])
        for key in ("voxel_coords", "points"):
            rows = []
            for number, item in enumerate(batch_list):
                frame = np.full((len(item[key]), 1), number)
                rows.append(np.concatenate([frame, item[key]], axis=1).astype(item[key].dtype))
            batch[key] = np.concatenate(rows)
        return batch


def make_boxes(centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, 8) boxes of the mean size of their class, with their label."""
    count = len(centres)
    sizes = np.array([SIZES_M[CLASSES[label - 1]] for label in labels])
    z = np.full((count, 1), -1.0)
    heading = np.zeros((count, 1))
    columns = [centres[:, :2], z, sizes, heading, labels[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def model_cfg(width: int, name: str = "PointPillar") -> dict[str, Any]:
    """The MODEL block of a stand-in detector."""
    anchors = []
    for class_name, size in SIZES_M.items():
        anchors.append({"class_name": class_name, "anchor_sizes": [size]})
    blocks: dict[str, Any] = {
        "NAME": name,
        "VFE": {"NAME": "PillarVFE", "NUM_FILTERS": [width]},
        "MAP_TO_BEV": {"NAME": "PointPillarScatter"},
    }
    bev_stride = 2
    if name == "SECONDNet":
        blocks["VFE"] = {"NAME": "MeanVFE"}
        blocks["BACKBONE_3D"] = {"NAME": "VoxelBackBone8x", "CHANNELS": width}
        blocks["MAP_TO_BEV"] = {"NAME": "HeightCompression"}
        bev_stride = 1
    blocks["BACKBONE_2D"] = {
        "NAME": "BaseBEVBackbone",
        "NUM_FILTERS": [2 * width],
        "LAYER_STRIDES": [bev_stride],
    }
    blocks["DENSE_HEAD"] = {
        "NAME": "AnchorHeadSingle",
        "STRIDE": 2,
        "CELL": 1.0,
        "ORIGIN": [0.0, -4.0],
        "ANCHOR_GENERATOR_CONFIG": anchors,
    }
    blocks["POST_PROCESSING"] = {"SCORE_THRESH": 0.5}
    return blocks


def make_config(
    folder: Path,
    terms: ConfigDict,
    *,
    teacher_width: int = 6,
    name: str = "PointPillar",
    data: ConfigDict = DATA,
    **teacher: object,
) -> EasyDict:
    """A student's config with a DISTILL block; its teacher's yaml file is written to ``folder``."""
    teacher_cfg = {
        "CLASS_NAMES": CLASSES,
        "DATA_CONFIG": data,
        "MODEL": model_cfg(teacher_width, name),
    }
    file = folder / "teacher.yaml"
    file.write_text(yaml.safe_dump(teacher_cfg))
    return EasyDict(
        CLASS_NAMES=CLASSES,
        DATA_CONFIG=DATA,
        MODEL=model_cfg(4, name),
        DISTILL={"TEACHER": {"CFG_FILE": str(file), **teacher}, "TERMS": terms},
    )


def build(cfg: EasyDict, train_set: TrainSet, seed: int = 0) -> nn.Module:
    """OpenPCDet's detector of a config, with random weights."""
    from pcdet.models import build_network

    torch.manual_seed(seed)
    num_class = len(train_set.class_names)
    return build_network(model_cfg=cfg.MODEL, num_class=num_class, dataset=train_set)


def save_old_format(checkpoint: dict[str, Any], file: Path) -> None:
    """Save a checkpoint as OpenPCDet does."""
    torch.save(checkpoint, file, _use_new_zipfile_serialization=False)


def write_teacher(folder: Path, cfg: EasyDict, train_set: TrainSet) -> Path:
    """A checkpoint of the teacher of ``cfg``, untrained."""
    from pcdet.config import cfg_from_yaml_file

    teacher_cfg = cfg_from_yaml_file(cfg.DISTILL.TEACHER.CFG_FILE, EasyDict())
    model = build(teacher_cfg, train_set, seed=1)
    file = folder / "teacher.pth"
    save_old_format({"model_state": model.state_dict()}, file)
    return file


def leaf_modules(model: nn.Module) -> list[nn.Module]:
    """Modules without children: adam_onecycle trains the parameters of these, and no others."""
    children = list(model.children())
    if not children:
        return [model]
    leaves = []
    for child in children:
        leaves += leaf_modules(child)
    return leaves


def train_as_openpcdet(
    model: Any,
    train_set: TrainSet,
    ckpt_dir: Path,
    epochs: int,
    several_processes: bool = False,
) -> list[dict[str, float]]:
    """The steps of OpenPCDet's train.py from ``build_optimizer`` on; returns its log by step."""
    from pcdet.models import model_fn_decorator

    parameters = nn.Sequential(*leaf_modules(model)).parameters()
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=0.01)
    ckpt_dir.mkdir(exist_ok=True)
    start_epoch = 0
    checkpoints = sorted(ckpt_dir.glob("*.pth"))
    if checkpoints:
        _, start_epoch = model.load_params_with_optimizer(
            str(checkpoints[-1]), to_cpu=True, optimizer=optimizer, logger=LOG
        )
    model.train()
    trained: Any = nn.parallel.DistributedDataParallel(model) if several_processes else model
    model_func = model_fn_decorator()
    logs = []
    for epoch in range(start_epoch, epochs):
        for first in range(0, len(train_set), 4):
            batch = train_set.collate_batch([train_set[first + number] for number in range(4)])
            optimizer.zero_grad()
            loss, tb_dict, disp_dict = model_func(trained, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10)
            optimizer.step()
            logs.append({"loss": loss.item(), **tb_dict, **disp_dict})
        if several_processes:
            state = model_state_to_cpu(trained.module.state_dict())
        else:
            state = model.state_dict()
        checkpoint = {
            "epoch": epoch + 1,
            "it": len(logs),
            "model_state": state,
            "optimizer_state": optimizer.state_dict(),
            "version": "pcdet+0.6.0",
        }
        save_old_format(checkpoint, ckpt_dir / f"checkpoint_epoch_{epoch + 1}.pth")
    return logs


def model_state_to_cpu(state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """OpenPCDet's copy of a state when it trains in several processes."""
    copied = type(state)()
    for key, value in state.items():
        copied[key] = value.cpu()
    return copied


def detect_as_openpcdet(cfg: EasyDict, train_set: TrainSet, file: Path) -> tuple[Tensor, list[str]]:
    """The steps of OpenPCDet's test.py: the student's detections, and the warnings of loading."""
    warnings: list[str] = []
    model: Any = build(cfg, train_set, seed=9)
    logger = SimpleNamespace(info=warnings.append)
    model.load_params_from_file(filename=str(file), logger=logger, to_cpu=True)
    return detected_boxes(model, train_set), warnings


def detected_boxes(model: nn.Module, train_set: TrainSet) -> Tensor:
    """The boxes that a model detects in two frames."""
    from pcdet.models.data import load_data_to_gpu

    batch = train_set.collate_batch([train_set[number] for number in range(2)])
    load_data_to_gpu(batch)
    was_training = model.training
    with torch.no_grad():
        pred_dicts, _ = model.eval()(batch)
    model.train(was_training)
    return torch.cat([frame["pred_boxes"] for frame in pred_dicts])


class Distilled(NamedTuple):
    """A distillation after the two lines in train.py."""

    cfg: EasyDict
    train_set: TrainSet
    student: Any
    model: Any


def make_distilled(folder: Path, terms: ConfigDict, *, total_steps: int | None = None) -> Distilled:
    """A student and the distiller around it; the teacher's files are written to ``folder``."""
    train_set = TrainSet()
    cfg = make_config(folder, terms)
    student = build(cfg, train_set)
    teacher_ckpt = write_teacher(folder, cfg, train_set)
    model = distill_openpcdet(
        student, cfg, train_set, teacher_ckpt, total_steps=total_steps, logger=LOG
    )
    return Distilled(cfg, train_set, student, model)
