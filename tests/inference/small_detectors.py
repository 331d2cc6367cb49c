"""Small untrained detectors with checkpoints, and clouds to call them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import build_network

CONFIG = "synthetic/pointpillar_student.yaml"


def random_cloud(seed: int = 0, num_points: int = 800) -> np.ndarray:
    """(N, 4) points in front of the sensor, with intensities of 0..1."""
    random = np.random.RandomState(seed)
    points = random.uniform([0, -10, -2, 0], [40, 10, 1, 1], (num_points, 4))
    return points.astype(np.float32)


def write_checkpoint(path: Path, config: str = CONFIG) -> Path:
    """The checkpoint of an untrained detector whose scores are about one half."""
    cfg = load_config(config)
    torch.manual_seed(0)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    for name, parameter in model.named_parameters():
        predicts_classes = "conv_cls" in name or ".hm." in name
        if predicts_classes and name.endswith(".bias"):
            torch.nn.init.zeros_(parameter)
    save_checkpoint({"model_state": model.state_dict()}, path)
    return path
