"""A small simulated data set, a teacher, and students with checkpoints like those of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import nn

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.cli import main
from pcdet_distill.config import load_config, to_plain
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.distill import Distiller
from pcdet_distill.engine.build import build_trained_model
from pcdet_distill.models import build_network
from pcdet_distill.types import ConfigDict

REPO = Path(__file__).parents[3]
RANGE = [0, -6.4, -3, 25.6, 6.4, 1]
CLASSES = ["Car", "Pedestrian", "Cyclist"]
MAP = "backbone_2d.blocks.1"
GRAPH = {
    "NAME": "GraphDistillLoss",
    "STUDENT": MAP,
    "TEACHER": MAP,
    "NUM_NODES": 48,
    "NUM_NEIGHBORS": 8,
    "EMBED_DIM": 8,
    "WEIGHT": 0.5,
}
PILLARS = {
    **GRAPH,
    "STUDENT": "vfe@pillar_features",
    "TEACHER": "vfe@pillar_features",
    "PRESET": "official",
}
POINTS = {
    **GRAPH,
    "STUDENT": "backbone_3d@point_features",
    "TEACHER": "backbone_3d@point_features",
}
LOGITS = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}


class Toys:
    """A folder with frames, yaml files and checkpoints.

    Args:
        folder: of everything.
        detector: ``pointpillar`` or ``pointrcnn``.
    """

    def __init__(self, folder: Path, detector: str = "pointpillar") -> None:
        self.folder = folder
        self.detector = detector
        self.data = folder / "data"
        create_synthetic_kitti(self.data, 6, seed=3, val_frames=3, workers=1, progress=False)
        create_kitti_infos(self.data, show_progress=False)
        self.teacher_yaml = self.write("teacher", {})
        self.teacher = self.folder / "teacher.pth"
        save_checkpoint({"model_state": untrained(self.teacher_yaml, 0).state_dict()}, self.teacher)

    def write(self, name: str, changes: ConfigDict, role: str = "teacher") -> Path:
        """Write a yaml of ours with these frames in a small range; returns its path."""
        config = load_config(REPO / f"cfgs/synthetic/{self.detector}_{role}.yaml")
        config.DATA_CONFIG.update({"POINT_CLOUD_RANGE": RANGE, "DATA_PATH": str(self.data)})
        for step in config.DATA_CONFIG.DATA_PROCESSOR:
            if step.NAME == "sample_points":
                step.NUM_POINTS = {"train": 2048, "test": 2048}
        for key in ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"):
            del config[key]
        config.update(changes)
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(to_plain(config)))
        return path

    def student(self, name: str, terms: Mapping[str, ConfigDict], **distill: object) -> Path:
        """Write the yaml of a student and ``NAME.pth``, the checkpoint of its training."""
        block = {"TEACHER": {"CFG_FILE": str(self.teacher_yaml)}, "TERMS": dict(terms), **distill}
        path = self.write(name, {"DISTILL": block}, role="student")
        save_checkpoint(self.distiller(path).checkpoint_state(), self.folder / f"{name}.pth")
        return path

    def distiller(self, path: Path) -> Distiller:
        """The untrained distiller of a yaml, on the frames of the test split."""
        config = load_config(path)
        torch.manual_seed(1)
        dataset = build_dataset(config.DATA_CONFIG, CLASSES, training=False)
        model = build_trained_model(
            config, dataset, teacher_ckpt=str(self.teacher), logger=dataset.logger
        )
        assert isinstance(model, Distiller)
        speak(model.student)
        return model

    def plain(self, name: str = "plain", seed: int = 2) -> Path:
        """The checkpoint of a student without distillation."""
        path = self.folder / f"{name}.pth"
        yaml_file = self.write(name, {}, role="student")
        save_checkpoint({"model_state": untrained(yaml_file, seed).state_dict()}, path)
        return path

    def report(self, path: Path, *words: object, ckpt: Path | None = None) -> str:
        """Run ``pcdet-distill report --distill``; returns the text of the page."""
        ckpt = ckpt or path.with_suffix(".pth")
        out = self.folder / f"out_{path.stem}"
        flags = ["--cfg_file", path, "--teacher_ckpt", self.teacher, "--ckpt", ckpt, "--out", out]
        flags += ["--device", "cpu"]
        main(["report", "--distill", *(str(word) for word in (*flags, *words))])
        return (out / "distillation.html").read_text()

    def distill_state(self, name: str) -> dict[str, torch.Tensor]:
        """The adapters in a student's checkpoint."""
        return load_checkpoint(self.folder / f"{name}.pth")["distill_state"]


def untrained(yaml_file: Path, seed: int) -> nn.Module:
    """The detector of a yaml with random weights; its scores are around one half."""
    config = load_config(yaml_file)
    torch.manual_seed(seed)
    spec = DataSpec.from_config(config.DATA_CONFIG, CLASSES)
    model = build_network(config.MODEL, len(CLASSES), spec)
    speak(model)
    return model


def speak(model: nn.Module) -> None:
    """Let an untrained detector predict boxes."""
    head = getattr(model, "dense_head", None)
    if head is not None:
        nn.init.constant_(head.conv_cls.bias, 0.0)
